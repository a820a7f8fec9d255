/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEALTOOL_TOOL_H
#define SEALTOOL_TOOL_H

/* The program berth-seal: one function a verb, one table of them in main.c; berth-seal(1). */
#include "seal/sealed.h"

#include <stdio.h>

enum tool_status {
	TOOL_OK = 0,
	TOOL_FAILED = 1, /* of the machine: a file that is not there, a full disk */
	TOOL_USAGE = 2,
	TOOL_KEY = 3,
	TOOL_SCOPE = 4,
	TOOL_EXPIRED = 5,
	TOOL_DAMAGED = 6,
};

enum { TOOL_MANY = 64, TOOL_ENV_MAX = 1024 * 1024, TOOL_WORDS_MAX = 1024 };

struct tool_list {
	const char *v[TOOL_MANY];
	size_t n;
};

/* What stands on the command line. */
struct tool {
	const char *verb;
	struct tool_list to, for_what, hosts, methods, paths, signers, key;
	const char *per_minute, *body_max, *answer_max, *header;
	const char *name, *deliver, *owner, *expires, *sign, *output, *passphrase_file, *value;
	bool binary, env, json, any_scope, passphrase, creds, unsigned_;
	int argc; /* operands */
	char **argv;
	char **command; /* behind "--"; NULL: none */
};

typedef int tool_verb(struct tool *t);
tool_verb verb_seal, verb_open, verb_inspect, verb_verify, verb_rewrap, verb_exec, verb_keygen, verb_pub;

/** tool_usage() - a complaint about the command line, and how it goes. Return: TOOL_USAGE. */
int tool_usage(const struct tool *t, const char *fmt, ...) PRINTF(2, 3);
/** tool_fail() - say what went wrong, as JSON where that was asked for. Return: the exit status that it stands for. */
int tool_fail(const struct tool *t, const char *what, const struct err *e);
void tool_note(const struct tool *t, const char *fmt, ...) PRINTF(2, 3);
/** tool_quote() - a JSON string. */
void tool_quote(FILE *to, const char *s);

/* --- keys.c: what the options name -------------------------------------------------------------------------------- */

/** tool_key() - the key of a file; asks for its passphrase. Return: 0 or -errno. */
int tool_key(struct tool *t, const char *path, struct seal_key **ret, struct err *e) MUST_CHECK;
/** tool_my_key() - of --key or BERTH_SEAL_KEY. */
int tool_my_key(struct tool *t, struct seal_key **ret, struct err *e) MUST_CHECK;
/** tool_pubs() - public keys, each a key as text or a file of them. Return: how many; -errno. */
int tool_pubs(const struct tool_list *names, struct seal_pub ret[SEAL_TO_MAX], struct err *e) MUST_CHECK;
/** tool_passphrase() - of --passphrase-file, or typed; @twice: a new one. Return: 0; -ENOKEY. */
int tool_passphrase(struct tool *t, bool twice, struct secret **ret, struct err *e) MUST_CHECK;
/** tool_type() - a line from the terminal that is not shown. Return: 0; -ENOTTY. */
int tool_type(const char *prompt, struct secret **ret) MUST_CHECK;
/** creds_wrap() / creds_unwrap() - a key under systemd-creds; creds.c. */
int creds_wrap(struct secret *line, struct buf *ret, struct err *e) MUST_CHECK;
int creds_unwrap(struct span text, struct secret **ret, struct err *e) MUST_CHECK;

/* --- policy.c ----------------------------------------------------------------------------------------------------- */

/** tool_policy() - of a file that is made. Return: 0; -EINVAL. seal_policy_fini(). */
int tool_policy(struct tool *t, const char *name, struct seal_policy *ret, struct err *e) MUST_CHECK;
/** tool_use() - for what one is opened; every scope of --for and --host is one. */
int tool_use(struct tool *t, struct seal_use *ret, struct err *e) MUST_CHECK;
/** tool_allowed() - scope, expiry and signer of a file that is read. Return: 0 or -errno. */
int tool_allowed(struct tool *t, struct sealed *s, const char *name, struct err *e) MUST_CHECK;
void tool_show(FILE *to, const struct sealed *s, uint64_t len);
void tool_show_json(FILE *to, const char *file, const struct sealed *s, uint64_t len);
uint64_t tool_now_ms(void);

/* --- file.c: where bytes come from and go to ---------------------------------------------------------------------- */

struct tool_in {
	int fd;
	bool is_env; /* lines of variables */
	uint8_t first[64];
	size_t n, at;
	const char *name; /* for complaints */
};

/** tool_in() - open a file ("-" or NULL: standard input) and look at how it begins. Return: 0 or -errno. */
int tool_in(const char *path, struct tool_in *ret, struct err *e) MUST_CHECK;
void tool_in_fini(struct tool_in *in);
struct seal_source tool_in_source(struct tool_in *in);
/** tool_in_secret() - all of it, at most @max bytes. */
int tool_in_secret(struct tool_in *in, size_t max, struct secret **ret, struct err *e) MUST_CHECK;

struct tool_out {
	int fd;
	const char *path; /* NULL: standard output */
	bool plain_file;  /* can be thrown away until tool_out_done() */
	char *temp;	  /* its name until then; NULL: none */
};

/** tool_out() - a file that appears, mode 0600, with tool_out_done() only; or standard output. */
int tool_out(const char *path, struct tool_out *ret, struct err *e) MUST_CHECK;
int tool_out_done(struct tool_out *o, struct err *e) MUST_CHECK;
void tool_out_fini(struct tool_out *o);
/** tool_spool() - a file without a name that holds what is still to come. Return: its descriptor, at its beginning. */
int tool_spool(struct seal_source from, int *ret, struct err *e) MUST_CHECK;

/* --- env.c: files of variables ------------------------------------------------------------------------------------ */

struct env_line {
	struct span head; /* up to and with the '=' */
	struct span name;
	struct span value; /* as it stands there: quotes are part of it */
	struct span tail;  /* white space and a comment behind it; the newline is not in it */
	bool is_value;	   /* else all of the line is in head */
	bool newline;
};

/** env_next() - the next line of @text. Return: 1; 0 at the end; -EINVAL with the number of the line. */
int env_next(struct span *text, struct env_line *ret, unsigned *number, struct err *e) MUST_CHECK;
/** env_next_sealed() - where a sealed file was expected: what has no such lines is damaged, -EBADMSG. */
int env_next_sealed(struct span *text, struct env_line *ret, unsigned *number, struct err *e) MUST_CHECK;
bool env_is_sealed(struct span value);
/** env_plain() - take the quotes off a value; @to has room for value.len bytes. Return: bytes. */
size_t env_plain(struct span value, uint8_t *to);
/** env_quote() - the reverse, so that a shell reads it back; @to has room for 2 * value.len + 2. Return: bytes. */
size_t env_quote(struct span value, uint8_t *to);

#endif
