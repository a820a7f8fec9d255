/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_WS_H
#define HOST_WS_WS_H

/*
 * One workspace: the host's copy of a sandbox's /workspace. Live: the agent tells changes and ships contents, writes
 * from the host are performed by the agent. Paused: reads as when stopped, writes are refused (-EBUSY). Stopped: the
 * store alone. docs/workspace.md has the theory.
 *
 * Reads take a snapshot of the store and never wait, except for content that is known to be on its way
 * (ws_open_content()). Everything that changes something is asynchronous: it may have to wait for the agent.
 */
#include "base/err.h"
#include "base/follow.h"
#include "host/link/link.h"
#include "host/store/store.h"
#include "loop/pool.h"

#include <stdbool.h>

struct ws;

enum ws_mode { WS_STOPPED, WS_LIVE, WS_PAUSED };

/* What became different, for the kernel's caches. */
struct ws_change {
	uint64_t parent; /* an entry: its directory; 0: an inode alone */
	char *name;	 /* owned by the list; NULL for an inode alone */
	uint64_t fid;	 /* the inode whose attributes or data changed, 0 with an entry that is gone */
	bool data;	 /* its content too */
	bool entry_new;  /* the name appeared, vanished or names another inode (else only attributes changed) */
	uint64_t ticket; /* in the first of a list that was announced: what announce() yielded for it */
};

/* Who is told of changes. Nothing of it may call back into writes of the same workspace. */
struct ws_listener {
	/* Before a change becomes durable: it may be that we die before anybody hears of it. Yields a ticket, 0 is
	 * none. */
	uint64_t (*announce)(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n);
	/* It did not come about. */
	void (*retract)(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n);
	/* On the workspace's notify strand, after the change is durable and readable; must return only when the kernel
	 * shows nothing older, because the agent is told so then. */
	void (*changed)(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n);
	/* What it knows by itself, since it asked for it; on the workspace's strand, before the commit. */
	void (*known)(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n);
	/* On the workspace's strand: has somebody this file open? Then it is kept without a name until ws_let_go(). */
	bool (*is_open)(void *ctx, struct ws *ws, uint64_t fid);
};

/* What is kept of the commands that run in it: with up to a KiB of their words, the first word, or nothing. */
enum ws_log { WS_LOG_FULL, WS_LOG_NAME, WS_LOG_OFF };

struct leaks;

struct ws_conf {
	struct store *store;
	struct loop *loop;
	struct pool *work;   /* strands of workspaces: applies changes */
	struct pool *notify; /* strands of invalidations */
	struct pool *dial;   /* connects to agents: may block for seconds on one that does not answer */
	struct follow *watchers; /* of the journal, by the id of the workspace; may be NULL */
	enum ws_log log_commands;
	uint64_t calm_rate; /* bytes a second of large files while somebody looks into others; 0: as fast as it can */
};

/** ws_open() - the workspace @id of the store, stopped; @create makes it. Return: 0; as wsdb_open(). */
int ws_open(const struct ws_conf *conf, const char *id, bool create, struct ws **ret, struct err *e) MUST_CHECK;
struct ws *ws_ref(struct ws *ws);
/** ws_unref() - destructor of a reference. The last one waits for its strands. Not from a strand or the loop. */
void ws_unref(struct ws **ws);
const char *ws_id(const struct ws *ws);
struct wsdb *ws_db(struct ws *ws); /* borrowed */
enum ws_mode ws_mode(struct ws *ws);
/** ws_tag() - 32 bits of the id's hash, never 0: the upper half of inode numbers on the mount. */
uint32_t ws_tag(const struct ws *ws);
/** ws_on_change() - who is told of changes (one listener, which must outlive the workspace). Before ws_start(). */
void ws_on_change(struct ws *ws, const struct ws_listener *listener, void *ctx);
/* Values that are looked for in what comes from the sandbox (docs/leak-watch.md). */
struct ws_leaks {
	struct leaks *leaks; /* @ctx keeps it */
	/** found in a file; on the strand, must not block. @form: enum leak_form */
	void (*found)(void *ctx, const char *path, const char *name, unsigned form);
	void (*hold)(void *ctx, bool on); /* a reference more, or one less */
	void *ctx;
};

/** ws_look_for() - from now on; copied. A second time it does nothing. Any thread. */
void ws_look_for(struct ws *ws, const struct ws_leaks *what);
/** ws_retell() - tell the listener once more of a change that was made, before anything that changes from now on. Takes
 * the @changes (an array from malloc with names from malloc). Of those that an earlier process may not have got to:
 * before ws_start(). */
