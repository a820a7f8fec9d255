/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs, help, and what verbs share. */
#include "cli/cli.h"

#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

const struct cli_row cli_verbs[] = {
	{ "create", cli_create, false,
	  "[--template T] [--from ID[@SNAPSHOT] [--no-wait]] [--keep FILE] [--name N] [--timeout TIME] "
	  "[--on-timeout kill|pause] "
	  "[--net | --no-net] [--allow X]... [--deny X]... "
	  "[--meta K=V]... [--secret NAME]... "
	  "[--memory SIZE]"
	  " [--workspace SIZE] [--cpu MILLI] [--pids N]",
	  "make a sandbox, print its id" },
	{ "ps", cli_ps, false, "[--all] [--json]", "list sandboxes" },
	{ "info", cli_info, false, "[ID | --host] [--json]", "all about one sandbox, the daemon, or its host" },
	{ "run", cli_run, false,
	  "ID [--user U] [--cwd DIR] [--env K=V]... [--timeout TIME] [--tty] [--no-stdin] [--detach] [--id NAME]"
	  " [--umask MASK] [--limit NAME=SOFT:HARD]... [--secret NAME]..."
	  " -- CMD...",
	  "run a command" },
	{ "shell", cli_shell, false, "ID [--user U] [--cwd DIR]", "an interactive shell" },
	{ "attach", cli_attach, false, "ID PROCESS", "join a process that was started with --detach" },
	{ "signal", cli_signal, false, "ID PROCESS [SIGNAL] [--tree]",
	  "send a signal to a process and its group, or to all that descends from it" },
	{ "stats", cli_stats, false, "ID [--json]", "what a sandbox uses" },
	{ "logs", cli_logs, false, "ID [--follow]", "what its agent, and the kernel of a virtual machine, said" },
	{ "tunnel", cli_tunnel, false,
	  "ID [BIND:]PORT:TARGET | PATH:TARGET | --stdio TARGET | --reverse SOCKET:PORT|PATH   (TARGET: PORT, "
	  "ADDRESS:PORT, "
	  "/SOCKET or @NAME inside)",
	  "connect local ports and sockets with those of a sandbox" },
	{ "cp", cli_cp, false, "[-r] [--quiet] SRC DST", "copy files; one side is ID:PATH" },
	{ "ls", cli_ls, false, "ID[:PATH] [--json]", "list a directory of a workspace" },
	{ "cat", cli_cat, false, "ID:PATH", "print a file of a workspace" },
	{ "ln", cli_ln, false, "[-s] TARGET ID:PATH", "another name of the file TARGET; -s: a symbolic link" },
	{ "xattr", cli_xattr, false, "ID:PATH [NAME [VALUE]] [--remove]",
	  "extended attributes: list, print, set, remove" },
	{ "log", cli_log, false, "ID [PATH] [--follow] [--since N] [--json]",
	  "who changed what when: the changes of a workspace, and the commands that made them" },
	{ "watch", cli_watch, false, "ID[:PATH] [--flat] [--since N] [--kept] [--json]",
	  "what is made, written, renamed, removed" },
	{ "sync", cli_sync, false, "ID", "return when everything it wrote is durable on the host" },
	{ "timeout", cli_timeout, false, "ID TIME", "let it live for this long from now (0: for ever)" },
	{ "pause", cli_pause, false, "ID... [--no-memory]",
	  "freeze sandboxes: processes and memory are kept (--no-memory: they go), files are durable" },
	{ "resume", cli_resume, false, "ID... [--timeout TIME] [--no-memory]", "let paused sandboxes go on" },
	{ "net", cli_net, false, "ID [--internet on|off] [--allow X]... [--deny X]... [--remove X]... [--clear]",
	  "what it may reach: show, change" },
	{ "kill", cli_kill, false, "ID... [--grace TIME]", "end sandboxes, keep their files" },
	{ "rm", cli_rm, false, "ID[@SNAPSHOT]... [--force] [--snapshots]",
	  "delete sandboxes with their files (--force: also those that run), or snapshots" },
	{ "snapshot", cli_snapshot, false, "ID [NAME] [--no-freeze]", "keep the files as they are now" },
	{ "snapshots", cli_snapshots, false, "ID [--json]", "list what was kept" },
	{ "diff", cli_diff, false, "ID@A [ID@B | ID] [--path PATH] [--patch] [--json]",
	  "what differs between two states; with the present by default" },
	{ "restore", cli_restore, false, "ID@A [PATH] [--no-keep]",
	  "make the files, or those at PATH, those of a snapshot" },
	{ "export", cli_export, false, "ID[@A] [PATH] -o FILE.tar[.zst|.gz] | -o - [--quiet]",
	  "the files as an archive" },
	{ "import", cli_import, false, "FILE | - [--name NAME] [--workspace SIZE] [--quiet]",
	  "a stored workspace from an archive" },
	{ "fork", cli_fork, false, "ID[@A] [-n N] [--name NAME]", "stored workspaces that share everything with it" },
	{ "git", cli_git, false, "ID ARGS...", "run git in a sandbox over that workspace, never on the host" },
	{ "template", cli_template, false,
	  "ls | rm NAME | keep NAME [FILE] | build NAME [--packages FILE | --tar FILE | PKG...] [--keep FILE] "
	  "[--replace] "
	  "[--quiet]",
	  "the root file systems of sandboxes: list, remove, make" },
	{ "events", cli_events, false, "[--since N] [--follow] [--json]", "what happened, a line each" },
	{ "key", cli_key, false,
	  "ls [--json] | revoke KEY... | create NAME [--scopes read,files,run,others,admin] [--sandboxes N] [--rate N] "
	  "[--timeout "
	  "TIME]",
	  "keys for the API over TCP: list, end, make" },
	{ "secret", cli_secret, false,
	  "key | add [FILE] | ls [--json] | rotate NAME [FILE] [--deliver HOW] | rm NAME... | audit [--since N] "
	  "[--json]",
	  "what is kept sealed, by berth-seal(1), for sandboxes; and what was done with it" },
	{ "df", cli_df, false, "[ID | --json]", "where the space is: the disk, the store, each workspace, or one" },
	{ "usage", cli_usage_of, false, "[--since TIME] [--by sandbox|key|hour] [--csv | --json]",
	  "what sandboxes used: time, processors, memory, bytes" },
	{ "backup", cli_backup, false, "-o FILE", "copy the store while it is in use; berthd --restore takes it back" },
	{ "gc", cli_gc, false, "[--json]", "give back the space of what nothing refers to any more" },
	{ "tls", cli_tls, true, "init [--dir DIR] [--domain DOMAIN]",
	  "make an authority and a certificate for the API's door with TLS" },
	{ "fsck", cli_fsck, false, "[--json]", "verify the store" },
	{ "dump", cli_dump, true, "wire FILE", "print a capture that was made with BERTH_TRACE" },
	{ "version", cli_version, true, "", "print the version" },
	{ NULL, NULL, true, NULL, NULL },
};

