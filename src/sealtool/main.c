/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs and of options, help, and how failures become exit statuses. */
#include "sealtool/tool.h"

#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>

static const struct row {
	const char *name;
	tool_verb *verb;
	const char *options; /* letters of the table below */
	const char *usage, *words;
} rows[] = {
	{ "seal", verb_seal, "tnfhmrqBAHdwxsoEbj",
	  "--to KEY... --name NAME [--for template=T|sandbox=ID]... [--host HOST]... [--method METHOD]... "
	  "[--path PATTERN]... [--per-minute N] [--body-max SIZE] [--answer-max SIZE] [--header NAME[: PREFIX]] "
	  "[--deliver broker|file|env] [--owner ACCOUNT] [--expires 90d|DATE] [--sign KEYFILE] [--env] [--binary] [-o "
	  "OUT] [FILE|-]",
	  "seal a value, a file, or the values of a file of variables (--env)" },
	{ "open", verb_open, "knfhagPoj",
	  "[--key KEYFILE] [--name NAME] [--for WHAT]... [--host HOST] [--any-scope] [--signer KEY]... [-o OUT] "
	  "[FILE|-]",
	  "print what is inside" },
	{ "inspect", verb_inspect, "j", "[--json] [FILE|-]...", "say what can be known without a key" },
	{ "verify", verb_verify, "knfhagPj",
	  "[--key KEYFILE] [--name NAME] [--for WHAT]... [--host HOST] [--signer KEY]... [--json] [FILE|-]...",
	  "say whether it would open, and print no value; without a key: whether it is whole and who signed it" },
	{ "rewrap", verb_rewrap, "ktsuPoj",
	  "[--key KEYFILE] --to KEY... [--sign KEYFILE | --unsigned] [-o OUT] [FILE|-]",
	  "seal it to other keys; the secret itself stays as it is" },
	{ "exec", verb_exec, "kfhagP",
	  "[--key KEYFILE] [--for WHAT]... [--host HOST] [--any-scope] FILE... -- COMMAND...",
	  "run a command with the values in its environment" },
	{ "keygen", verb_keygen, "oPpcj", "-o KEYFILE [--passphrase | --systemd-creds]",
	  "make a key; its public half is printed" },
	{ "pub", verb_pub, "Pj", "KEYFILE", "print the public half of a key" },
	{ NULL, NULL, NULL, NULL, NULL },
};

#define AT(member) offsetof(struct tool, member)
static const struct option {
	const char *name;
	char letter;
	enum { ONE, LIST, FLAG } kind;
	size_t at;
} options[] = {
	{ "--to", 't', LIST, AT(to) },
	{ "--key", 'k', LIST, AT(key) },
	{ "-k", 'k', LIST, AT(key) },
	{ "--name", 'n', ONE, AT(name) },
	{ "--for", 'f', LIST, AT(for_what) },
	{ "--host", 'h', LIST, AT(hosts) },
	{ "--method", 'm', LIST, AT(methods) },
	{ "--path", 'r', LIST, AT(paths) },
	{ "--per-minute", 'q', ONE, AT(per_minute) },
	{ "--body-max", 'B', ONE, AT(body_max) },
	{ "--answer-max", 'A', ONE, AT(answer_max) },
	{ "--header", 'H', ONE, AT(header) },
	{ "--deliver", 'd', ONE, AT(deliver) },
	{ "--owner", 'w', ONE, AT(owner) },
	{ "--expires", 'x', ONE, AT(expires) },
	{ "--sign", 's', ONE, AT(sign) },
	{ "--unsigned", 'u', FLAG, AT(unsigned_) },
	{ "--signer", 'g', LIST, AT(signers) },
	{ "--any-scope", 'a', FLAG, AT(any_scope) },
	{ "-o", 'o', ONE, AT(output) },
	{ "--output", 'o', ONE, AT(output) },
	{ "--env", 'E', FLAG, AT(env) },
	{ "--binary", 'b', FLAG, AT(binary) },
	{ "--json", 'j', FLAG, AT(json) },
	{ "--passphrase", 'p', FLAG, AT(passphrase) },
	{ "--passphrase-file", 'P', ONE, AT(passphrase_file) },
	{ "--systemd-creds", 'c', FLAG, AT(creds) },
	{ "--value", 0, ONE, AT(value) },
};

static const struct row *row_of(const char *verb)
{
	const struct row *row = rows;

	while (row->name && !str_eq(row->name, verb))
		row++;
	return row;
}

void tool_quote(FILE *to, const char *s)
{
	fputc('"', to);
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == '"' || *s == '\\')
			fprintf(to, "\\u%04x", (unsigned char)*s);
		else
			fputc(*s, to);
	}
	fputc('"', to);
}

int tool_usage(const struct tool *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "berth-seal %s: ", t->verb);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: berth-seal %s %s\n", t->verb, row_of(t->verb)->usage);
	return TOOL_USAGE;
}

void tool_note(const struct tool *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "berth-seal %s: ", t->verb);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

static int status_of(const struct err *e)
{
	switch (-e->code) {
	case ENOKEY:
	case EPERM:
		return TOOL_KEY;
	case EXDEV:
		return str_starts(e->slug, "wrong-") ? TOOL_SCOPE : TOOL_FAILED;
	case EKEYEXPIRED:
		return TOOL_EXPIRED;
	case EBADMSG:
	case EPROTONOSUPPORT:
	case EKEYREJECTED:
		return TOOL_DAMAGED;
	case EINVAL:
		return TOOL_USAGE;
	default:
		return TOOL_FAILED;
	}
}

