/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SANDBOX_STATE_H
#define HOST_SANDBOX_STATE_H

/* What the files of this room share. Not for other rooms. */
#include "base/list.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/vec.h"
#include "host/sandbox/hub.h"
#include "host/sandbox/share.h"
#include "host/store/layer.h"
#include "wire/wire.h"

enum {
	HUB_START_MS = 20000,
	HUB_SYNC_MS = 120000,
	LEAVE_SYNC_MS = 10000,
	END_UP_MS = 15000,
	END_WAIT_MS = HUB_SYNC_MS + 30000, /* of who is going to end one, for whoever works on it */
	HUB_AGAIN_MS = 900000,
	BOOT_ID_MAX = 40
};

/* Everything that is written down about a sandbox, and what goes with it while it runs. */
struct sandbox {
	struct list node; /* in hub.list, oldest first */
	struct hub *hub;
	struct hub_info info; /* guarded by hub.lock */
	uint32_t range;	      /* id range, while it has a box: another may have it afterwards */
	bool has_range;
	uint8_t token[WIRE_TOKEN_LEN];
	unsigned jobs; /* calls and jobs that use it; guarded by hub.lock, hub_remove() waits until there are none */
	struct ws *ws;
	int pidfd;
	bool is_frozen; /* all of it; guarded by hub.lock, as the next two */
	char unsettled[BOOT_ID_MAX]; /* a pause without memory: the boot in which its disks may not have reached the
				      * disk; "": they have; guarded by hub.lock */
	bool is_held;	/* guard.c works on it: whoever wants to change its state waits */
	bool is_wanted; /* atomic: somebody waits for whoever holds it, to end it: long work on it breaks off */
	bool is_stalled; /* its workload is frozen for want of room on the disk */
	bool has_network; /* const while it runs */
	struct policy network; /* guarded by hub.lock */
	char *keep; /* rules, while it is made; may be NULL */
	char *egress; /* guarded by hub.lock; NULL: none */
	char *meta, *door; /* const once it is in the table; may be NULL */
	struct digest from; /* the tree whose files it begins with, while it is made */
	struct store_hold *hold_from; /* on that; owned */
	bool has_from; /* read from a record: its files were still being laid out */
	bool no_wait; /* they are while it runs: @from and @hold_from stay until then */
	bool is_laid; /* its disk is a copy of a base */
	bool is_ready; /* started ahead, nobody's */
	bool is_again; /* while it is started and first told of: with the disks that it had */
	bool is_layered; /* @root_from is a layer, not a base */
	struct priv_volume volumes[PRIV_VOLUMES_MAX]; /* const once it is in the table, as the next two */
	uint32_t n_volumes;
	enum priv_root root; /* PLAIN: of a daemon that knew no other, or of a kind without */
	char root_from[2 * DIGEST_LEN + 1]; /* with ROOT_LAID, while it is made: the base of it */
	char root_to[2 * DIGEST_LEN + 1];   /* as what it is kept when it ends; "": not; of who ends it */
	bool is_found; /* by a daemon that has just started */
	struct watch *leaks; /* once it is asked for; guarded by hub.lock */
	struct digest told; /* the variables of its services, as its agent knows them; guarded by hub.lock */
	struct loop_watch *watch; /* the loop's */
	struct loop_timer *timer; /* the loop's */
};

/* What a snapshot has of what was written outside of the workspace; without @of one that is no snapshot's yet, or is a
 * fork's. */
struct layer {
	char name[2 * DIGEST_LEN + 1]; /* in STATE/layers */
	char of[PRIV_ID_MAX + 1], snapshot[SNAPSHOT_NAME_MAX + 1];
	char owner[20], template_[PRIV_ID_MAX + 1];
	int64_t created_ns;
	uint64_t bytes; /* that it takes on the disk */
	bool is_late; /* its snapshot is gone: it goes when none has to stay */
};

/* One that was made a moment ago. */
struct kept_layer {
	char name[2 * DIGEST_LEN + 1]; /* "": none */
	uint64_t size; /* as in struct layer_words, like the next */
	struct digest digest;
};