/* Names are valid UTF-8 here; the controls of ISO 6429 are two bytes of it. */
void cli_put(FILE *to, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	bool raw = !isatty(fileno(to));

	for (; *p; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;

		if (raw || (*p >= 0x20 && *p != 0x7f && !c1))
			fputc(*p, to);
		else
			fprintf(to, "\\x%02x", (unsigned)(c1 ? *++p : *p));
	}
}

int cli_fail(const char *verb, const struct berth_error *e)
{
	fprintf(stderr, "berth %s: ", verb);
	cli_put(stderr, e->text[0] ? e->text : "failed");
	fputc('\n', stderr);
	return CLI_FAILED;
}

int cli_usage(const char *verb, const char *fmt, ...)
{
	va_list ap;
	const struct cli_row *row;

	va_start(ap, fmt);
	fprintf(stderr, "berth %s: ", verb);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	for (row = cli_verbs; row->name; row++)
		if (str_eq(row->name, verb))
			cli_usage_line(stderr, row);
	return CLI_USAGE;
}

static const struct cli_option *option_find(const struct cli_option *options, size_t n, const char *arg, size_t len)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, arg, len) == 0)
			return &options[i];
	return NULL;
}

int cli_options(int argc, char **argv, const struct cli_option *options, size_t n, char ***ret_operands)
{
	int i, left = 0;

	*ret_operands = argv + 1;
	for (i = 1; i < argc; i++) {
		const char *is = strchr(argv[i], '=');
		const struct cli_option *o;

		if (str_eq(argv[i], "--")) { /* it and all behind it are operands */
			while (i < argc)
				argv[1 + left++] = argv[i++];
			break;
		}
		if (argv[i][0] != '-' || !argv[i][1]) {
			argv[1 + left++] = argv[i];
			continue;
		}
		o = option_find(options, n, argv[i], is ? (size_t)(is - argv[i]) : strlen(argv[i]));
		if (!o || (o->flag && is)) {
			cli_usage(argv[0], "no such option: %s", argv[i]);
			return -1;
		}
		if (o->flag) {
			*o->flag = true;
		} else if (is) {
			*o->value = is + 1;
		} else if (i + 1 < argc) {
			*o->value = argv[++i];
		} else {
			cli_usage(argv[0], "%s needs a value", argv[i]);
			return -1;
		}
	}
	argv[1 + left] = NULL;
	return left;
}

