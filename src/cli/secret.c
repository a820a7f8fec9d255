/* SPDX-License-Identifier: Apache-2.0 */
/* berth secret: what the daemon keeps sealed, and what was done with it. */
#include "cli/cli.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SEALED_MAX = 64 * 1024 };

static void date_of(int64_t ns, char ret[32])
{
	time_t at = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!ns || !localtime_r(&at, &tm) || !strftime(ret, 32, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(ret, 32, "-");
}

static void print_limit(const char *what, uint64_t n)
{
	if (n)
		printf(" %s=%llu", what, (unsigned long long)n);
}

static int print_secret(void *ctx, const struct berth_secret_info *s)
{
	char expires[32];

	(void)ctx;
	date_of(s->expires_ns, expires);
	printf("%-24s %-8s %3llu  %-19s  %s%s%s%s", s->name, s->delivery, (unsigned long long)s->number, expires,
	       *s->templates ? "template=" : "", s->templates, *s->sandboxes ? " sandbox=" : "", s->sandboxes);
	printf("%s%s%s%s", *s->hosts ? " host=" : "", s->hosts, *s->services ? " service=" : "", s->services);
	printf("%s%s%s%s", *s->methods ? " method=" : "", s->methods, *s->paths ? " path=" : "", s->paths);
	print_limit("per-minute", s->per_minute);
	print_limit("body-max", s->body_max);
	print_limit("answer-max", s->answer_max);
	if (*s->header)
		printf(" header=\"%s: %s\"", s->header, s->prefix);
	putchar('\n');
	return 0;
}

static int list(struct berth *b, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json } };
	struct berth_error e;
	char **rest, *text = NULL;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("secret", "unexpected: %s", rest[0]);
	if (json) {
		r = berth_secret_list_json(b, &text, &e);
		if (r == 0)
			fputs(text, stdout);
		free(text);
	} else {
		puts("NAME                     DELIVERY   N  EXPIRES              FOR");
		r = berth_secret_list(b, print_secret, NULL, &e);
	}
	return r < 0 ? cli_fail("secret", &e) : CLI_OK;
}

static int print_row(void *ctx, const struct berth_secret_row *row)
{
	char date[32];

	(void)ctx;
	date_of(row->time_ns, date);
	printf("%6llu  %s  %-9s  %-20s  key=%s", (unsigned long long)row->seq, date, row->what, row->secret, row->key);
	if (*row->sandbox)
		printf("  sandbox=%s", row->sandbox);
	if (*row->process)
		printf("  process=%s", row->process);
	if (*row->command) {
		printf("  command=");
		cli_put(stdout, row->command);
	}
	if (*row->where) {
		printf("  in ");
		cli_put(stdout, row->where);
		printf(", %s", row->form);
	}
	if (*row->service)
		printf("  %s: %s https://%s%s", row->service, row->method, row->host, row->path);
	if (row->count)
		printf("  %llu times, status %llu", (unsigned long long)row->count, (unsigned long long)row->status);
	if (*row->delivery)
		printf("  by=%s", row->delivery);
	printf("%s%s\n", *row->why ? "  why=" : "", row->why);
	return 0;
}

