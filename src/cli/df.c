/* SPDX-License-Identifier: Apache-2.0 */
/* df, gc: where the space is, and having some back. */
#include "cli/cli.h"

#include <stdlib.h>
#include <time.h>

const char *cli_bytes(uint64_t b, char *to, size_t len)
{
	static const char units[] = "KMGT";
	double v = (double)b / 1024;
	int i = 0;

	while (v >= 1024 && units[i + 1]) {
		v /= 1024;
		i++;
	}
	snprintf(to, len, v < 10 ? "%.1f%c" : "%.0f%c", v, units[i]);
	return to;
}

static void print_row(const struct berth_usage *u)
{
	char a[24], b[24], c[24], d[24], snapshots[24] = "-", share[16] = "-";

	if (u->brought_max_b)
		snprintf(share, sizeof(share), "%llu%%",
			 (unsigned long long)(u->charged_b * 100 / u->brought_max_b));
	if (u->has_own)
		snprintf(snapshots, sizeof(snapshots), "%llu", (unsigned long long)u->snapshots);
	printf("%-17s %-16s %-9s %9llu %8s %5s %8s %8s %8s %5s\n", u->id, u->name[0] ? u->name : "-", u->state,
	       (unsigned long long)u->entries, cli_bytes(u->brought_b, a, sizeof(a)), share,
	       cli_bytes(u->store_b, b, sizeof(b)), u->image_b ? cli_bytes(u->image_b, c, sizeof(c)) : "-",
	       u->has_own ? cli_bytes(u->own_b, d, sizeof(d)) : "-", snapshots);
}

static void print_gc(const struct berth_df *df)
{
	char when[32] = "", x[24], y[24], z[24];
	time_t at = (time_t)(df->gc_at_ns / 1000000000);
	uint64_t rest = df->store_used_b > df->gc_live_b ? df->store_used_b - df->gc_live_b : 0;
	struct tm tm;

	if (!df->gc_at_ns)
		return;
	if (localtime_r(&at, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	printf("gc     %s: %s in use, sharing saved %s; %s came since or is overhead\n", when,
	       cli_bytes(df->gc_live_b, x, sizeof(x)), cli_bytes(df->gc_saved_b, y, sizeof(y)),
	       cli_bytes(rest, z, sizeof(z)));
}

int cli_gc(struct berth *b, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json } };
	struct berth_error e;
	struct berth_gc gc;
	char **rest, *text = NULL, x[24], y[24];
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("gc", "unexpected: %s", rest[0]);
	if (berth_gc(b, &gc, &text, &e) < 0)
		return cli_fail("gc", &e);
	if (json)
		fputs(text, stdout);
	else
		printf("%llu objects, %s, freed; %llu, %s, left; %llu ms\n", (unsigned long long)gc.freed,
		       cli_bytes(gc.freed_b, x, sizeof(x)), (unsigned long long)gc.left,
		       cli_bytes(gc.left_b, y, sizeof(y)), (unsigned long long)gc.took_ms);
	free(text);
	return CLI_OK;
}

static int one(struct berth *b, const char *id)
{
	char x[24], y[24];
	struct berth_room room;
	struct berth_error e;

	if (berth_statfs(b, id, &room, &e) < 0)
		return cli_fail("df", &e);
	printf("%s  %s free of %s, names: %llu free of %llu\n", room.of, cli_bytes(room.available_b, x, sizeof(x)),
	       cli_bytes(room.total_b, y, sizeof(y)), (unsigned long long)room.files_free,
	       (unsigned long long)room.files);
	return CLI_OK;
}

int cli_df(struct berth *b, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json } };
	struct berth_usage *rows = NULL;
	char **rest, *text = NULL, x[24], y[24], z[24];
	struct berth_df df = { .state = "" };
	struct berth_error e;
	size_t i, n = 0;
	int k = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (k == 1 && !json)
		return one(b, rest[0]);
	if (k != 0)
		return k < 0 ? CLI_USAGE : cli_usage("df", "unexpected: %s", rest[0]);
	if (json) {
		if (berth_df_json(b, &text, &e) < 0)
			return cli_fail("df", &e);
		fputs(text, stdout);
		free(text);
		return CLI_OK;
	}
	if (berth_df(b, &df, &rows, &n, &e) < 0)
		return cli_fail("df", &e);
	printf("disk   %s free of %s: %s\n", cli_bytes(df.disk_free_b, x, sizeof(x)),
	       cli_bytes(df.disk_total_b, y, sizeof(y)), df.state);
	printf("store  %s used, file %s, at most %s\n", cli_bytes(df.store_used_b, x, sizeof(x)),
	       cli_bytes(df.store_b, y, sizeof(y)), cli_bytes(df.store_max_b, z, sizeof(z)));
	if (df.layers_max_b)
		printf("layers %s of %llu snapshots of whole sandboxes, at most %s\n",
		       cli_bytes(df.layers_b, x, sizeof(x)), (unsigned long long)df.layers,
		       cli_bytes(df.layers_max_b, y, sizeof(y)));
	print_gc(&df);
	printf("\n%-17s %-16s %-9s %9s %8s %5s %8s %8s %8s %5s\n", "ID", "NAME", "STATE", "NAMES", "BROUGHT", "QUOTA",
	       "RECORDS", "IMAGES", "OWN", "SNAPS");
	for (i = 0; i < n; i++)
		print_row(&rows[i]);
	free(rows);
	return CLI_OK;
}
