/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_PROC_H
#define GUEST_PROC_H

/* Processes that the host started: their streams, their end, their records. */
#include "base/map.h"
#include "guest/child.h"
#include "guest/ring.h"
#include "guest/watch.h"
#include "loop/loop.h"
#include "wire/conn.h"

enum { PROC_ID_MAX = 64, PROC_WORD_MAX = 128, PROC_RECORDS_MAX = 1024, PROC_RUNNING_MAX = 4096, PROC_PAST_MAX = 256 };

struct procs;
struct proc;

/* A command began, or ended and all that it changed was told. */
typedef void procs_tell_fn(void *ctx, const struct proc *p);

/* One direction of output. */
struct out {
	struct proc *proc;
	unsigned stream; /* enum wire_stream */
	int fd;
	struct loop_watch *watch;
	struct ring ring;
	uint64_t left;	/* bytes that still belong to the process that has ended */
	bool ended;	/* the main process was reaped */
	bool last;	/* a terminal after its grace: nothing to read means the end */
	bool done;	/* no more bytes will come */
	uint64_t sent;	/* offset, to who is attached */
	uint64_t credit, window;
	bool holding;	/* nobody is attached, and what he had not consumed, from `held` on, is kept for him */
	uint64_t held;
};

/* Standard input: what the host sent and the process has not read. */
struct in {
	int fd;
	struct loop_watch *watch;
	struct buf buf;
	uint64_t at; /* offset of the next byte that is expected */
	bool end;    /* nothing comes after `at` */
	bool stream; /* the process has an input that can be written to, or had */
};

struct proc {
	struct list node;
	struct procs *procs; /* borrowed: parent */
	char id[PROC_ID_MAX + 1];
	pid_t pid;
	bool pty, reaped, settled; /* settled: the host knows what it changed */
	bool exit_sent;
	bool end_told; /* to the host, as a fact of the workspace's log */
	unsigned how, code;
	bool killed;		     /* with SIGKILL, because the host said so */
	uint64_t tag;		     /* kill_tree() */
	uint64_t oom_before, oom_after; /* kills of the kernel at its start and end */
	unsigned generation;	     /* of who is attached */
	int64_t start_ns;
	struct msg_list argv;
	struct in in;
	struct out out[2]; /* output, error output */
	struct loop_timer *timeout, *grace, *hold;
	uint64_t hold_ms; /* of who is attached */
	uint64_t timeout_at; /* clock_now() */
	struct barrier *barrier;
	struct conn *conn; /* borrowed: who is attached, or NULL */
};

/* Which command something is of: its id and the beginning of its first word; "": not known. */
struct proc_name {
	char id[PROC_ID_MAX + 1], word[PROC_WORD_MAX + 1];
};

/* One whose record is gone. What it left running still has its mark. */
struct proc_past {
	uint64_t tag;
	struct proc_name name;
};

struct procs {
	struct loop *loop;   /* borrowed, like the next two */
	struct watch *watch;
	const char *cwd;
	struct map by_id;
	struct list all;   /* oldest first */
	struct list sinks; /* pipes that survivors still write to */
	size_t n_sinks, n_running, n_records;
	bool paused; /* nobody runs out of time */
	procs_tell_fn *tell;
	void *tell_ctx;
	struct stop *stop; /* a STOP under way */
	uint64_t last_tag;
	uint64_t oom_seen; /* kills of the kernel when we looked last */
	struct proc_past *past; /* PROC_PAST_MAX of them */
	size_t n_past; /* that ever were */
};

void procs_init(struct procs *ps, struct loop *loop, struct watch *watch, const char *cwd);
void procs_fini(struct procs *ps);
struct proc *procs_find(const struct procs *ps, struct span id);
/** procs_marked() - whose descendants have this mark (kill.h), also when it is over, for the last few. Return: whether
 * that is known. */
bool procs_marked(const struct procs *ps, uint64_t tag, struct proc_name *ret);
/** procs_start() - start what an EXEC asks for. Return: 0 and the process, borrowed; -errno with a slug of child.h. */
int procs_start(struct procs *ps, const struct msg_EXEC *m, struct proc **ret, struct err *e) MUST_CHECK;
/** procs_reap() - collect the dead: own ones and orphans. Return: true while there are children. */
bool procs_reap(struct procs *ps);

typedef void procs_stopped_fn(void *ctx, uint64_t call);
/** procs_stop() - end everything, then call @fn. Return: 0; -EALREADY. */
int procs_stop(struct procs *ps, uint64_t grace_ms, uint64_t call, procs_stopped_fn *fn, void *ctx) MUST_CHECK;
/** procs_extend() - everybody was paused: give the time back. */
void procs_extend(struct procs *ps, uint64_t ns);
/** procs_list() - records for PS_IS, for a host of @generation. */
void procs_list(const struct procs *ps, unsigned generation, struct msg_list *to);
/** proc_record() - one of them; with at most @argv_max bytes of words, which are put into @words (to be freed). */
void proc_record(const struct proc *p, unsigned generation, size_t argv_max, struct msg_list *words,
		 struct msg_PROC *ret);

/** proc_attach() - @conn gets STARTED and the output from the offsets on; who was attached before is let go. */
void proc_attach(struct proc *p, struct conn *conn, const struct msg_ATTACH *from);
/** proc_detach() - the connection is lost. */
void proc_detach(struct proc *p);
/** proc_frame() - a frame of who is attached. Return: 0; PROC_E_GONE, the record was acknowledged and @p is freed;
 * -EBADMSG, -EPROTO with words. */
int proc_frame(struct proc *p, const struct frame *f, struct err *e) MUST_CHECK;
enum { PROC_E_GONE = 1 };
/** proc_signal() - to the process and its group, or with @tree to all that descends from it, also when it has ended
 * itself. Return: 0; -ESRCH when nothing is there any more. */
int proc_signal(struct proc *p, int sig, bool tree);
/** proc_pump() - send what can be sent, the end included. */
void proc_pump(struct proc *p);

/* output.c and input.c */
int out_open(struct out *o, struct proc *p, unsigned stream, int fd);
void out_close(struct out *o);
/** out_reaped() - the main process has ended: what is in the pipe now is the rest. */
void out_reaped(struct out *o);
void out_read(struct out *o);
void out_send(struct out *o);
/** out_hold() - the connection is lost: keep what was not consumed, or with @on false: no longer. */
void out_hold(struct out *o, bool on);
int in_open(struct in *in, struct proc *p, int fd);
void in_close(struct in *in);
/** in_ack() - tell who is attached how much was taken. */
void in_ack(struct proc *p);
int in_frame(struct proc *p, const struct frame *f, struct err *e) MUST_CHECK;
/** sink_add() - read and forget what comes out of @fd, so that survivors are not killed by a broken pipe. */
void sink_add(struct procs *ps, int fd);
void sinks_fini(struct procs *ps);

#endif
