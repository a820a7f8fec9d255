/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_TEMPLATE_H
#define HOST_API_E2B_TEMPLATE_H

/*
 * Templates that E2B's clients build: what is known of them (registry.c), the files that steps copy (uploads.c), the
 * work itself (build.c, steps.c) and commands that are run inside for it (inside.c, begin.c). docs/templates.md has the
 * whole.
 */
#include "base/vec.h"
#include "host/api/e2b/e2b.h"
#include "seal/digest.h"

enum {
	TEMPLATE_ID = 20,
	TEMPLATE_NAME_MAX = 64,
	TEMPLATES_MAX = 200, /* of one key */
	TEMPLATE_TAGS_MAX = 64,
	TEMPLATE_UNTAGGED_MAX = 10, /* builds that no tag names; older ones go */
	BUILD_ID = 36,
	BUILD_STEPS_MAX = 250,
	BUILD_LINES_MAX = 10000,
	BUILD_LINES_B = 4 * 1024 * 1024,
	BUILD_LINE_MAX = 4096,
	BUILDERS = 2,
	STARTERS = 8,
	FORKERS = 3,
};

#define BUILD_SANDBOX "e2b-build-" /* what names of sandboxes begin with in which steps run */
#define BUILD_DISK "e2b-"	   /* and names of templates that are their result */

enum build_state { BUILD_WAITING, BUILD_RUNNING, BUILD_READY, BUILD_FAILED };

struct build_line {
	int64_t at_ns;
	bool is_error;
	char *text;
};

struct build {
	char id[BUILD_ID + 1];
	enum build_state state;
	char disk[PRIV_ID_MAX + 1]; /* a template of the hub; "" */
	char chain[2 * DIGEST_LEN + 1]; /* hash of all that it was made of */
	char *config; /* JSON: user, workdir, envs, start, ready; NULL: not yet */
	uint32_t cpu, memory_mb; /* 0: as the daemon has them */
	int64_t created_ns, ended_ns;
	char *why, step[16]; /* it failed, and where: "base", a number, "finalize" */
	VEC(char *) tags; /* that it gets when it is ready */
	VEC(struct build_line) lines;
	size_t lines_b;
	bool stop; /* atomic */
};

struct template_tag {
	char name[TEMPLATE_NAME_MAX + 1], build[BUILD_ID + 1];
	int64_t created_ns;
};

/* Guarded by e2b.templates.lock, all of it. */
struct template {
	char id[TEMPLATE_ID + 1], owner[20], name[TEMPLATE_NAME_MAX + 1];
	bool is_public, is_gone;
	bool told; /* it was said that others are called so, too */
	unsigned refs;
	int64_t created_ns, updated_ns, spawned_ns;
	uint64_t spawned;
	VEC(struct build *) builds; /* oldest first */
	VEC(struct template_tag) tags;
};

/* --- registry.c --------------------------------------------------------------------------------------------------- */

/** templates_begin() - read what is known, tidy what an earlier daemon left of builds. Return: 0 or -errno. */
int templates_begin(struct e2b *e2b, struct err *e) MUST_CHECK;
/** templates_stop() - builds under way end soon. */
void templates_stop(struct e2b *e2b);
void templates_fini(struct e2b *e2b);
/** templates_split() - "team/name:tag" into its parts; the tag is "" when there is none. Return: 0; -EINVAL. */
int templates_split(const char *text, char name[TEMPLATE_NAME_MAX + 1], char tag[TEMPLATE_NAME_MAX + 1],
		    struct err *e) MUST_CHECK;
bool templates_word_ok(const char *s);
/** templates_find() - by id or name; @owner: who asks, "" may all. @any: also one of others that is public. The lock is
 * held. */
struct template *templates_find(struct e2b *e2b, const char *owner, const char *id_or_name, bool any);
/** template_find_build() - the lock is held, as for the next two. */
struct build *template_find_build(struct template *t, const char *id);
/* By tag ("": default) or by the id of a build. */
struct build *template_tagged(struct template *t, const char *tag);
void template_tag(struct template *t, const char *tag, const char *build);
/** template_save() - as it is now; removes it from the disk when it is gone. The lock is not held. */
int template_save(struct e2b *e2b, struct template *t, struct err *e) MUST_CHECK;
void template_ref(struct template *t); /* the lock is held */
void template_unref(struct e2b *e2b, struct template *t); /* it is not */
/** templates_names() - does a build name this disk? */
bool templates_names(struct e2b *e2b, const char *disk);
/** templates_sweep() - remove disks that no build names. */
void templates_sweep(struct e2b *e2b);
void build_free(struct build *b);

