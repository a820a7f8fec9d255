/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_GUEST_LAB_H
#define TESTS_UNIT_GUEST_LAB_H

/*
 * A real agent as a child process, a workspace for it, and a host in a few lines: connections, commands, and a model of
 * the tree that is built only from what the agent tells and ships.
 */
#include "base/map.h"
#include "base/vec.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <sys/types.h>

struct lab {
	pid_t pid;
	char dir[64], ws[96], address[128], log[96];
	bool mounted;
	int fan; /* fanotify group that is handed down, or -1 */
	uint8_t token[WIRE_TOKEN_LEN];
};

/** lab_start() - @watcher: "fanotify" on an ext4 of its own with a handed-down group, or "inotify" in a directory.
 * Return: false when this machine cannot do it. */
bool lab_start(struct lab *l, const char *watcher);
void lab_stop(struct lab *l);
/** lab_path() - a path in the workspace; static storage, four at a time. */
const char *lab_path(const struct lab *l, const char *name);

/** The agent's disk fails when a directory is listed (EIO). */
extern bool lab_unreadable;

/** What the host's end says to speak; 0: the newest. */
extern unsigned lab_generation;

struct wire {
	int fd;
	struct buf in;
	bool last; /* the frame that was handed out is still in there */
};

/** wire_dial() - connect and say HELLO with @token. Return: false when the agent hung up. */
bool wire_dial(const struct lab *l, struct wire *w, enum wire_kind kind, const uint8_t *token);
void wire_close(struct wire *w);
void wire_send(struct wire *w, enum msg_type type, const void *m);
/** wire_next() - the next frame, decoded into @m (512 bytes); the frame is consumed by the next call. Return: type; 0
 * at the end of the connection. Aborts the test after ten seconds. */
unsigned wire_next(struct wire *w, void *m);
/** wire_ready() - true when a frame can be had without waiting longer than @ms. */
bool wire_ready(struct wire *w, int ms);

struct inode {
	struct msg_NODE node; /* its target is not kept */
	char target[4096];
	uint8_t *data;	   /* what was shipped */
	uint64_t data_len; /* size of the file when it was shipped */
	uint64_t shipped;  /* number of the shipment */
	bool has_data;
	bool absent; /* a host that has no use for it would not have kept it */
	bool names; /* told as one whose content is fetched only when somebody wants it */
};

struct entry {
	uint64_t parent, fid;
	char name[256];
	bool unseen;
};

struct host {
	const struct lab *lab;
	struct wire control, ship;
	struct map inodes;  /* fid -> struct inode */
	struct map entries; /* parent + name -> struct entry */
	uint64_t root, seq, calls, boot;
	unsigned scans, overflows, deltas, gone, ships;
	uint64_t ship_bytes; /* of SHIP_DATA */
	struct shipment {
		struct msg_SHIP ship;
		struct msg_NODE node;
		uint8_t *data;
		bool is_open;
	} now, aside; /* aside: one that rests */
	unsigned asides, voids; /* how often one did; how many came to nothing */
	uint64_t owed;	 /* credit that was not given */
	bool hold_acks; /* do not acknowledge changes */
	bool hold_credit; /* nor give credit for what is shipped */
	unsigned reply; /* type of the last answer to a call, and the call */
	uint64_t reply_call;
	char slug[41]; /* of an error, or the watcher of INFO_IS */
	uint64_t rules, dirs; /* of INFO_IS */
	const char *keep; /* rules that are told, may be NULL; with them the model forgets what has no name */
};

void host_open(struct host *h, const struct lab *l, bool ship);
void host_close(struct host *h);
/** host_open_keep() - the same, with rules of what is kept. host_check() then compares what they keep. */
void host_open_keep(struct host *h, const struct lab *l, bool ship, const char *keep);
/** host_reopen() - lose both connections and come back; the model is kept. */
void host_reopen(struct host *h);
/** host_serve() - handle what the agent says for at most @ms. */
void host_serve(struct host *h, int ms);
/** host_call() - send a call (its first member is the id, set here) and serve until its answer. Return: its type. */
unsigned host_call(struct host *h, enum msg_type type, void *m);
/** inode_put() - the model's, made or changed; host_on_ship() - the next frame about contents. For the lab itself. */
struct inode *inode_put(struct host *h, const struct msg_NODE *n);
void host_on_ship(struct host *h);
/** host_sync() - fetch what was not brought, and sync. Return: the answer's type. */
unsigned host_sync(struct host *h);
/** lab_fill() - bytes that depend on @byte into a file, made where there is none. */
void lab_fill(const char *path, uint64_t at, size_t len, int byte);
/** host_pay() - give credit that is owed, at most so much. */
void host_pay(struct host *h, uint64_t bytes);
/** host_check() - compare the model with the disk. Return: number of differences; the first are printed. */
unsigned host_check(struct host *h, bool contents);

struct run {
	int how, code;
	uint64_t pid;
	char slug[41]; /* of an error at start; "" when it ran */
	struct buf out, err;
};

struct spec {
	const char *id, *cwd, *user, *input;
	const char *const *env;
	uint64_t timeout_ms, credit;
	unsigned stdin_mode;
	bool pty;
	unsigned cols, rows;
};

/** exec_send() - an EXEC on a new connection. @argv ends with NULL. */
void exec_send(const struct lab *l, struct wire *w, const struct spec *s, const char *const *argv);
/** exec_finish() - take output, give credit, until EXIT or ERROR; serves @h (may be NULL) meanwhile. */
void exec_finish(struct wire *w, struct host *h, const struct spec *s, struct run *r);
/** run_it() - both. */
struct run run_it(const struct lab *l, struct host *h, const struct spec *s, const char *const *argv);
void run_fini(struct run *r);
#define RUN(lab, host, spec, ...) run_it(lab, host, spec, (const char *const[]){ __VA_ARGS__, NULL })
#define SPEC(...) (&(struct spec){ __VA_ARGS__ })

/** host_barrier() - run a command: behind its end, all that happened before is told. */
void host_barrier(const struct lab *l, struct host *h);
/** lab_holds_removed() - Return: whether the agent has a file open that has no name any more. */
bool lab_holds_removed(const struct lab *l);

#endif
