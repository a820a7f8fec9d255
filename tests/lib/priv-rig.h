/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_PRIV_RIG_H
#define TESTS_LIB_PRIV_RIG_H

/* A place of its own for each test of the privileged process: a state directory, a mount point, accounts, and a
 * template made of busybox. All functions end the test when something fails. */
#include "base/buf.h"
#include "host/priv/priv.h"

struct rig {
	struct priv_conf conf;
	char dir[128];
	struct priv *priv; /* NULL until rig_fork() */
	int listen;	   /* what the last sandbox listens on */
	char socket[160];
};

/** rig_init() - make it; skips the test when not root or when crun or busybox are missing. */
void rig_init(struct rig *rig);
/** rig_fork() - start the privileged process. */
void rig_fork(struct rig *rig);
/** rig_tiny() - put the template "tiny" there: a static busybox. */
void rig_tiny(struct rig *rig);
/** rig_fini() - end it and remove everything. */
void rig_fini(struct rig *rig);
/** rig_spec() - what a small sandbox named @id asks for. */
struct priv_box_spec rig_spec(const char *id);
/** rig_listen() - a fresh listening socket and token. */
void rig_listen(struct rig *rig, int *token);
/** rig_start() - start a sandbox and wait for nothing. Return: of priv_box_start(). */
int rig_start(struct rig *rig, const struct priv_box_spec *spec, struct priv_box_started *ret, struct err *e);
/** rig_sh() - what @command prints inside the sandbox that was started last; until it closes its output. Static. */
const char *rig_sh(struct rig *rig, const char *command);
/** rig_census() - everything of this rig's that a sandbox could leave behind: mounts, loop devices, control groups,
 * directories, processes. Free with str_free(). */
char *rig_census(const struct rig *rig);

/* RIG_SUITE() - a test suite each of whose tests has a rig with all of it, called rig. */
#define RIG_SUITE(suite, seconds)                                                                                      \
	static struct rig rig;                                                                                         \
	static void rig_begin(void)                                                                                    \
	{                                                                                                              \
		rig_init(&rig);                                                                                        \
		rig_fork(&rig);                                                                                        \
		rig_tiny(&rig);                                                                                        \
	}                                                                                                              \
	static void rig_end(void)                                                                                      \
	{                                                                                                              \
		rig_fini(&rig);                                                                                        \
	}                                                                                                              \
	TestSuite(suite, .init = rig_begin, .fini = rig_end, .timeout = (seconds))

#endif