void ws_retell(struct ws *ws, struct ws_change *changes, size_t n);

/** ws_flush() - what the agent has told so far is in the store, commands that began or ended too, when this returns or
 * @until has come. Not from a strand or the loop. */
void ws_flush(struct ws *ws, uint64_t until);
/** ws_commands_end() - it is stopped: no command runs any more. */
void ws_commands_end(struct ws *ws);
/** ws_let_go() - a file that was kept without a name may have been closed. Any thread. */
void ws_let_go(struct ws *ws);

/** ws_entries_max() - how many names a workspace of this size may have. */
uint64_t ws_entries_max(uint64_t size_b);

/** ws_limit() - the size of the file system inside, from which follows what a guest may make the host keep. 0: no
 * limit. Before ws_start(). */
void ws_limit(struct ws *ws, uint64_t size_b);

/** ws_set_keep() - the rules of what is kept of it (docs/keep.md), written down for good; NULL, "": everything. Of a
 * new workspace, before ws_start(). Return: 0; slug "bad-rules"; -errno. */
int ws_set_keep(struct ws *ws, const char *text, struct err *e) MUST_CHECK;
/** ws_keep() - their text, "" when there are none; ws_keep_count() - how many they are. */
const char *ws_keep(const struct ws *ws);
size_t ws_keep_count(const struct ws *ws);
/** ws_is_kept_at() - may something of this path be made from the host while it is live? Else that is -EPERM. */
bool ws_is_kept_at(const struct ws *ws, const char *path, bool is_dir);

/** ws_start() - go live: dial the agent and follow it. One that was paused wakes its link instead. */
void ws_start(struct ws *ws, const char *address, const void *token);
/** ws_wait_ready() - block until the first scan is complete and durable. Return: 0; -ETIMEDOUT; -EIO slug
 * "replication-halted"; the link's failure. */
int ws_wait_ready(struct ws *ws, uint64_t until, struct err *e);
/** ws_sync() - block until everything that the guest wrote before is durable here. Stopped: at once.
 * Return: 0; -ETIMEDOUT (slug "content-missing": the agent said that all is shipped, and it is not); -EPIPE (agent
 * gone);
 * -EIO slug "replication-halted". */
int ws_sync(struct ws *ws, uint64_t until, struct err *e);
/** ws_sync_all() - the same, for as long as something comes: until @quiet_ms have passed without, but no longer than
 * WS_SYNC_TIMES as long, and not after @stop (atomic, may be NULL) was set: then -ECANCELED. */
int ws_sync_all(struct ws *ws, uint64_t quiet_ms, const bool *stop, struct err *e);
enum { WS_SYNC_TIMES = 10 };
/** ws_stop() - leave the agent; what was acknowledged stays. Waiters fail. Blocking; the workspace is stopped then. */
void ws_stop(struct ws *ws);
/** ws_pause() - leave the agent until the next ws_start(). Call it after ws_sync(), while nothing can change inside:
 * what was not acknowledged is told again later. Also for a workspace that was never live (it was paused when an
 * earlier daemon ended). Blocking. */
void ws_pause(struct ws *ws);
/** ws_refuse_changes() - whether changes from the host are refused (EBUSY): while a sandbox is being paused or ended,
 * so that none comes behind the sync, or goes into the store before it is written down that the store is right now.
 * When they are taken again the agent hears that nothing is frozen (THAWED). */
void ws_refuse_changes(struct ws *ws, bool on);
struct link *ws_link(struct ws *ws); /* borrowed while live, NULL when stopped */

/** ws_looked() - the kernel has asked something about it: others keep quiet for a moment (docs/workspace.md, "Calm").
 * Any thread, at every request. */
void ws_looked(struct ws *ws);

struct ws_stats {
	uint64_t batches, records, ships, ship_b, pending, queued_b, held_b;
	bool halted, is_up;
	char why[120]; /* why it halted or is down */
};
void ws_stat(struct ws *ws, struct ws_stats *ret);

/* What a workspace may make the host keep, and what it has. Limits are 0 when there are none. */
struct ws_usage {
	uint64_t entries, entries_max;
	uint64_t brought_b; /* bytes of contents the store took for it and did not have, ever */
	uint64_t charged_b; /* what counts: handed over and not given back by a collection */
	uint64_t brought_max_b;
};
int ws_usage(struct ws *ws, struct ws_usage *ret);

/* --- reading: any thread, never waits for the agent --------------------------------------------------------------- */

