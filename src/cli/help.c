/* SPDX-License-Identifier: Apache-2.0 */
/* Help that fits a screen, and the words that completion asks for. */
#include "cli/cli.h"

#include "base/str.h"

#include <string.h>

enum { COLUMNS = 80 };

/* Where a verb stands; one that is nowhere here stands with the daemon's. */
static const struct {
	const char *title, *verbs;
} groups[] = {
	{ "sandboxes", " create ps info timeout pause resume sync kill rm stats logs " },
	{ "commands", " run shell attach signal tunnel git " },
	{ "files", " ls cat cp ln xattr watch log export import " },
	{ "snapshots", " snapshot snapshots diff restore fork " },
	{ "the daemon", NULL },
};

/* Words broken between blanks; a line never begins with one that would fit the line before. */
static void fill(FILE *to, const char *text, size_t at, size_t indent)
{
	bool fresh = true;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (n && !fresh && at + 1 + n > COLUMNS - 1) {
			fprintf(to, "\n%*s", (int)indent, "");
			at = indent;
			fresh = true;
		}
		if (n) {
			fprintf(to, "%s%.*s", fresh ? "" : " ", (int)n, text);
			at += n + !fresh;
			fresh = false;
		}
		text += n + strspn(text + n, " ");
	}
	fputc('\n', to);
}

static bool in_group(size_t i, const char *verb)
{
	AUTO(str_free) char *word = str_printf(" %s ", verb);
	size_t k;

	if (groups[i].verbs)
		return strstr(groups[i].verbs, word);
	for (k = 0; groups[k].verbs; k++)
		if (strstr(groups[k].verbs, word))
			return false;
	return true;
}

int cli_help(FILE *to)
{
	const struct cli_row *row;
	size_t i;

	fprintf(to, "usage: berth VERB [ARGUMENTS]        commands in sandboxes, files on the host\n\n");
	for (i = 0; i < ARRAY_LEN(groups); i++) {
		struct buf b;

		buf_init(&b, 4096);
		for (row = cli_verbs; row->name; row++)
			if (in_group(i, row->name))
				buf_printf(&b, "%s ", row->name);
		fprintf(to, "  %-11s ", groups[i].title);
		fill(to, buf_str(&b), 14, 14);
		buf_fini(&b);
	}
	fputs("\n"
	      "  id=$(berth create)         make a sandbox\n"
	      "  berth run $id -- CMD...    run a command in its /workspace\n"
	      "  berth cp -r DIR $id:       copy files in; $id:PATH . copies them out\n"
	      "  berth info $id             where its files are on the host\n"
	      "  berth kill $id             end it, keep its files\n\n"
	      "berth help VERB has the arguments of a verb, berth help all a line on each,\n"
	      "berth(1) everything. TIME: 500ms, 30s, 10m, 2h or seconds. SIZE: bytes, 512M\n"
	      "or 2G. PATH is below /workspace. $BERTH_URL is the daemon, unix:/PATH or\n"
	      "http://HOST:PORT; $BERTH_API_KEY is the key for the latter.\n",
	      to);
	return to == stdout ? CLI_OK : CLI_USAGE;
}

void cli_usage_line(FILE *to, const struct cli_row *row)
{
	AUTO(str_free) char *line = str_printf("usage: berth %s %s", row->name, row->usage);

	fill(to, line, 0, 8);
}

void cli_help_verb(FILE *to, const struct cli_row *row)
{
	cli_usage_line(to, row);
	fill(to, row->words, 0, 0);
}

/* "--word" and bare words of alternatives, as the usage has them. */
static void print_words(const struct cli_row *row)
{
	const char *p = row->usage;

	while ((p = strstr(p, "--"))) {
		size_t n = strspn(p + 2, "abcdefghijklmnopqrstuvwxyz-");

		if (n)
			printf("%.*s\n", (int)n + 2, p);
		p += n + 2;
	}
	if (str_starts(row->usage, "ls ")) /* verbs of a verb stand behind bars */
		for (p = row->usage; p; p = strstr(p, "| ") ? strstr(p, "| ") + 2 : NULL)
			printf("%.*s\n", (int)strspn(p, "abcdefghijklmnopqrstuvwxyz"), p);
}

static const struct cli_row *find(const char *name)
{
	const struct cli_row *row;

	for (row = cli_verbs; row->name; row++)
		if (str_eq(row->name, name))
			return row;
	return NULL;
}

int cli_help_about(int argc, char **argv)
{
	bool words = str_eq(argv[0], "--words");
	const struct cli_row *row = words ? (argc > 1 ? find(argv[1]) : NULL) : find(argv[0]);

	if (words && row) {
		print_words(row);
	} else if (words || str_eq(argv[0], "all")) {
		for (row = cli_verbs; row->name; row++)
			printf("%s%-*s%s%s\n", words ? "" : "  ", words ? 0 : 9, row->name, words ? "" : " ",
			       words ? "" : row->words);
	} else if (row) {
		cli_help_verb(stdout, row);
	} else {
		fprintf(stderr, "berth: no such verb: %s\n", argv[0]);
		return CLI_USAGE;
	}
	return CLI_OK;
}
