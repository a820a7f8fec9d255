/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_STATE_H
#define HOST_WS_STATE_H

/* What the files of this room share: the workspace object and the steps of a change. Not for other rooms. */
#include "base/list.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/vec.h"
#include "host/ws/calm.h"
#include "host/ws/ws.h"

enum {
	WS_MAGIC = 0x77733031,
	WS_QUEUE_HIGH = 8 * 1024 * 1024, /* unread bytes of an agent at which the link stops reading */
	WS_QUEUE_LOW = 2 * 1024 * 1024,
	WS_WAITERS_MAX = 1024, /* opens that wait for content; one more is answered EAGAIN */
	WS_OP_MS = 20000, /* an operation on a live workspace */
	WS_STORED_TIMES = 8, /* what a guest may make the store take, in sizes of its workspace */
	WS_ENTRY_B = 512,    /* one name for so many bytes of its size */
	WS_ENTRIES_MIN = 65536,
	WS_LINKS_MAX = 65000, /* names of one file, as ext4 has it */
	WS_LINKS_TOLD_MAX = 2 * WS_LINKS_MAX, /* of those told: a scan tells new names before it ends the old ones */
};

/* A frame that waits for the strand; or (type 0) what is to be done behind those that came before. */
struct ws_frame {
	struct list node;
	unsigned type;
	size_t len;
	pool_job_fn *fn;
	void *ctx;
	uint64_t seq; /* of changes: their number; of a shipment: that of the changes it was sent behind; 0: none */
	uint8_t bytes[];
};

/* Somebody who waits for a content, or (fid 0) for the first scan. */
enum { GONE_MAX = 64 };

struct ws_waiter {
	struct list node;
	uint64_t fid, until;
	ws_done_fn *fn;
	void *ctx;
	bool is_holder;	  /* does not wait for the kernel, which may wait for it */
	uint64_t seq;	  /* waits for a shipment behind this batch, until @patience; 0: for any (unsure.c) */
	uint64_t patience;
	char *path;	  /* by which the first inode was known; NULL: none is waited for */
	unsigned renewed; /* so many inodes of that name went while it was waited for them */
};

/* A shipment that is complete but not committed. */
struct ws_shipped {
	uint64_t ship, behind;
	bool is_known; /* false: refused, to be shipped whole */
	struct node node;
	struct content content;
};

typedef VEC(struct ws_change) ws_changes;
typedef VEC(struct ws_shipped) ws_ships;
typedef VEC(uint64_t) ws_fids;

/* A command that runs, and one whose end is told behind the changes of the pass. */
struct ws_command {
	uint64_t seq; /* of the row in which it began */
	char *text;   /* what that row says */
	size_t len;
	bool is_unseen; /* a list of all has not told it yet */
	bool is_over;	/* it ended while nobody was told: the end of the scan is its end */
	uint32_t how;
};
struct ws_ended {
	char id[65];
	uint32_t how;
};

/* One pass of the strand over what was queued: everything it changes becomes one transaction. */
struct ws_pass {
	struct ws *ws;
	struct txn *txn;
	ws_changes changes;
	ws_ships ships;
	ws_fids orphans; /* inodes that lost a name in this pass */
	ws_fids gone;	 /* inodes that the agent could not open: nobody waits for them any longer */
	ws_fids fetch;	 /* inodes that became pending without being announced as written */
	struct story *story; /* what is told of it, NULL: nothing yet */
	VEC(struct ws_ended) ended;
	uint8_t by;	 /* enum journal_by */
	uint64_t seq;	 /* of the batch that is applied, 0: what is done is no batch's */
	uint64_t ack;	 /* highest batch applied, 0: none */
	uint64_t handed_b, given_b; /* what metas "handed" and "given" say then */
	bool scan_done, want_scan, has_changes;
	bool is_shown; /* the kernel has the bytes of this change already */
	bool is_soon;  /* what is made of it need not be durable yet: pass_settle(), pass_commit() */
	uint64_t commit, voided; /* then: its number, and how often something had become void, for late_await() */
};

struct ws {
	uint32_t magic;
	int refs; /* atomic */
	char *id;
	uint32_t tag;
	struct ws_conf conf;
	uint64_t size_b; /* const after start */
	struct ws_leaks *leaks; /* atomic; set once */
	struct wsdb *db;
	struct strand *work, *notify;
	struct strand *acks; /* late.c: of passes that are durable soon */
	struct keep *rules; /* const after start, like the next; NULL: none */
	char *rules_text;
	const struct ws_listener *listener; /* const after start */
	void *listener_ctx;