/* A snapshot that is looked at on the mount. */
struct view {
	struct ws *ws; /* a reference */
	char of[PRIV_ID_MAX + 1];
};

struct hub {
	struct hub_conf conf;
	struct box_env box_env;
	char *run_dir, *cgroup_parent, *mount_dir, *template_dir;
	struct lock lock;
	pthread_cond_t cond; /* a state changed */
	struct list list;
	struct map by_id, by_name;
	bool *ranges; /* taken */
	bool ending; /* guarded by hub.lock; layers_measure() looks without */
	unsigned adopting; /* sandboxes that were found and are not yet ours */
	char *state_dir;
	struct lock view_lock;
	struct map views; /* id -> struct view; guarded by view_lock */
	struct hub_disk disk; /* guarded by hub.lock */
	pthread_t guard;
	bool has_guard, guard_stop; /* the latter guarded by hub.lock */
	pthread_t collector;
	struct pool *rest; /* of rest.c */
	struct pool *brokered; /* of broker.c, as the next */
	struct share streams;  /* to the broker, by owner */
	struct map base_uses; /* of from.c: name of a base -> what is done with it; guarded by hub.lock */
	VEC(struct layer) layers; /* guarded by hub.lock, as the next */
	unsigned layers_stay; /* who wants none to go */
	struct ahead *ahead; /* of ahead.c; NULL: nothing is kept ready */
	hub_shape_fn *shape; /* guarded by hub.lock, as the next */
	void *shape_ctx;
	struct meter *meter;
	bool has_collector, collect_stop; /* the latter guarded by hub.lock, as the next */
	bool collect_wanted; /* there is garbage, and a run is worth it */
};

/* record.c */
int record_save(struct sandbox *s, struct err *e);
/* The same as a part of a transaction of its workspace. */
int record_put(struct sandbox *s, struct txn *t, struct err *e);
/* That of one of which only snapshots are left, before anybody sees that it is one. */
int record_put_removed(struct sandbox *s, struct txn *t, struct err *e);
/* Return: 0; STORE_E_NONE when the workspace has none; -errno. */
int record_load(struct ws *ws, struct sandbox *s);

/* table, hub.c; with hub.lock held where it says so */
struct sandbox *hub_get(struct hub *hub, const char *id_or_name); /* held */
struct sandbox *hub_get_any(struct hub *hub, const char *id_or_name); /* held; also one that is SANDBOX_REMOVED */
int hub_no_such(const char *what, struct err *e);
int hub_busy(const struct sandbox *s, struct err *e); /* held */
/* hub_ws(), also of one that is SANDBOX_REMOVED: for its snapshots. */
int hub_ws_past(struct hub *hub, const char *id_or_name, struct ws **ret, struct err *e) MUST_CHECK;
int hub_claim(struct hub *hub, struct sandbox *s, unsigned owner_max, struct err *e);
/* Could it, but for an id range? hub.lock is held. */
int hub_may_claim(struct hub *hub, const struct sandbox *s, unsigned owner_max, struct err *e) MUST_CHECK;
/* What a name of [pool] or of a template stands for. The lock is not held. */
void hub_shape(struct hub *hub, const char *name, struct hub_shape *ret);
/* What is asked for, looked at: not in the table yet. hub_free_sandbox(). */
int hub_new_sandbox(struct hub *hub, const struct hub_create *what, struct sandbox **ret, struct err *e) MUST_CHECK;
void hub_free_sandbox(struct sandbox **slot);
void hub_forget(struct hub *hub, struct sandbox *s);
/* An id range for one that has none, while it is started again. */
int hub_claim_range(struct hub *hub, struct sandbox *s, struct err *e) MUST_CHECK;
void hub_drop_range(struct hub *hub, struct sandbox *s); /* hub.lock is held */
/* May anything be stored that is not going to run? hub.lock is held. Return: 0; -ESHUTDOWN; -ENOSPC. */
int hub_may_store(struct hub *hub, struct err *e) MUST_CHECK;
/* One that is not going to run: no id range is taken for it. */
int hub_claim_stored(struct hub *hub, struct sandbox *s, struct err *e);
void hub_random_id(char *to); /* 17 bytes */
void hub_job_done(struct sandbox *s);
/* Into the table. hub.lock is held. */
void hub_insert(struct hub *hub, struct sandbox *s);
/* A sandbox that a call is going to work on, in state @from, moved to @to: counted among its jobs, so that nobody frees
 * it. Waits for whoever works on it: five seconds, some minutes to end it. Return: 0; no-such-sandbox; -EAGAIN slug
 * "busy"; @otherwise with @slug. */
