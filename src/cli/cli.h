/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/* The command line: one function a verb, one table of them in main.c. Uses <berth/client.h> and the ground floor only.
 */
#include "base/buf.h"
#include "berth/client.h"

#include <stdio.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_BERTH = 125, CLI_NOT_EXECUTABLE = 126, CLI_NOT_FOUND = 127 };

/* A verb: argv[0] is its name. Returns the exit status. */
typedef int cli_verb(struct berth *b, int argc, char **argv);

cli_verb cli_create, cli_ps, cli_info, cli_kill, cli_rm, cli_sync, cli_timeout, cli_pause, cli_resume, cli_run,
	cli_shell, cli_attach, cli_git, cli_ls, cli_cat, cli_cp, cli_ln, cli_xattr, cli_template, cli_backup, cli_fsck,
	cli_gc, cli_df, cli_usage_of, cli_dump, cli_version, cli_key, cli_tls, cli_secret, cli_net, cli_events,
	cli_watch, cli_log, cli_tunnel, cli_stats, cli_logs, cli_signal, cli_snapshot, cli_snapshots, cli_diff,
	cli_restore, cli_fork, cli_export, cli_import;

/* "ID:PATH" into its halves; NULL when it is a local path. A local path with a colon is written "./a:b". */
char *cli_split(const char *arg, const char **ret_path);

struct cli_row {
	const char *name;
	cli_verb *verb;
	bool local; /* needs no daemon */
	const char *usage, *words;
};
extern const struct cli_row cli_verbs[]; /* main.c; the last one has no name */

/* help.c. All fit a terminal of 24 lines and 80 columns but the list of all. */
int cli_help(FILE *to);
void cli_help_verb(FILE *to, const struct cli_row *row);
/** cli_help_about() - "berth help WHAT": a verb, "all", or "--words [VERB]" for completion. Returns the exit status. */
int cli_help_about(int argc, char **argv);
/** cli_usage_line() - "usage: berth VERB …", broken between words. */
void cli_usage_line(FILE *to, const struct cli_row *row);

/* Say "berth VERB: sentence" on standard error; returns CLI_FAILED (or @status). */
int cli_fail(const char *verb, const struct berth_error *e);
/** cli_put() - print words that may come from a guest: on a terminal what would control it is shown as \xHH. */
void cli_put(FILE *to, const char *s);
int cli_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Options of a verb: parsed by hand, so that "--" and what follows stay untouched. */
struct cli_option {
	const char *name;   /* "--name" */
	const char **value; /* takes a value; or */
	bool *flag;
};
/* Takes the options off argv (argv[1..]); what is left is the operands. Return: number of operands, -1 after a
 * complaint. */
int cli_options(int argc, char **argv, const struct cli_option *options, size_t n, char ***ret_operands);

/* Values of an option that may be given several times; v ends with NULL. */
enum { CLI_LIST_MAX = 64 };
struct cli_list {
	const char *v[CLI_LIST_MAX + 1];
	size_t n;
};
/** cli_list() - take every "@name VALUE" out of argv, up to "--"; before cli_options(). Return: the new argc, -1 after
 * a complaint. */
int cli_list(int argc, char **argv, const char *name, struct cli_list *ret);

/* Sizes and times as people write them; complains itself. */
bool cli_size(const char *verb, const char *text, uint64_t *ret);
/** cli_bytes() - for people: "1.5G". */
const char *cli_bytes(uint64_t b, char *to, size_t len);
bool cli_time(const char *verb, const char *text, uint64_t *ret_ms);
/** cli_rules() - the text of a file of rules of what is kept; complains itself. free(*ret). */
bool cli_rules(const char *verb, const char *file, char **ret);

/* A copy, of files.c, tree.c and tree-in.c. */
struct cli_copy {
	struct berth *b;
	const char *id;
	int failed; /* status to end with */
	bool quiet;
	unsigned temps;
};

/** cli_copy_tree() - what is in the directory @from of the sandbox into the open directory @dir, which people know as
 * @shown; that one gets the attributes of @from, too, unless @keep_top. */
void cli_copy_tree(struct cli_copy *c, const char *from, int dir, const char *shown, bool keep_top);
/** cli_copy_tree_in() - the directory @from and what is in it to the place @to of the sandbox; with @keep_top
 * attributes of a directory that is there stay. */
void cli_copy_tree_in(struct cli_copy *c, const char *from, const char *to, bool keep_top);
void cli_copy_complain(struct cli_copy *c, const char *path, const char *why);
/** cli_copy_is_special() - a device or a pipe is not a name that can be given to something else: /dev/null would be
 * gone for everybody. @flags as for fstatat(2). */
bool cli_copy_is_special(int dir, const char *name, int flags);

/** cli_progress() - show how far the calls of @b are until cli_progress_end(); nothing when @quiet or no terminal is
 * there. @name is borrowed; @all bytes, 0: what the daemon says. cli_progress_end() also goes before any other words.
 */
void cli_progress(struct berth *b, bool quiet, const char *name, uint64_t all);
void cli_progress_end(void);

/* stream.c: follow a process to its end with our own standard streams; the exit status. */
int cli_follow(struct berth_stream *s, bool with_input, bool tty, const char *verb);

#endif
