/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_PROC_H
#define HOST_API_E2B_PROC_H

/* A process that somebody follows or once followed; see proc.c. */
#include "host/api/e2b/stream.h"
#include "wire/conn.h"
#include "wire/wire.h"

enum { PROC_DIAL_MS = 10000, PROC_CREDIT_B = 256 * 1024, PROCS_MAX = 1024 };

/* One answer that follows a process. The loop's. */
struct proc_reader {
	struct list node; /* in proc.readers; next is NULL when it hears no more */
	struct proc *proc;
	struct e2b_stream *out;
	struct loop_timer *keepalive, *deadline;
	unsigned keepalive_s;
	uint64_t until; /* of this stream alone; CLOCK_NEVER */
};

struct proc {
	struct list node; /* in e2b.procs; guarded by e2b.lock, as the next two */
	unsigned refs;
	bool is_over;
	char sandbox[PRIV_ID_MAX + 1], id[32];
	struct e2b *e2b;
	char *tag, *config; /* constant; the latter JSON */
	bool is_pty, has_stdin;
	/* The loop's. */
	int fd; /* until there is a connection */
	struct conn *conn;
	struct list readers;
	struct loop_timer *forget;
	struct out_leaks *leaks; /* NULL: nothing is looked for */
	struct loop_timer *late; /* what these keep back */
	bool is_started, is_ended;
	uint64_t pid; /* guarded by e2b.lock */
	struct msg_EXIT exit;
	struct err why; /* it did not start, or its connection is lost */
	uint64_t held[2]; /* consumed by nobody yet: credit that was not given back */
	struct buf input;
	uint64_t in_sent, in_credit;
	bool in_ends, in_ended;
};

/** proc_room() - may there be one more in this sandbox? An agent that tells of no end would make us keep them all. */
bool proc_room(struct e2b *e2b, const char *sandbox, struct err *e) MUST_CHECK;
/** proc_new() - one that was asked for, or joined, on @fd (taken over). Not in the table; one reference is the
 * caller's, the others are taken by proc_enter(). */
struct proc *proc_new(struct e2b *e2b, const char *sandbox, const char *id, int fd);
/** proc_enter() - into the table, and its connection begins. */
void proc_enter(struct proc *p);
void proc_unref(struct proc **slot);
/** proc_known() - by number, or by @tag when it is given; a reference, or NULL. */
struct proc *proc_known(struct e2b *e2b, const char *sandbox, uint64_t pid, const char *tag);
/** proc_follow() - the answer is what it says from now on; for @ms at most, 0: to its end. */
void proc_follow(struct proc *p, struct http_req *req, struct http_res *res, uint64_t ms);

/* Something that is done to a process on the loop, and waited for. */
struct deed {
	struct proc *p;
	enum { DEED_INPUT, DEED_CLOSE, DEED_SIGNAL, DEED_RESIZE } what;
	struct span data;
	uint64_t a, b;
	struct err e;
	int r;
};
/** proc_do() - wait for it. Return: d.r, with d.e. */
int proc_do(struct deed *d);

#endif