uint64_t ws_root(struct ws *ws); /* 0 before the first scan */
/** ws_lookup() - Return: 0; -ENOENT; -errno. */
int ws_lookup(struct ws *ws, uint64_t parent, struct span name, struct node *ret) MUST_CHECK;
int ws_getattr(struct ws *ws, uint64_t fid, struct node *ret) MUST_CHECK;
/** ws_read_dir() - before the entries of a directory are read in @t, for those who do it themselves: one that was not
 * unpacked yet is, in another transaction, and @t begins anew. Return: 0; -errno, then *@t may be NULL. */
int ws_read_dir(struct ws *ws, uint64_t fid, struct txn **t) MUST_CHECK;
/** ws_readlink() - Return: 0 and the target as a heap string; -EINVAL; -errno. */
int ws_readlink(struct ws *ws, uint64_t fid, char **ret) MUST_CHECK;
/** ws_resolve() - a path of the workspace (path.h) without following symlinks. Return: 0; -ENOENT; -ENOTDIR. */
int ws_resolve(struct ws *ws, const char *path, struct node *ret) MUST_CHECK;
/** ws_list() - call @fn for each entry of a directory; stops when it returns non-zero and returns that. */
int ws_list(struct ws *ws, uint64_t fid, int (*fn)(void *ctx, struct span name, const struct node *n), void *ctx);
/** ws_xattrs() - append users' extended attributes, packed (base/xattr.h). Return: 0; -ENOENT; -errno. */
int ws_xattrs(struct ws *ws, uint64_t fid, struct buf *to) MUST_CHECK;
/** ws_read() - from a content that ws_open_content() yielded. Return: bytes, -errno. */
ssize_t ws_read(struct ws *ws, const struct content *c, uint64_t offset, void *to, size_t len);

/** ws_is_kept() - whoever holds a content in a place that fs_contents() tells of: is it sure to stay from now on?
 * Return: 0; -ESTALE: no, the inode has a newer one; -errno. */
int ws_is_kept(struct ws *ws, const struct content *c) MUST_CHECK;
/** ws_next_data() / ws_next_hole() - as SEEK_DATA and SEEK_HOLE. Return: 0 or -ENXIO. */
int ws_next_data(struct ws *ws, const struct content *c, uint64_t offset, uint64_t *ret) MUST_CHECK;
int ws_next_hole(struct ws *ws, const struct content *c, uint64_t offset, uint64_t *ret) MUST_CHECK;

/* --- waiting and writing: any thread, answered on some other thread, exactly once --------------------------------- */

/* A change is answered when all can see it. It is durable then when ws_wait_done() is asked to be called, who blocks;
 * else (the mount) soon, or with ws_settle(). */
typedef void ws_done_fn(void *ctx, int result, const struct node *node);

/** ws_settle() - answer when all that was changed before is durable. -EIO: something is void (docs/decisions/009). */
void ws_settle(struct ws *ws, ws_done_fn *fn, void *ctx);

/** ws_open_content() - yield the inode when its content is whole: at once (from the caller's thread), or when it has
 * arrived; -ETIMEDOUT at @until. -ESTALE: it has no name any more, and what has its name now is whole: look that up. Of
 * one that went just now the last content is yielded. One that is elsewhere is fetched; it cannot be when nobody lives
 * there (-ENODATA) or while it is paused (-EBUSY). */
void ws_open_content(struct ws *ws, uint64_t fid, uint64_t until, ws_done_fn *fn, void *ctx);
/** ws_held_content() - the same for whoever holds what the kernel locks (the pages of a write): does not wait until the
 * kernel knows of the content, which may be never before the answer. */
void ws_held_content(struct ws *ws, uint64_t fid, uint64_t until, ws_done_fn *fn, void *ctx);

/** ws_when_told() - answer when the store has all that the agent had to tell when we came: of a stopped workspace, or
 * after the first scan, at once and from the caller's thread; of one that was just adopted, later, also when it fails.
 * -ETIMEDOUT at @until. */
bool ws_is_told(struct ws *ws); /* would it be answered at once? */
void ws_when_told(struct ws *ws, uint64_t until, ws_done_fn *fn, void *ctx);

/** ws_open_cancel() - whoever waits in ws_open_content() with this @ctx is answered -EINTR soon, on another thread;
 * nothing happens when it was answered already. */
void ws_open_cancel(struct ws *ws, void *ctx);

struct ws_attr { /* which: WIRE_ATTR_* */
	uint32_t which, mode, uid, gid;
	uint64_t size;
	int64_t mtime_ns, atime_ns;
	bool is_shown; /* the listener shows it already, as with WS_SHOWN */
};