	struct lock lock; /* guards what follows */
	pthread_cond_t cond;
	enum ws_mode mode;
	struct link *link;
	struct list queue; /* ws_frame */
	size_t queue_b;
	struct list early; /* ws_frame; what came of contents before the changes it was sent behind */
	size_t early_b;
	uint64_t changes_came; /* the newest number on this connection */
	bool is_scheduled, is_paused, is_ready, is_quiet, is_refusing;
	bool is_past; /* a view of a snapshot: nothing in it changes; const once it is shown */
	bool is_told; /* a scan was committed; the kernel may not know yet */
	struct list waiters;
	unsigned waiting; /* how many these are */
	struct node *gone; /* a ring of GONE_MAX; NULL: none yet, or stopped */
	unsigned gone_at;
	struct loop_timer *lazy; /* for commands that began or ended; armed while live */
	struct loop_timer *pace; /* credit that was withheld; armed while some is */
	struct calm calm;
	unsigned hurry; /* syncs that wait for contents */
	bool is_pacing; /* the timer is armed, or will be */
	struct loop_timer *tick; /* deadlines of waiters, retry after trouble; armed while live */
	struct ws_stats stats; /* without the counts */
	uint64_t trouble_at; /* clock_now() of the last trouble, 0: none yet */
	unsigned troubles;   /* one after the other */
	bool is_stuck;	     /* the last one was a store that is full or fails */
	uint64_t boot, disk; /* of the agent; 0: not known */

	struct { /* by the strand, read by anybody: atomic */
		uint64_t batches, records, ships, ship_b, overflows;
	} counts;

	/* the strand's own */
	struct { /* late.c: what may become void still: what was committed up to @upto, and behind it */
		ws_changes old, young;
		uint64_t upto, voided;
		uint64_t acked_at; /* the acks strand's own */
		uint64_t host_at;  /* when the host last wrote; atomic */
	} late;
	struct { /* known.c: inodes that the kernel is told of once more; @any is atomic */
		ws_changes list;
		struct map fids; /* of those in it */
		bool any;
	} once_more;
	bool is_broken; /* a frame of this connection was not applied: none behind it is, until the next one begins */
	struct { /* pull.c: contents that are asked for a few at a time; the strand's, but for what is atomic */
		bool is_on;	 /* atomic */
		bool again;	 /* one more round: something was put off that lies behind @at */
		uint64_t at;	 /* fid of the last that was asked for */
		size_t open;	 /* asked for and not come */
		uint64_t put_off; /* atomic: how often something was not asked for at once */
		uint64_t seen;	 /* by the tick, on the loop: counts.ships */
	} pull;
	uint64_t stored_b;     /* what contents from the guest have made the store take, ever; meta "stored" */
	uint64_t stored_known; /* what the meta says */
	struct ws_quota { /* quota.c: ws.lock guards it */
		uint64_t done;	 /* the last run of the collector that is reckoned with */
		uint64_t seen;	 /* the last that is known to have begun, */
		uint64_t then;	 /* and what had surely been handed over by then */
		uint64_t since;	 /* the same of the one that is reckoned with */
		uint64_t before; /* what had been handed over at the last look */
		uint64_t held_b; /* atomic: what it held in that run */
		uint64_t given_b; /* atomic: what counts no more of what was handed over; meta "given" */
		bool collects;	  /* atomic: somebody does */
		bool is_over;	  /* atomic: when replication halted, then for what it held */
		/* The strand's: what was handed over, ever, whether or not the store had it; meta "handed". */
		uint64_t handed_b, handed_known, given_known;
	} quota;
	struct map suspects; /* of a running scan, suspect.c: fid of a directory -> what it has listed of it */
	uint64_t suspect_n;
	uint64_t small_b; /* credit of small files that is still to be given back */
	bool is_first; /* no scan of this connection has ended yet: who knows what disk it is */
	struct ws_ship {
		bool is_open, is_bad;
		uint64_t ship, behind;
		struct node node;
		struct content_writer *writer;
		struct ws_scan *scan; /* leaks.c; NULL: nothing was looked for in it */
	} ship, aside; /* aside: one that rests while others come */
	struct map unsure; /* unsure.c; ws.lock */
	struct {
		bool is_loaded, is_changed, in_list;
		VEC(struct ws_command) v;
	} commands;
	struct { /* fill.c: what the first scan is expected to tell */
		bool is_on, has_begun;
		struct store_hold *hold; /* until all that is taken from it is in the store */
		struct digest root;
		struct map dirs;  /* fid -> digest of a directory that was told and not listed yet; owned */
		uint64_t dir;	  /* that is being listed, 0: none that is expected */
		struct map names; /* of it -> struct expected; owned */
	} expect;
};