int hub_take(struct hub *hub, const char *id_or_name, unsigned from, enum sandbox_state to, int otherwise,
	     const char *slug, struct sandbox **ret, struct err *e);
#define HUB_IN(state) (1U << (state))
void hub_set_state(struct sandbox *s, enum sandbox_state state, const char *why);
void hub_tell(struct sandbox *s, const char *what, const char *why); /* the event "sandbox.WHAT"; nothing held */

/* stats.c: from the control groups; 0: they are not there. */
uint64_t stats_cpu_ns(struct hub *hub, const char *id);
uint64_t stats_memory_b(struct hub *hub, const char *id, uint64_t *ret_cache_b);

/* meter.c: begin with what is in the store, when the table is there; the thread, and its end; write all down; a sandbox
 * changed its state (no lock is held). */
int meter_begin(struct hub *hub, struct err *e) MUST_CHECK;
int meter_start(struct hub *hub, struct err *e) MUST_CHECK;
void meter_stop(struct hub *hub);
void meter_end(struct hub *hub);
void meter_state(struct hub *hub, const struct hub_info *i);
int meter_write(struct hub *hub, struct err *e) MUST_CHECK;

/* stats.c: what the kernel killed in it for memory; also when its agent is dead, as long as the group is there. */
uint64_t stats_oom_kills(struct sandbox *s);

/* template.c: rules of what is kept: those of the template, and behind them its own, known to be good. free(*ret);
 * NULL: there are none. */
int hub_rules(struct hub *hub, const char *template_, const char *own, char **ret, struct err *e);

/* network.c: what it may reach, as asked for (NULL: as the configuration says). */
int network_begin(struct sandbox *s, const struct policy *asked, struct err *e);
/* One that an earlier daemon left. */
int network_adopt(struct sandbox *s, struct err *e);
/* The lines of its record. */
/* A line of the record, of one with a proxy or without. */
void network_load(struct sandbox *s, const char *line, bool proxied);
int network_no_rules(struct err *e);
void network_record(const struct sandbox *s, struct buf *to); /* hub.lock is held */

/* life.c */
/* Its box runs and its agent has told the workspace; then it is told to everybody. A failure leaves nothing. */
int life_begin(struct sandbox *s, struct err *e) MUST_CHECK;
int life_finish(struct sandbox *s, struct err *e) MUST_CHECK;
/* One that was begun, and not finished, goes. */
void life_undo(struct sandbox *s);
void life_dial(struct sandbox *s, const char *address); /* an agent that runs: the workspace is live from now on */
int life_attach(struct sandbox *s, struct err *e);	/* wait for its first scan */
void life_show(struct sandbox *s);
void life_watch(struct sandbox *s); /* death and timeout */
void life_unwatch(struct sandbox *s);
/* When its time is over, counted from now. hub.lock is held. */
void life_deadline(struct sandbox *s, uint64_t timeout_ms);
/* Set the timer to the deadline. Not on the loop, hub.lock is not held. */
void life_arm(struct sandbox *s);
bool life_agent_lives(const struct sandbox *s);
/* The agent is gone; the caller has moved it to stopping. */
void life_bury(struct sandbox *s);
/* The same of one that is lost otherwise: nothing of its box stays but the workspace. */
void life_fail(struct sandbox *s, const char *why);
int life_end(struct sandbox *s, uint64_t grace_ms, const char *why, struct err *e);

/* view.c */
int views_open(void *ctx, struct ws *ws, const char *name, struct ws **ret);
void views_drop(struct hub *hub, const char *of, const struct snapshot *s);
void views_drop_all(struct hub *hub, const char *of);
/* Those that the kernel knows go on; the others are removed. When all workspaces are shown, before the mount serves. */
void views_load(struct hub *hub);
void views_end(struct hub *hub);

