/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SECRET_WATCH_H
#define HOST_SECRET_WATCH_H

/*
 * What one sandbox was given, looked for in what it puts out: fingerprints (leak/leak.h), and who is told. Reports are
 * made elsewhere and later, so that whoever finds something does not wait for the disk. docs/leak-watch.md. Any thread.
 */
#include "host/secret/secret.h"
#include "leak/leak.h"
#include "loop/pool.h"

enum watch_mode { WATCH_OFF, WATCH_WARN, WATCH_MASK };
enum { WATCH_TOLD_MAX = 256, WATCH_WHERE_MAX = 200 };

struct watch;

struct watch_conf {
	struct secrets *secrets; /* for the audit */
	struct pool *pool;	 /* where reports are made */
	const char *sandbox, *owner;
	enum watch_mode output;
	bool files;
	/* on that pool; @text: "TOKEN, base64, in the output of process 12" */
	void (*told)(void *ctx, const char *sandbox, const char *text);
	void *ctx; /* outlives the pool */
};

struct watch *watch_new(const struct watch_conf *conf);
struct watch *watch_ref(struct watch *w);
void watch_unref(struct watch **slot);
/** watch_add() - @value was given to it; borrowed. What is too short is not looked for, which the log says once. */
void watch_add(struct watch *w, const char *name, struct span value);
/** watch_output() - what is to be done about output; WATCH_OFF while nothing was given that can be found. */
enum watch_mode watch_output(const struct watch *w);
bool watch_files(const struct watch *w);
struct leaks *watch_leaks(struct watch *w); /* borrowed */
/** watch_tell() - something was found in @where ("the output of process 12"). The first time for a value, a form and a
 * place, at most WATCH_TOLD_MAX times: a row of the audit, an event, a line of the log. Does not block. */
void watch_tell(struct watch *w, const char *where, const char *name, enum leak_form form);

#endif