/* What is queued is worked on soon. ws.lock is held. */
void ws_schedule(struct ws *ws);
/* leave.c: tell the agent that nothing is frozen, unless changes are refused. */
void thawed_tell(struct ws *ws);
/* An agent that began again may have come up with another disk: what is on that is not this workspace. The first that
 * is named is the one. On the strand. Return: 0; -EIO with slug "replication-halted"; -errno. */
int ws_same_disk(struct ws *ws, uint64_t disk, struct err *e);
/* A live or stopped workspace could not go on: remember why, dial anew later. */
void ws_trouble(struct ws *ws, const char *slug, const char *why, bool halt);

/* late.c: contents that the pass names are in the store; and the pass is. Durable when they return, or soon
 * (p->is_soon). */
int pass_settle(struct ws_pass *p, struct err *e);
int pass_commit(struct ws_pass *p, struct err *e);
/* What became void (store.h: wsdb_on_void()): @ctx is the workspace. */
void late_void(void *ctx);
void late_fini(struct ws *ws);
/* known.c: what was changed from the mount is durable (wsdb_on_settled()), @ctx is the workspace. */
void known_settled(void *ctx);
void known_fini(struct ws *ws);
/* A reference that is not the last one is given up: also on a strand. Return: whether it was so. */
bool ws_unref_more(struct ws **slot);
/* Is there room for more that is not durable? It is listed. */
bool late_has_room(const struct ws *ws);
/* On the acks strand: until that commit is durable. Return: 0; -EIO: it is void, and the connection is made anew for
 * that; other -errno: who knows, and nobody does. */
int late_await(struct ws *ws, uint64_t commit, uint64_t voided);

/* Something went wrong a short while ago; ws.lock is held. The reason is shown as long, and dials wait longer each
 * time. */
bool ws_in_trouble(const struct ws *ws);
/* pull.c: ask the agent for contents. pull_pass(): for what this pass wants; on the strand, behind its commit.
 * pull_all(): for everything that is pending, any thread. pull_mark(): a number that is another one when something
 * was put off since. pull_reset(): another connection. pull_tick(): once a second, on the loop. */
struct ws_pass;
void pull_pass(struct ws_pass *p);
void pull_all(struct ws *ws);
uint64_t pull_mark(const struct ws *ws);
bool pull_is_on(const struct ws *ws);
void pull_reset(struct ws *ws);
void pull_tick(struct ws *ws);
/* queue.c: run @fn(@ctx) on the work strand, behind what the agent has told by now and before what it tells later: an
 * answer of the agent must not be overtaken. */
void ws_run_behind(struct ws *ws, pool_job_fn *fn, void *ctx);
/* What the agent tells: queued; of contents: kept until the changes are there that the agent sent before them.
 * queue_number() first; then ws.lock is held. queue_drop_early(): no changes come any more; ws.lock is held. */
void queue_number(struct ws_frame *f);
void queue_put(struct ws *ws, struct ws_frame *f);
void queue_drop_early(struct ws *ws);
/* Frames up to the next thing that is to be done between them; ws.lock is held. Return: that, or NULL. */
struct ws_frame *queue_take(struct ws *ws, struct list *frames);
/* What was told is dropped, what is to be done is done. queue_reset(): all that waits, when its connection is gone;
 * ws.lock is held. */
void queue_clear(struct ws *ws, struct list *queue);
void queue_reset(struct ws *ws);

/* apply.c: one CHANGES message into the pass. Return: 0; -EBADMSG with words; -errno (the transaction is spoiled). */
int apply_changes(struct ws_pass *p, const struct msg_CHANGES *m, struct err *e);
/* An inode as told, merged with what the store has. Yields whether attributes or content changed. */
enum { APPLY_WRITTEN = 1, APPLY_SCAN = 2, APPLY_NAMES = 4 /* the content comes only when somebody wants it */ };
int apply_node(struct ws_pass *p, const struct msg_NODE *told, unsigned how, struct node *ret, struct err *e);
/* Users' extended attributes of an inode as told (sound ones); @n is its record as it was put. */
void apply_xattrs(struct ws_pass *p, struct node *n, struct span told);
/* May this inode get a name in that directory? Return: 0; STORE_E_NONE (no such directory); -EBADMSG (the root, a
 * directory inside itself); -errno. */