int cli_list(int argc, char **argv, const char *name, struct cli_list *ret)
{
	int i, left = 1;

	for (i = 1; i < argc && !str_eq(argv[i], "--"); i++) {
		if (!str_eq(argv[i], name)) {
			argv[left++] = argv[i];
			continue;
		}
		if (++i >= argc || ret->n == CLI_LIST_MAX) {
			cli_usage(argv[0], ret->n == CLI_LIST_MAX ? "%s too often" : "%s needs a value", name);
			return -1;
		}
		ret->v[ret->n++] = argv[i];
	}
	while (i < argc)
		argv[left++] = argv[i++];
	argv[left] = NULL;
	return left;
}

bool cli_size(const char *verb, const char *text, uint64_t *ret)
{
	if (!text || num_size(text, ret) == 0)
		return true;
	cli_usage(verb, "\"%s\" is no size: a number with K, M, G or T is wanted", text);
	return false;
}

bool cli_time(const char *verb, const char *text, uint64_t *ret_ms)
{
	if (!text || num_duration_ms(text, ret_ms) == 0)
		return true;
	cli_usage(verb, "\"%s\" is no time: 30s, 10m, 2h or seconds are wanted", text);
	return false;
}

static bool wants_help(const char *arg)
{
	return str_eq(arg, "--help") || str_eq(arg, "-h");
}

int main(int argc, char **argv)
{
	const struct cli_row *row;
	struct berth *b = NULL;
	struct berth_error e;
	int r;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return cli_help(stderr);
	if (wants_help(argv[1]) || (str_eq(argv[1], "help") && argc == 2))
		return cli_help(stdout);
	if (str_eq(argv[1], "help"))
		return cli_help_about(argc - 2, argv + 2);
	if (str_eq(argv[1], "--version"))
		return cli_version(NULL, argc - 1, argv + 1);
	for (row = cli_verbs; row->name && !str_eq(argv[1], row->name);)
		row++;
	if (!row->name) {
		fprintf(stderr, "berth: no such verb: %s\n", argv[1]);
		return cli_help(stderr);
	}
	if (argc > 2 && wants_help(argv[2])) {
		cli_help_verb(stdout, row);
		return CLI_OK;
	}
	if (!row->local && berth_open(NULL, &b, &e) < 0) {
		cli_fail(argv[1], &e);
		return CLI_BERTH;
	}
	r = row->verb(b, argc - 1, argv + 1);
	berth_close(&b);
	if (fflush(stdout) != 0 && r == 0)
		r = CLI_FAILED;
	return r;
}