/* past.c */
/* For long work on a sandbox that goes on meanwhile: nobody pauses or restores it, who ends it makes the work break off
 * (is_wanted). Return: 0 and it is counted among the jobs; no-such-sandbox; busy, disk-full, ending. */
int past_hold(struct hub *hub, const char *id_or_name, struct sandbox **ret, struct err *e) MUST_CHECK;
void past_release(struct sandbox *s);
/* One that is held, at one moment. */
struct stillness {
	bool whole; /* also what is outside of the workspace, of one that has that */
	struct digest tree;
	struct store_hold *hold; /* on that; yours */
	uint64_t seq; /* of the journal's last row before it */
	struct kept_layer layer; /* yours: layers_drop() */
};
/* Sealed, copied, and durable; a workload that stood still goes on before that, when it is copied. When it fails
 * nothing is left. */
int past_still(struct sandbox *s, struct stillness *still, struct err *e) MUST_CHECK;

/* from.c */
/* The tree of @what->from becomes what @s begins with; what that sandbox stands on and its size go into @with, unless
 * others are asked for. */
int from_begin(struct hub *hub, const struct hub_create *what, struct sandbox *s, struct hub_create *with,
	       struct err *e) MUST_CHECK;
/* Start its box and bring the files into it, or find them there. Before its agent is told to replicate. */
int from_start(struct sandbox *s, char *address, size_t size, struct err *e) MUST_CHECK;
/* The disk is short: bases are the first to go. */
void from_drop_bases(struct hub *hub);
/* There is one more. */
void from_trim_bases(struct hub *hub, const char *but);
bool from_has_base(const struct hub *hub, const char *name);
void from_end(struct hub *hub);
void from_progress(void *ctx, const struct ws_filled *now); /* @ctx: the sandbox */

/* rest.c */
/* The rest of its files, if some are to come while it runs: when it begins to run, and goes on. */
void rest_go_on(struct sandbox *s);
int rest_begin(struct hub *hub, struct err *e) MUST_CHECK;
void rest_end(struct hub *hub);
/* As it was written down: "hex" of the tree. */
void rest_load(struct sandbox *s, const char *hex);

/* life.c: for from_start() */
int life_start_box(struct sandbox *s, char *address, size_t size, struct err *e) MUST_CHECK;

/* remove.c */
bool remove_is_over(const struct sandbox *s); /* it was removed, and its last snapshot has gone */
void remove_when_bare(struct hub *hub, const char *id); /* then it goes; a snapshot of it has just gone */

/* layer.c */
/* As asked for in hub_create.root. */
int layer_set(struct sandbox *s, const char *root, struct err *e) MUST_CHECK;
/* Before its box is started. */
int layer_begin(struct sandbox *s, struct err *e) MUST_CHECK;
/* When its box has ended with that disk kept. */
void layer_keep(struct sandbox *s);

/* layers.c */
bool layers_can(const struct sandbox *s);
bool layers_own(const char *fact); /* a fact of a workspace that is this file's */
/* At the start: what a sandbox's snapshots have; when all were asked and told it, what nobody has goes. */
int layers_load(struct sandbox *s) MUST_CHECK;
void layers_sweep(struct hub *hub);
/* A copy of what a sandbox that stands still has outside of its workspace, under a name of its own; @copied: it may
 * go on. And away. */
int layers_keep(struct sandbox *s, struct kept_layer *layer, void (*copied)(void *ctx), void *ctx,
		struct err *e) MUST_CHECK;
void layers_measure(struct hub *hub, struct kept_layer *layer); /* for who writes it down */
void layers_drop(struct hub *hub, const char *layer);
/* Until it is said off again as often, the files of all stay: what a transaction that begins now names is there. */
void layers_stay(struct hub *hub, bool on);
/* As a part of the transaction that writes down, or removes, a snapshot. */
int layers_put(struct sandbox *s, struct txn *t, const char *snapshot, const struct kept_layer *layer,
	       struct err *e) MUST_CHECK;