static void put_json(const char *key, const char *text)
{
	const unsigned char *p;

	if (!*text)
		return;
	printf(",\"%s\":\"", key);
	for (p = (const unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == '"' || *p == '\\')
			printf("\\u%04x", *p);
		else
			putchar(*p);
	putchar('"');
}

static int print_row_json(void *ctx, const struct berth_secret_row *row)
{
	(void)ctx;
	printf("{\"seq\":%llu,\"time_ns\":%lld,\"link\":\"%s\",\"what\":\"%s\",\"secret\":\"%s\",\"key\":\"%s\"",
	       (unsigned long long)row->seq, (long long)row->time_ns, row->link, row->what, row->secret, row->key);
	put_json("sandbox", row->sandbox);
	put_json("process", row->process);
	put_json("command", row->command);
	put_json("where", row->where);
	put_json("form", row->form);
	put_json("delivery", row->delivery);
	put_json("why", row->why);
	put_json("service", row->service);
	put_json("method", row->method);
	put_json("host", row->host);
	put_json("path", row->path);
	if (row->count)
		printf(",\"count\":%llu,\"status\":%llu,\"sent\":%llu,\"received\":%llu",
		       (unsigned long long)row->count, (unsigned long long)row->status, (unsigned long long)row->sent_b,
		       (unsigned long long)row->received_b);
	puts("}");
	return 0;
}

static int audit(struct berth *b, int argc, char **argv)
{
	const char *since = NULL;
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json }, { "--since", &since, NULL } };
	struct berth_error e;
	uint64_t from = 0;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("secret", "unexpected: %s", rest[0]);
	if (since && num_u64(since, INT64_MAX, &from) < 0)
		return cli_usage("secret", "--since takes the number of a row");
	return berth_secret_audit(b, from, json ? print_row_json : print_row, NULL, &e) < 0 ? cli_fail("secret", &e)
											    : CLI_OK;
}

static int read_sealed(const char *path, struct buf *b)
{
	AUTO(fd_close) int fd = -1;
	int at = 0;

	if (path && !str_eq(path, "-")) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		at = fd;
	}
	while (at >= 0) {
		char *p = buf_reserve(b, 4096);
		ssize_t n = p ? read(at, p, 4096) : -1;

		if (n == 0)
			return 0;
		if (n < 0 && p && errno == EINTR)
			continue;
		if (n < 0) {
			if (!p)
				errno = EFBIG;
			break;
		}
		buf_commit(b, (size_t)n);
	}
	fprintf(stderr, "berth secret: %s: %s\n", path ? path : "standard input", strerror(errno));
	return -1;
}

/* add [FILE|-] | rotate NAME [FILE|-] [--deliver HOW] */
static int send_sealed(struct berth *b, const char *name, const char *path, const char *deliver)
{
	AUTO(buf_fini) struct buf sealed;
	struct berth_error e;
	int r;

	buf_init(&sealed, SEALED_MAX + 4096);
	if (read_sealed(path, &sealed) < 0)
		return CLI_FAILED;
	r = name ? berth_secret_rotate_to(b, name, buf_span(&sealed).p, buf_len(&sealed), deliver, &e)
		 : berth_secret_add(b, buf_span(&sealed).p, buf_len(&sealed), &e);
	return r < 0 ? cli_fail("secret", &e) : CLI_OK;
}

static int rotate(struct berth *b, int argc, char **argv)
{
	const char *deliver = NULL;
	const struct cli_option options[] = { { "--deliver", &deliver, NULL } };
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1 || n > 2)
		return n < 0 ? CLI_USAGE : cli_usage("secret", "rotate which one?");
	return send_sealed(b, rest[0], n > 1 ? rest[1] : NULL, deliver);
}

static int key(struct berth *b)
{
	struct berth_error e;
	char *text = NULL;

	if (berth_secret_key(b, &text, &e) < 0)
		return cli_fail("secret", &e);
	fputs(text, stdout);
	free(text);
	return CLI_OK;
}

int cli_secret(struct berth *b, int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct berth_error e;
	int i, status = CLI_OK;

	if (str_eq(what, "key") && argc == 2)
		return key(b);
	if (str_eq(what, "ls") || str_eq(what, "audit")) {
		argv[1] = argv[0];
		return (str_eq(what, "ls") ? list : audit)(b, argc - 1, argv + 1);
	}
	if (str_eq(what, "add") && argc <= 3)
		return send_sealed(b, NULL, argc > 2 ? argv[2] : NULL, NULL);
	if (str_eq(what, "rotate"))
		return rotate(b, argc - 1, argv + 1);
	if (!str_eq(what, "rm") || argc < 3)
		return cli_usage("secret", "key, add, ls, rotate, rm or audit?");
	for (i = 2; i < argc; i++)
		if (berth_secret_remove(b, argv[i], &e) < 0)
			status = cli_fail("secret", &e);
	return status;
}