int tool_fail(const struct tool *t, const char *what, const struct err *e)
{
	int status = status_of(e);

	if (!t->json) {
		fprintf(stderr, "berth-seal %s: %s%s%s\n", t->verb, what ? what : "", what ? ": " : "", e->text);
		return status;
	}
	fputs("{\"error\":{\"slug\":", stderr);
	tool_quote(stderr, e->slug);
	fputs(",\"text\":", stderr);
	tool_quote(stderr, e->text);
	if (what) {
		fputs(",\"file\":", stderr);
		tool_quote(stderr, what);
	}
	fprintf(stderr, ",\"status\":%d}}\n", status);
	return status;
}

static const struct option *option_of(const char *arg, const char *letters)
{
	const char *is = strchr(arg, '=');
	size_t i, len = is && arg[1] == '-' ? (size_t)(is - arg) : strlen(arg);

	for (i = 0; i < ARRAY_LEN(options); i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, arg, len) == 0 &&
		    (!options[i].letter || strchr(letters, options[i].letter)))
			return &options[i];
	return NULL;
}

static int set(struct tool *t, const struct option *o, const char *value)
{
	char *at = (char *)t + o->at;
	struct tool_list *l = (struct tool_list *)(void *)at;

	if (o->kind == LIST) {
		if (l->n == TOOL_MANY)
			return tool_usage(t, "%s too often", o->name);
		l->v[l->n++] = value;
	} else if (o->kind == ONE) {
		if (*(const char **)(void *)at)
			return tool_usage(t, "%s twice", o->name);
		*(const char **)(void *)at = value;
	} else {
		*(bool *)at = true;
	}
	return 0;
}

/* Options anywhere in front of "--"; what is left are operands. */
static int parse(struct tool *t, const char *letters, int argc, char **argv)
{
	int i;

	t->argv = argv;
	for (i = 0; i < argc; i++) {
		const struct option *o;
		const char *is = strchr(argv[i], '=');

		if (str_eq(argv[i], "--")) {
			t->command = argv + i + 1;
			return 0;
		}
		if (argv[i][0] != '-' || !argv[i][1]) {
			t->argv[t->argc++] = argv[i];
			continue;
		}
		o = option_of(argv[i], letters);
		is = o && is && argv[i][1] == '-' ? is + 1 : NULL;
		if (!o || (o->kind == FLAG && is))
			return tool_usage(t, "no such option: %.40s", argv[i]);
		if (o->kind != FLAG && !is) {
			if (++i == argc)
				return tool_usage(t, "%s needs a value", o->name);
			is = argv[i];
		}
		if (set(t, o, is))
			return TOOL_USAGE;
	}
	return 0;
}

static int help(FILE *to)
{
	const struct row *row;

	fputs("usage: berth-seal VERB [ARGUMENTS]     values that only some keys open\n\n", to);
	for (row = rows; row->name; row++)
		fprintf(to, "  %-8s %s\n", row->name, row->words);
	fputs("\n  berth-seal keygen -o host.key >host.pub\n"
	      "  printf %s \"$TOKEN\" | berth-seal seal --to host.pub --name TOKEN --expires 90d >token.sealed\n"
	      "  berth-seal open --key host.key token.sealed\n\n"
	      "berth-seal VERB --help tells more; man berth-seal tells all.\n"
	      "Status: 0 in order, 2 usage, 3 wrong key, 4 not for this, 5 expired, 6 damaged, 1 anything else.\n",
	      to);
	return to == stdout ? TOOL_OK : TOOL_USAGE;
}

/* For completion: verbs, or the options of one. */
static int words(const char *verb)
{
	const struct row *row;
	size_t i;

	for (row = rows; row->name && !verb; row++)
		puts(row->name);
	row = verb ? row_of(verb) : row;
	for (i = 0; row->name && i < ARRAY_LEN(options); i++)
		if (options[i].letter && strchr(row->options, options[i].letter))
			puts(options[i].name);
	return TOOL_OK;
}

int main(int argc, char **argv)
{
	struct tool t = { .verb = argc > 1 ? argv[1] : "" };
	const struct row *row = row_of(t.verb);
	int r;

	signal(SIGPIPE, SIG_IGN);
	if (str_eq(t.verb, "--version") || str_eq(t.verb, "version"))
		return puts("berth-seal " PACKAGE_VERSION " (sealed files of versions 1 and 2)") < 0;
	if (str_eq(t.verb, "help") && argc > 2 && str_eq(argv[2], "--words"))
		return words(argc > 3 ? argv[3] : NULL);
	if (str_eq(t.verb, "--help") || str_eq(t.verb, "-h") || str_eq(t.verb, "help"))
		return help(stdout);
	if (!row->name) {
		fprintf(stderr, argc > 1 ? "berth-seal: no such verb: %s\n" : "%s", t.verb);
		return help(stderr);
	}
	if (argc > 2 && (str_eq(argv[2], "--help") || str_eq(argv[2], "-h"))) {
		printf("usage: berth-seal %s %s\n\n%s\n", row->name, row->usage, row->words);
		return TOOL_OK;
	}
	r = secret_process();
	if (r < 0) {
		fprintf(stderr, "berth-seal: this machine gives no memory for secrets: %s\n", err_name(r));
		return TOOL_FAILED;
	}
	if (parse(&t, row->options, argc - 2, argv + 2))
		return TOOL_USAGE;
	if (t.value)
		return tool_usage(&t,
				  "a value does not belong on a command line: it is in the shell's history and in ps. "
				  "Pipe it: printf %%s \"$VALUE\" | berth-seal …");
	if (t.command && row->verb != verb_exec)
		return tool_usage(&t, "nothing stands behind --");
	r = row->verb(&t);
	if (fflush(stdout) != 0 && r == 0)
		r = TOOL_FAILED;
	return r;
}
