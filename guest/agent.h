/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_AGENT_H
#define GUEST_AGENT_H

/* The agent: who is connected, and which part of the house answers which message. */
#include "guest/console.h"
#include "guest/files.h"
#include "guest/proc.h"
#include "guest/service.h"
#include "guest/ship.h"
#include "guest/variables.h"
#include "guest/watch.h"
#include "wire/wire.h"

struct peer;

struct agent_options {
	int listener;
	const char *id, *workspace;
	struct source *source; /* taken over; NULL: no watcher */
	const struct tree *tree;
	uint8_t token[WIRE_TOKEN_LEN];
	bool vm; /* the machine is ours: its clock, its kernel's lines */
};

struct agent {
	struct loop *loop; /* borrowed */
	struct agent_options o;
	uint64_t boot;
	uint64_t started; /* clock_now() */
	struct console console;
	struct loop_watch *accepting;
	int spare; /* a descriptor for fd_shed() */
	struct list peers;
	size_t n_strangers; /* connections that have not said HELLO */
	struct peer *control, *shipping;
	struct watch *watch;
	struct ship *ship;
	struct files files;
	struct procs procs;
	struct services services;
	struct variables variables;
	struct list syncs;
	struct loop_timer *sync_soon;
	bool is_paused;	    /* from a PAUSE to the next control connection */
	uint64_t frozen_at; /* clock_now() of a PAUSE whose end was not told yet; 0: there is none */
};

/** agent_new() - everything but the loop's run. @o is copied, its source and listener are the agent's. Return: 0,
 * -errno. */
int agent_new(struct loop *loop, const struct agent_options *o, struct agent **ret, struct err *e) MUST_CHECK;
void agent_free(struct agent **slot);
/** agent_control() - the control connection, NULL while there is none. */
struct conn *agent_control(const struct agent *a);
/** agent_newest() - the newest generation that this agent speaks; in a file of its own: tests have an older one. */
unsigned agent_newest(void);
/** agent_generation() - of the host at the control connection; 0: there is none. */
unsigned agent_generation(const struct agent *a);
/** agent_speaks() - true when the host at the control connection knows this message. */
bool agent_speaks(const struct agent *a, unsigned type);

/** agent_is_inside() - it is the agent of a sandbox of its own, whose /run, /etc and loopback are not the host's. */
bool agent_is_inside(const struct agent *a);
/** agent_pause() - hang up on all streams, start nothing until a host comes back; nobody runs out of time until
 * agent_thawed(). */
void agent_pause(struct agent *a);
/** agent_thawed() - the workload goes on: give it the time back. */
void agent_thawed(struct agent *a);

/* control.c */
/** control_frame() - a message of the control connection. Return: 0; -errno ends the connection. */
int control_frame(struct agent *a, const struct frame *f, struct err *e) MUST_CHECK;
/** control_command() - tell the host that a command began or ended. */
void control_command(void *agent, const struct proc *p);
/** reply_error() - answer a call, or end a stream with call 0. */
void reply_error(struct conn *c, uint64_t call, const struct err *e);

/* sync.c */
void sync_start(struct agent *a, uint64_t call);
/** syncs_check() - something was settled. */
void syncs_check(struct agent *a);
void syncs_drop(struct agent *a);
/** census() - mark the files below the workspace that somebody has mapped shared and writable. */
void census(struct agent *a);

#endif
