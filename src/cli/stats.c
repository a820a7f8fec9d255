/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox uses, and what its agent said. */
#include "cli/cli.h"

#include "base/str.h"

#include <poll.h>
#include <stdlib.h>

enum { FOLLOW_MS = 500 };

/* Members of the one object, without a parser: the daemon writes it, and names are not repeated in it. */
static unsigned long long member(const char *json, const char *name)
{
	AUTO(str_free) char *key = str_printf("\"%s\":", name);
	const char *at = strstr(json, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void line(const char *json, const char *words, const char *used, const char *limit)
{
	printf("%-10s %10.1f MiB", words, (double)member(json, used) / 1048576);
	if (limit && member(json, limit))
		printf(" of %.1f MiB", (double)member(json, limit) / 1048576);
	putchar('\n');
}

int cli_stats(struct berth *b, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json } };
	AUTO(str_free) char *text = NULL;
	struct berth_error e;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 1)
		return n < 0 ? CLI_USAGE : cli_usage("stats", "one sandbox is wanted");
	if (berth_stats_json(b, rest[0], &text, &e) < 0)
		return cli_fail("stats", &e);
	if (json) {
		fputs(text, stdout);
		return CLI_OK;
	}
	printf("%-10s %10.2f s, at most %.2f processors, up for %.0f s\n", "cpu", (double)member(text, "cpu_ns") / 1e9,
	       (double)member(text, "cpu_milli") / 1000, (double)member(text, "uptime_ms") / 1000);
	line(text, "memory", "memory_b", "memory_limit_b");
	line(text, "peak", "memory_peak_b", NULL);
	line(text, "disk free", "disk_free_b", "disk_total_b");
	line(text, "received", "network_rx_b", NULL);
	line(text, "sent", "network_tx_b", NULL);
	printf("%-10s %10llu of %llu, in %llu processes\n", "threads", member(text, "pids"), member(text, "pids_limit"),
	       member(text, "processes"));
	printf("%-10s %10.2f s cpu, %.2f s memory, %.2f s disk (%s)\n", "waited",
	       (double)member(text, "cpu_some_us") / 1e6, (double)member(text, "memory_some_us") / 1e6,
	       (double)member(text, "io_some_us") / 1e6, strstr(text, "\"of\":\"sandbox\"") ? "sandbox" : "machine");
	if (member(text, "oom_kills"))
		printf("%-10s %10llu for memory\n", "killed", member(text, "oom_kills"));
	return CLI_OK;
}

int cli_logs(struct berth *b, int argc, char **argv)
{
	bool follow = false;
	const struct cli_option options[] = { { "--follow", NULL, &follow } };
	struct berth_error e;
	uint64_t at = 0;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 1)
		return n < 0 ? CLI_USAGE : cli_usage("logs", "one sandbox is wanted");
	do {
		AUTO(str_free) char *text = NULL;
		char *save = NULL, *one;

		if (berth_logs(b, rest[0], &at, &text, &e) < 0)
			return cli_fail("logs", &e);
		for (one = strtok_r(text, "\n", &save); one; one = strtok_r(NULL, "\n", &save)) {
			cli_put(stdout, one);
			putchar('\n');
		}
		fflush(stdout);
	} while (follow && poll(NULL, 0, FOLLOW_MS) == 0 && !ferror(stdout));
	return CLI_OK;
}
