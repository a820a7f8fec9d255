/* SPDX-License-Identifier: Apache-2.0 */
/* berth usage: what sandboxes used, as a table, as CSV or as the daemon says it. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/own.h"
#include "base/str.h"

#include <time.h>

enum form { TABLE, CSV };

struct print {
	enum form form;
	const char *by;
};

static void hour_of(uint64_t s, char to[24])
{
	time_t t = (time_t)s;
	struct tm tm;

	*to = '\0';
	if (s)
		strftime(to, 24, "%Y-%m-%dT%H:00Z", gmtime_r(&t, &tm));
}

static int print_row(void *ctx, const struct berth_usage_sum *u)
{
	const struct print *p = ctx;
	char hour[24];

	hour_of(u->hour, hour);
	if (p->form == CSV) {
		printf("%s,%s,%s,%llu.%03llu,%llu.%03llu,%llu.%03llu,%llu,%llu,%llu\n", hour, u->sandbox, u->key,
		       (unsigned long long)u->run_ms / 1000, (unsigned long long)u->run_ms % 1000,
		       (unsigned long long)u->paused_ms / 1000, (unsigned long long)u->paused_ms % 1000,
		       (unsigned long long)u->cpu_ms / 1000, (unsigned long long)u->cpu_ms % 1000,
		       (unsigned long long)u->memory_mib_s, (unsigned long long)u->stored_b,
		       (unsigned long long)u->moved_b);
		return 0;
	}
	printf("%-17s %-17s %-8s %10.1f %10.1f %10.1f %12.1f %10.1f %10.1f\n", *hour ? hour : "-",
	       *u->sandbox ? u->sandbox : "-", u->key, (double)u->run_ms / 1000, (double)u->paused_ms / 1000,
	       (double)u->cpu_ms / 1000, (double)u->memory_mib_s / 1024, (double)u->stored_b / 1048576,
	       (double)u->moved_b / 1048576);
	return 0;
}

int cli_usage_of(struct berth *b, int argc, char **argv)
{
	const char *since = NULL, *by = "sandbox";
	bool json = false, csv = false;
	const struct cli_option options[] = {
		{ "--since", &since, NULL }, { "--by", &by, NULL }, { "--json", NULL, &json }, { "--csv", NULL, &csv }
	};
	struct print p = { .form = TABLE };
	uint64_t ms = 0, from = 0, now = (uint64_t)(clock_wall() / (int64_t)CLOCK_S);
	struct berth_error e;
	char **rest, *text = NULL;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest), r;

	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("usage", "unexpected: %s", rest[0]);
	if (!str_eq(by, "sandbox") && !str_eq(by, "key") && !str_eq(by, "hour"))
		return cli_usage("usage", "--by takes sandbox, key or hour");
	if (since && !cli_time("usage", since, &ms))
		return CLI_USAGE;
	if (since)
		from = now - MIN(now, ms / 1000);
	if (json) {
		r = berth_usage_json(b, from, by, &text, &e);
		if (r == 0)
			fputs(text, stdout);
		free(text);
		return r < 0 ? cli_fail("usage", &e) : CLI_OK;
	}
	p.form = csv ? CSV : TABLE;
	if (csv)
		puts("hour,sandbox,key,run_s,paused_s,cpu_s,memory_mib_s,stored_b,moved_b");
	else
		printf("%-17s %-17s %-8s %10s %10s %10s %12s %10s %10s\n", "HOUR", "SANDBOX", "KEY", "RUN s",
		       "PAUSED s", "CPU s", "MEMORY GiB s", "STORED MiB", "MOVED MiB");
	return berth_usage_each(b, from, by, print_row, &p, &e) < 0 ? cli_fail("usage", &e) : CLI_OK;
}