/* How to write. Shown: who asks is the kernel, whose pages have these bytes. It must not be told to drop them: it would
 * drop those of writes under way, too, read them again before these are performed, and show the old bytes for ever. */
enum { WS_APPEND = 1, WS_SHOWN = 2 };

/** ws_make() - a file, directory, symlink, FIFO below @parent; owner: that of @parent. */
void ws_make(struct ws *ws, uint64_t parent, struct span name, uint32_t mode, struct span target, ws_done_fn *fn,
	     void *ctx);
void ws_link_node(struct ws *ws, uint64_t fid, uint64_t parent, struct span name, ws_done_fn *fn, void *ctx);
/** ws_remove() - @flags: 0, WIRE_FS_DIR, WIRE_FS_TREE. The node given to @fn is NULL. */
void ws_remove(struct ws *ws, uint64_t parent, struct span name, unsigned flags, ws_done_fn *fn, void *ctx);
void ws_rename(struct ws *ws, uint64_t parent, struct span name, uint64_t to_parent, struct span to_name,
	       unsigned flags, ws_done_fn *fn, void *ctx);
void ws_setattr(struct ws *ws, uint64_t fid, const struct ws_attr *attr, ws_done_fn *fn, void *ctx);
/** ws_write() - bytes at an offset, or at the end with WS_APPEND (then @offset is where the asker takes the end to be);
 * @how: of WS_*. @data is copied. At most 1 MiB. */
void ws_write(struct ws *ws, uint64_t fid, uint64_t offset, struct span data, unsigned how, ws_done_fn *fn, void *ctx);

/** ws_allocate() - for the kernel, as fallocate(2) with KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE. */
void ws_allocate(struct ws *ws, uint64_t fid, int mode, uint64_t offset, uint64_t len, ws_done_fn *fn, void *ctx);
/** ws_set_xattr() - an extended attribute of a user ("user.x"); @value NULL: take it away. @flags: XATTR_CREATE,
 * XATTR_REPLACE. What setxattr(2) answers. @fn is given no node when the agent is too old to tell what it did. */
void ws_set_xattr(struct ws *ws, uint64_t fid, struct span name, const struct span *value, int flags, ws_done_fn *fn,
		  void *ctx);

/* --- going back (docs/snapshots.md) ------------------------------------------------------------------------------- */

/** ws_set_past() - the workspace is a view of a snapshot: changes are refused (-EROFS). Before it is shown. */
void ws_set_past(struct ws *ws);
bool ws_is_past(const struct ws *ws);
/** ws_restore() - a stopped workspace, sealed as the tree @from, becomes the tree @to at @path ("": all of it) and
 * below. @words are kept in the journal. -EAGAIN: it is not @from (any more); -EBUSY: it is live or paused; -ENOENT. No
 * node is yielded. */
void ws_restore(struct ws *ws, const struct digest *from, const struct digest *to, const char *path, const char *words,
		ws_done_fn *fn, void *ctx);
/** ws_graft() - into a stopped workspace: what is in the tree is laid over what is at @path, a directory or nothing yet
 * in one that is there: files and links are replaced by such, directories go on with what they have. All of it or
 * nothing. @keep_top: the attributes of @path stay. @new_b: what the store took for it, of
 * @handed_b. -EBUSY: it is live or paused;
 * -ENOENT, -ENOTDIR, -EISDIR, -EEXIST: something else stands where it goes; -EDQUOT. *@ret_place is then the path, or
 * NULL; free it. No node is yielded. */
void ws_graft(struct ws *ws, const struct digest *tree, const char *path, bool keep_top, uint64_t new_b,
	      uint64_t handed_b, char **ret_place, ws_done_fn *fn, void *ctx);
/** ws_restore_live() - the same for a live one: the agent performs each change. Blocking, may take long. What was done
 * when it fails stays, and the sentence says how far it came. *@stop may become true meanwhile (atomic): it breaks off.
 * Return: 0; -E2BIG slug "too-many-changes"; -ECANCELED; the agent's; -errno. */
int ws_restore_live(struct ws *ws, const struct digest *from, const struct digest *to, const char *path,
		    const bool *stop, struct err *e) MUST_CHECK;

/** ws_do() helpers for threads that may block: turn one of the above into a wait. */
struct ws_wait;
struct ws_wait *ws_wait_new(void);
/** ws_wait_done() - the ws_done_fn to pass, with the ws_wait as ctx. */
void ws_wait_done(void *ctx, int result, const struct node *node);
/** ws_wait_end() - block until it was called; releases the object. Return: the result; @ret (may be NULL) is the node.
 */
int ws_wait_end(struct ws_wait **wait, struct node *ret);

#endif
