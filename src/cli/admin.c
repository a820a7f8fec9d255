/* SPDX-License-Identifier: Apache-2.0 */
/* API keys, events, watching. */
#include "cli/cli.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int key_create(struct berth *b, int argc, char **argv)
{
	const char *scopes = "read,files,run", *sandboxes = NULL, *rate = NULL, *timeout = NULL, *words[9] = { NULL };
	const struct cli_option options[] = { { "--scopes", &scopes, NULL },
					      { "--sandboxes", &sandboxes, NULL },
					      { "--rate", &rate, NULL },
					      { "--timeout", &timeout, NULL } };
	struct berth_key what = { .scopes = words };
	AUTO(str_free) char *list = NULL;
	AUTO(str_free) char *key = NULL;
	char **rest, *word, *save = NULL;
	struct berth_error e;
	size_t i = 0;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 1)
		return n < 0 ? CLI_USAGE : cli_usage("key", "what is it to be called?");
	what.name = rest[0];
	list = must_strdup(scopes);
	for (word = strtok_r(list, ",", &save); word && i < ARRAY_LEN(words) - 1; word = strtok_r(NULL, ",", &save))
		words[i++] = word;
	if (!cli_size("key", sandboxes, &what.sandboxes) || !cli_size("key", rate, &what.per_second) ||
	    !cli_time("key", timeout, &what.timeout_ms))
		return CLI_USAGE;
	if (berth_key_create(b, &what, &key, &e) < 0)
		return cli_fail("key", &e);
	puts(key);
	return CLI_OK;
}

static int print_key(void *ctx, const struct berth_key_info *k)
{
	char until[32] = "-";
	time_t when = (time_t)(k->expires_ns / 1000000000);
	struct tm tm;

	(void)ctx;
	localtime_r(&when, &tm);
	if (k->expires_ns)
		strftime(until, sizeof(until), "%Y-%m-%d %H:%M", &tm);
	printf("%-9s %-24s %-21s %9llu %6llu  %s\n", k->id, k->name, k->scopes, (unsigned long long)k->sandboxes,
	       (unsigned long long)k->per_second, until);
	return 0;
}

static int key_list(struct berth *b, int argc, char **argv)
{
	AUTO(str_free) char *text = NULL;
	bool json = argc == 2 && str_eq(argv[1], "--json");
	struct berth_error e;

	if (argc != 1 && !json)
		return cli_usage("key", "unexpected: %s", argv[1]);
	if (!json)
		printf("%-9s %-24s %-21s %9s %6s  %s\n", "ID", "NAME", "SCOPES", "SANDBOXES", "RATE", "ENDS");
	if ((json ? berth_key_list_json(b, &text, &e) : berth_key_list(b, print_key, NULL, &e)) < 0)
		return cli_fail("key", &e);
	if (text)
		fputs(text, stdout);
	return CLI_OK;
}

int cli_key(struct berth *b, int argc, char **argv)
{
	struct berth_error e;
	int i, status = CLI_OK;

	if (argc > 1 && str_eq(argv[1], "ls"))
		return key_list(b, argc - 1, argv + 1);
	if (argc > 1 && str_eq(argv[1], "create")) {
		argv[1] = argv[0];
		return key_create(b, argc - 1, argv + 1);
	}
	if (argc < 3 || !str_eq(argv[1], "revoke"))
		return cli_usage("key", "create, ls or revoke?");
	for (i = 2; i < argc; i++)
		if (berth_key_revoke(b, argv[i], &e) < 0)
			status = cli_fail("key", &e);
	return status;
}

static int print_json(void *ctx, const char *line)
{
	(void)ctx;
	puts(line);
	return fflush(stdout) != 0;
}

static int print_event(void *ctx, const struct berth_what *what)
{
	time_t when = (time_t)(what->time_ns / 1000000000);
	char date[32] = "";
	struct tm tm;

	(void)ctx;
	localtime_r(&when, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s  %-18s %-17s %s%s", date, what->kind, what->id, what->name, *what->why ? "  " : "");
	cli_put(stdout, what->why);
	putchar('\n');
	return fflush(stdout) != 0;
}

int cli_events(struct berth *b, int argc, char **argv)
{
	const char *since = NULL;
	bool follow = false, json = false;
	const struct cli_option options[] = { { "--since", &since, NULL }, { "--follow", NULL, &follow },
					      { "--json", NULL, &json } };
	struct berth_error e;
	uint64_t from = 0;
	char **rest;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("events", "unexpected: %s", rest[0]);
	if (since && num_u64(since, INT64_MAX, &from) < 0)
		return cli_usage("events", "--since takes the number of an event, its \"seq\"");
	r = json ? berth_events_json(b, from, follow, print_json, NULL, &e)
		 : berth_events(b, from, follow, print_event, NULL, &e);
	return r < 0 ? cli_fail("events", &e) : CLI_OK;
}

static int print_change(void *ctx, const struct berth_change *c)
{
	(void)ctx;
	printf("%-6s  ", c->kind);
	if (c->from) {
		cli_put(stdout, c->from);
		fputs(" -> ", stdout);
	}
	cli_put(stdout, c->path);
	puts(str_eq(c->type, "dir") ? "/" : str_eq(c->kind, "lost") ? "more changes than are kept" : "");
	return fflush(stdout) != 0;
}

int cli_watch(struct berth *b, int argc, char **argv)
{
	const char *since = NULL;
	bool flat = false, kept = false, json = false;
	const struct cli_option options[] = { { "--since", &since, NULL },
					      { "--flat", NULL, &flat },
					      { "--kept", NULL, &kept },
					      { "--json", NULL, &json } };
	AUTO(str_free) char *id = NULL;
	struct berth_watch what = { .path = "" };
	struct berth_error e;
	char **rest;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 1)
		return n < 0 ? CLI_USAGE : cli_usage("watch", "one ID[:PATH] is wanted");
	if (since && num_u64(since, INT64_MAX, &what.since) < 0)
		return cli_usage("watch", "--since takes the number of a change, its \"seq\"");
	id = cli_split(rest[0], &what.path);
	if (!id)
		id = must_strdup(rest[0]);
	what.flat = flat;
	what.follow = !kept;
	r = json ? berth_watch_json(b, id, &what, print_json, NULL, &e)
		 : berth_watch(b, id, &what, print_change, NULL, &e);
	return r < 0 ? cli_fail("watch", &e) : CLI_OK;
}