/* What a sandbox is made with. */
struct template_use {
	char disk[PRIV_ID_MAX + 1], id[TEMPLATE_ID + 1], name[TEMPLATE_NAME_MAX + 1];
	char *config; /* free it */
	uint32_t cpu, memory_mb;
};

/** templates_use() - Return: 0; -ENOENT slug "no-such-template". */
int templates_use(struct e2b *e2b, const char *owner, const char *asked, struct template_use *ret,
		  struct err *e) MUST_CHECK;

/** template_size() - what a build has said, and where it has said nothing what the configuration says. */
void template_size(struct e2b *e2b, uint32_t cpu, uint32_t memory_mb, struct hub_create *what);

/* --- uploads.c ---------------------------------------------------------------------------------------------------- */

/** uploads_begin() - remove what is half. */
void uploads_begin(struct e2b *e2b);
/** uploads_open() - an archive that this key has put there. Return: a descriptor; -ENOENT; -errno. */
int uploads_open(struct e2b *e2b, const char *owner, const char *hash);
/** uploads_ok() - is it a hash as their clients make it? */
bool uploads_ok(const char *hash);

/* --- steps.c ------------------------------------------------------------------------------------------------------ */

/* What a step finds, and the next one, too. */
struct step_state {
	char *user, *workdir;
	VEC(char *) envs; /* "NAME=VALUE" */
};

void step_state_fini(struct step_state *s);
/** step_state_read() - from a config; what is missing is as in "base". */
void step_state_read(struct step_state *s, const struct json *config);
/** step_state_put() - members of an object. */
void step_state_put(const struct step_state *s, struct json_writer *w);
/** step_check() - is it one we know, with what it needs? Return: 0; -EINVAL. */
int step_check(const struct json *step, struct err *e) MUST_CHECK;
/** step_title() - "RUN apt-get update", shortened. On the heap. */
char *step_title(const struct json *step);
/** step_changes() - whether it does something to files that is worth being kept by itself. */
bool step_is_work(const struct json *step);
/** step_apply() - what it means for those behind it. */
void step_apply(const struct json *step, struct step_state *s);
/** step_expand() - $NAME and ${NAME} are what they stand for in @s. On the heap. */
char *step_expand(const char *value, const struct step_state *s);
/** step_source() - the part of COPY's source before any pattern. On the heap. */
char *step_source(const char *src);
/** step_env_set() - "NAME=VALUE". */
void step_env_set(struct step_state *s, const char *name, const char *value);
/** step_env_ok() - may a variable be called so? */
bool step_env_ok(const char *name);

/* --- inside.c ----------------------------------------------------------------------------------------------------- */

/* A command in a sandbox that is waited for. */
struct inside {
	const char *const *argv; /* ended by NULL */
	const char *user, *cwd;
	char *const *envs; /* "NAME=VALUE" */
	size_t n_envs;
	int in_fd; /* its standard input to the end of this file; -1: none */
	uint64_t until;
	const bool *stop; /* atomic; may be NULL */
	int (*output)(void *ctx, bool is_error,
		      struct span data); /* other than 0 breaks it off; NULL: nobody listens */
	void *ctx;
	bool leave; /* return when it has begun; it goes on */
	unsigned how, code; /* yielded: enum wire_exit */
};

/** inside_run() - Return: 0: it ended as yielded; -ETIMEDOUT; -ECANCELED: stop; slug unknown-user, …: it did not begin;
 * -errno of output(). */
int inside_run(struct e2b *e2b, const char *sandbox, struct inside *run, struct err *e) MUST_CHECK;

/* --- begin.c ------------------------------------------------------------------------------------------------------ */

/** begin_is_wanted() - has it a command to start with, or to be ready by? */
bool begin_is_wanted(const struct json *config);
/** begin_run() - start what is to be started, and wait until it is ready; @envs as in struct inside. Return: 0;
 * -ETIMEDOUT slug "not-ready"; -errno. */
int begin_run(struct e2b *e2b, const char *sandbox, const struct json *config, const struct step_state *s, uint64_t ms,
	      const bool *stop, struct err *e) MUST_CHECK;

/* --- image.c ------------------------------------------------------------------------------------------------------ */

/** images_tidy() - remove images of registries: what is half of one, and those that there is no room for. */
void images_tidy(struct e2b *e2b);

/* --- build.c ------------------------------------------------------------------------------------------------------ */

/** build_start() - in the background; @text: the request, JSON. */
void build_start(struct e2b *e2b, struct template *t, struct build *b, struct span text);

#endif