int layers_del(struct txn *t, const char *snapshot) MUST_CHECK;
int layers_get(struct txn *t, const char *snapshot, struct layer_words *ret) MUST_CHECK; /* STORE_E_NONE */
/* When that is committed. */
void layers_noted(struct sandbox *s, const struct snapshot *snapshot, const struct kept_layer *layer);
void layers_forget(struct hub *hub, const char *of); /* all of a sandbox */
void layers_forget_one(struct hub *hub, const char *layer);
bool layers_use_template(const struct hub *hub, const char *template_); /* hub.lock is held */
/* @s begins with what this snapshot has of it, if it has. */
int layers_begin(struct sandbox *s, struct txn *t, const char *snapshot, struct hub_create *with,
		 struct err *e) MUST_CHECK;

/* moment.c */
int moment_begin(const struct hub_moment *m, struct sandbox *s, struct hub_create *with, struct err *e) MUST_CHECK;

/* ahead.c */
int ahead_start(struct hub *hub, struct err *e) MUST_CHECK;
void ahead_stop(struct hub *hub);
/* One that is ready becomes what @s was asked to be, if there is one that can: then life_finish() is all that is left,
 * and @s can go. Return: 0, with @ret NULL when there is none; as hub_may_claim(). */
int ahead_take(struct hub *hub, const struct hub_create *what, struct sandbox *s, struct sandbox **ret,
	       struct err *e) MUST_CHECK;
/* One goes, so that another may have its id range. Return: whether there was one. */
bool ahead_give(struct hub *hub);
void ahead_drop(struct hub *hub, const char *template_); /* all that stand on it */
void ahead_others(struct hub *hub, int more); /* sandboxes that somebody waits for */

/* collect.c */
int collect_start(struct hub *hub, struct err *e);
void collect_stop(struct hub *hub);

/* guard.c */
int guard_start(struct hub *hub, struct err *e);
void guard_stop(struct hub *hub);
/* Is the disk too full to make anything? Then @e says so (-ENOSPC slug "disk-low"). hub.lock is held. */
bool guard_is_low(struct hub *hub, struct err *e);
/* Before it is ended; the caller has moved it to stopping. */
void guard_unstall(struct sandbox *s);

/* secret.c */
/* May it have all of these? Before it is started. */
int secret_check(struct hub *hub, const struct hub_info *i, const char *names, struct err *e) MUST_CHECK;
/* Files of secrets: when it begins to run; after a pause, where one that may not be had any more is left away; and
 * away. */
int secret_files(struct sandbox *s, struct err *e) MUST_CHECK;
void secret_files_again(struct sandbox *s);
void secret_files_drop(struct sandbox *s);

/* leak.c */
struct secret;
/* It was given this value. */
void leak_given(struct hub *hub, const char *id, struct ws *ws, const char *name, struct secret *value);

/* broker.c */
int broker_begin(struct hub *hub, struct err *e) MUST_CHECK;
/* When no link calls back any more. */
void broker_end(struct hub *hub);
/* Is a service there for this secret? */
int broker_check(struct hub *hub, const struct hub_info *i, const char *name, struct err *e) MUST_CHECK;
/* Its agent listens for the broker and has the variables of its services: when it begins to run; after a pause, or of
 * an earlier daemon; before a command, in case that they are others now. Without services nothing happens. */
int broker_offer(struct sandbox *s, struct err *e) MUST_CHECK;
void broker_offer_again(struct sandbox *s);
void broker_refresh(struct hub *hub, const struct hub_info *i, struct ws *ws);

/* The same when it has other rules. */
int broker_offer_others(struct sandbox *s, struct err *e) MUST_CHECK;

/* egress.c */
/* As asked for, while it is made. */
int egress_begin(struct sandbox *s, struct span asked, struct err *e) MUST_CHECK;
/* The broker knows what it has. */
int egress_tell(struct hub *hub, const char *id, struct err *e) MUST_CHECK;
/* It has ended. */
void egress_forget(struct sandbox *s);

/* pause.c */
/* From pausing to paused, or back to running. @cold: without its memory. */
int pause_run(struct sandbox *s, bool cold, struct err *e);
/* What an earlier daemon left paused or, perhaps, half way: bring the processes to what the record says. */
int pause_adopt(struct sandbox *s, struct err *e);

#endif
