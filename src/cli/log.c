/* SPDX-License-Identifier: Apache-2.0 */
/* Who changed what when. */
#include "cli/cli.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { HASH_SHOWN = 12 };

static int print_line(void *ctx, const char *line)
{
	(void)ctx;
	puts(line);
	return fflush(stdout) != 0;
}

static void print_what(const struct berth_log_row *r)
{
	if (r->from) {
		cli_put(stdout, r->from);
		fputs(" -> ", stdout);
	}
	if (r->path)
		cli_put(stdout, *r->path ? r->path : ".");
	if (r->type && str_eq(r->type, "dir"))
		putchar('/');
	else if (r->type && str_eq(r->type, "file") && !str_eq(r->kind, "remove"))
		printf("  %llu B", (unsigned long long)r->size);
	if (r->hash)
		printf("  %.*s", HASH_SHOWN, r->hash);
}

static int print_row(void *ctx, const struct berth_log_row *r)
{
	time_t when = (time_t)(r->time_ns / 1000000000);
	char date[32] = "";
	struct tm tm;

	(void)ctx;
	localtime_r(&when, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%6llu  %s.%03d  %-7s  ", (unsigned long long)r->seq, date, (int)(r->time_ns / 1000000 % 1000), r->kind);
	if (str_eq(r->kind, "lost"))
		fputs("more changes than are kept", stdout);
	else if (r->path)
		print_what(r);
	if (r->end)
		printf("%s  ", r->end);
	if (r->by)
		printf("  [%s", r->command ? "" : r->by);
	if (r->command)
		cli_put(stdout, r->command);
	puts(r->by ? "]" : "");
	return fflush(stdout) != 0;
}

int cli_log(struct berth *b, int argc, char **argv)
{
	const char *since = NULL;
	bool follow = false, json = false;
	const struct cli_option options[] = { { "--since", &since, NULL },
					      { "--follow", NULL, &follow },
					      { "--json", NULL, &json } };
	struct berth_log what = { .path = NULL };
	struct berth_error e;
	char **rest;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1 || n > 2)
		return n < 0 ? CLI_USAGE : cli_usage("log", "a sandbox is wanted, and perhaps a path in it");
	if (since && num_u64(since, INT64_MAX, &what.since) < 0)
		return cli_usage("log", "--since takes the number of a row, its \"seq\"");
	what.path = n == 2 ? rest[1] : NULL;
	what.follow = follow;
	r = json ? berth_log_json(b, rest[0], &what, print_line, NULL, &e)
		 : berth_log(b, rest[0], &what, print_row, NULL, &e);
	return r < 0 ? cli_fail("log", &e) : CLI_OK;
}