int apply_may_hold(struct ws_pass *p, uint64_t parent, uint64_t fid, uint32_t mode, struct err *e);
void apply_orphans(struct ws_pass *p);
/* Does the pass make more names or attributes than the workspace may have? Return: 0; -EDQUOT; -errno. */
int apply_count(struct ws_pass *p, struct err *e);
void apply_entry(struct ws_pass *p, uint64_t parent, struct span name, struct node *n);
void apply_gone(struct ws_pass *p, uint64_t parent, struct span name);
void node_from_msg(const struct msg_NODE *m, struct node *ret);

/* suspect.c: names that a running scan has not told again yet; on the strand. suspects_dir(): the listing of a
 * directory begins, maybe anew. Return: 0, -errno. suspects_told(), suspects_gone(): what a name is now is known.
 * suspects_drop(): the directory is gone itself. suspects_end(): what is suspect still is gone. suspects_free():
 * forget all. */
int suspects_dir(struct ws_pass *p, uint64_t dir);
void suspects_told(struct ws *ws, uint64_t dir, struct span name);
void suspects_gone(struct ws *ws, uint64_t dir, struct span name);
void suspects_drop(struct ws *ws, uint64_t dir);
void suspects_end(struct ws_pass *p);
void suspects_free(struct ws *ws);

/* held.c: a file that lost its last name: keep it, if somebody on the host has it open. Return: whether it is kept. */
bool held_keep(struct ws_pass *p, struct node *n);
/** gone_note(), gone_get() - files without a name, for who looked one up a moment ago. */
void gone_note(struct ws *ws, const struct node *n);
bool gone_get(struct ws *ws, uint64_t fid, struct node *ret);
void gone_forget(struct ws *ws);
/* Is it one of those? What is done to it is done in the store alone. */
bool held_is(struct ws *ws, uint64_t fid);

/* kept.c: the rules as they were written down. */
void kept_load(struct ws *ws);
void kept_fini(struct ws *ws);

/* quota.c: what the metas say. */
void quota_open(struct ws *ws, uint64_t handed, uint64_t given);
/* Before each transaction that may bring something, no lock is held: waits for the collector where there is much to
 * collect, and asks it to come where this workspace may have left much. */
void quota_begin(struct ws *ws);
/* The strand: may it have so much more? Return: 0; -EDQUOT slug "quota-exceeded", or "quota-waits": later. */
int quota_check(struct ws *ws, uint64_t stored, uint64_t handed, struct err *e) MUST_CHECK;
/* Replication that halted for what it held may go on, since the last run of the collector found less. Any thread. */
bool quota_is_met(const struct ws *ws);
/* What counts no more of what was handed over. */
uint64_t quota_given(const struct ws *ws);
/* What counts of all that. Any thread, no lock is held. */
uint64_t quota_charged(struct ws *ws, uint64_t stored, uint64_t handed);

/* shipment.c: SHIP, SHIP_DATA, SHIP_END; then what the pass collected into its transaction after settling. */
int ship_frame(struct ws_pass *p, unsigned type, struct span payload, struct err *e);
int ship_commit(struct ws_pass *p, struct err *e);
/* Behind the rows of the changes: which contents have come. */
void ship_tell(struct ws_pass *p);
void ship_reset(struct ws *ws);
/* Keep metas "stored", "handed" and "given". */
void ship_count(struct ws_pass *p);
/* What the host writes counts like what the guest brings: charge what @w made the store take. Return: 0; -EDQUOT. */
int ship_charge(struct ws_pass *p, const struct content_writer *w);

/* shipment.c: how fast large files come (docs/workspace.md, "Calm"). What was withheld is given back now: somebody
 * waits for contents. Any thread; ws.lock is not held. */
void ship_hurry(struct ws *ws);
/* The credit of small files that was not given back one by one; at the end of a pass. */
void ship_given(struct ws *ws);
/* The timer's. On the loop. */
void ship_pace(void *ctx);

/* leaks.c: the next bytes of a shipment; it is over; the workspace is. */
void leaks_look(struct ws_pass *p, struct ws_ship *s, uint64_t offset, struct span data);
void leaks_drop(struct ws_ship *s);
void leaks_end(struct ws *ws);

/* fill.c: a directory's listing begins; an entry of it, whose content may be here (Return: true: it is, @n was
 * changed); the scan is over. */
void expect_dir(struct ws *ws, uint64_t fid, bool is_root);
bool expect_entry(struct ws *ws, uint64_t parent, struct span name, struct node *n);
void expect_end(struct ws *ws);

/* command.c: a COMMANDS message; what is left to do behind the rows of the changes, before the commit (@ok: what was
 * noted is kept; else it failed). */
int commands_frame(struct ws_pass *p, struct span payload, struct err *e);
void commands_finish(struct ws_pass *p);
void commands_forget(struct ws *ws);

/* walk.c: all that is in the directory @top, in the order of a walk; a directory once more (@again) behind what is in
 * it, at last @top itself with the path "". Stops when @fn returns other than 0. The tree is kept by the caller.
 * Return: 0; @fn's; -EIO; -ENAMETOOLONG. */
typedef int ws_walk_fn(void *ctx, const char *path, const struct tree_item *it, bool again);
int ws_walk(struct store *store, const struct tree_item *top, ws_walk_fn *fn, void *ctx);

/* fill.c: the hard links of a tree at @top ("": all) and below: a path, from there, -> that of its group which a walk
 * comes to first. Both are in *@ret_text, to be freed behind the map. Return: 0; -EFBIG; -EIO. */
int links_read(struct store *store, const struct content *links, const char *top, struct map *ret, char **ret_text);

/* story.c: what a pass did, for whoever watches. A name that an inode got (after it has it) or lost (before it has not;
 * @replaced: story_got() of another inode's same name follows at once); an inode that is new, written or has other
 * attributes. Then all of it into the journal, when nothing else comes. */
enum { STORY_NEW = 1, STORY_WRITTEN = 2, STORY_CHMOD = 4 };
void story_got(struct ws_pass *p, uint64_t parent, struct span name, const struct node *n);
void story_lost(struct ws_pass *p, uint64_t parent, struct span name, uint64_t fid, bool replaced);
/* The name that was just lost is given to another inode soon. */
void story_replaced(struct ws_pass *p);
void story_did(struct ws_pass *p, uint64_t fid, unsigned did);
void story_attr(struct ws_pass *p, const struct node *old, const struct node *n, bool written);
void story_tell(struct ws_pass *p);
void story_free(struct ws_pass *p);

/* Lists of changes for the kernel's caches. */
void changes_add(ws_changes *list, uint64_t parent, struct span name, uint64_t fid, bool entry_new, bool data);
void changes_free(ws_changes *list);
/* Before the commit of a pass that changes something, and when that commit failed. */
void ws_announce(struct ws *ws, struct ws_change *v, size_t n);
void ws_retract(struct ws *ws, const struct ws_change *v, size_t n);
/* Tell the listener and then run @then(@ctx), on the notify strand. Takes the list. */
void ws_tell(struct ws *ws, ws_changes *list, pool_job_fn *then, void *ctx);
/* unsure.c: the batch of this pass tells a file as written whose content, or the one that is on its way, may have been
 * read before; kept as a name or not. */
void unsure_note(struct ws_pass *p, const struct node *old, bool is_name);
/* The number behind which a shipment has to be sent to be sure; 0: what is here is. */
uint64_t unsure_seq(struct ws *ws, uint64_t fid);
/* It is committed. */
void unsure_shipped(struct ws *ws, const struct ws_shipped *s);
void unsure_forget(struct ws *ws, uint64_t fid);
void unsure_reset(struct ws *ws);
/* after.c: a pass is committed. Takes its changes, and what is to be acknowledged and answered. */
void after_pass(struct ws_pass *p);
/* Who waits to be sure gets what is here. Return: whether there was something. */
bool waiter_content(struct ws *ws, struct ws_waiter *w);
/* Answer those who wait for these inodes (all of them when @all), with @result. */
void waiters_wake(struct ws *ws, const uint64_t *fids, size_t n, bool all, int result);
void waiter_free(struct ws_waiter *w);
/** waiter_again() - what @w waited for has come (@gone: has no name any more): answer it, or wait on. @w is taken. */
void waiter_again(struct ws *ws, struct ws_waiter *w, bool gone);

#endif
