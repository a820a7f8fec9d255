/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SANDBOX_HUB_H
#define HOST_SANDBOX_HUB_H

/*
 * All sandboxes of this daemon: their states, their making and ending. What the front doors (host/api) call. Every call
 * may be made from any thread that may block, unless it says otherwise; none holds a lock while it waits.
 *
 * States (docs/sandbox.md has the table):
 *
 *	creating -> running -> stopping -> stopped
 *	    |       |  ^   |       |          |
 *	 (gone)     |  |   |       +-> failed +-> (gone, by hub_remove())
 *	     pausing|  |resuming
 *	            v  |
 *	           paused -> stopping
 */
#include "base/err.h"
#include "host/box/box.h"
#include "host/fs/fs.h"
#include "host/net/network.h"
#include "host/priv/priv.h"
#include "host/sandbox/event.h"
#include "host/store/backup.h"
#include "host/ws/fill.h"
#include "host/ws/ws.h"
#include "tar/tar.h"
#include "loop/pool.h"

#include <stdbool.h>

struct hub;
struct secrets;
struct watch;
struct broker;
struct broker_services;

enum sandbox_state {
	SANDBOX_CREATING,
	SANDBOX_RUNNING,
	SANDBOX_PAUSING,
	SANDBOX_PAUSED,
	SANDBOX_RESUMING,
	SANDBOX_STOPPING,
	SANDBOX_STOPPED,
	SANDBOX_FAILED,
	SANDBOX_REMOVED, /* of which only snapshots are left: hub_find_any(), hub_each(), and calls about those know it
			  */
};

enum { HUB_NAME_MAX = 64, HUB_META_MAX = 16384, HUB_SECRETS_MAX = 512, HUB_DOOR_MAX = 65536, HUB_EGRESS_MAX = 32768 };
/* Connections to the broker: of a sandbox, of all. */
enum { HUB_BROKERED_MAX = 256, HUB_BROKERED_ALL = 2048 };

/* What happens to a sandbox when its time is over. REST: it is paused without its memory. */
enum hub_timeout { HUB_TIMEOUT_KILL, HUB_TIMEOUT_PAUSE, HUB_TIMEOUT_REST };

/* How many started sandboxes of a template are kept ready for who asks for one. */
struct hub_pool {
	char template_[PRIV_ID_MAX + 1]; /* or what hub_set_shapes() knows it by */
	unsigned want;
};

struct hub_pool_state {
	char template_[PRIV_ID_MAX + 1];
	unsigned want, ready;
	uint64_t made, taken, missed; /* missed: of that template, and none was ready or it had to be another */
	bool lacks_template;
	char why[128]; /* the last one could not be made; "" */
};

struct hub_conf {
	struct store *store;
	struct loop *loop;
	struct pool *work, *notify, *dial; /* of workspaces (ws.h) */
	struct pool *api; /* may block for long: the ends of sandboxes */
	struct priv *priv;
	struct fs *fs;
	/* Every workspace is in the table and shown, nothing is adopted yet. Return: 0 or -errno, then hub_new() fails.
	 */
	int (*loaded)(void *ctx, struct err *e);
	void *loaded_ctx;
	int links_dirfd;	    /* of MOUNT/by-name; -1: no links */
	const char *run_dir;	    /* for agents' sockets, the daemon's own */
	const char *cgroup_parent;  /* where the groups of sandboxes are; NULL: at the root */
	const char *mount_dir;	    /* as told to people */
	const char *state_dir;	    /* whose disk is watched */
	uint64_t disk_low_b, disk_stop_b; /* free bytes below which nothing is made; all stands still (0: never) */
	const char *template_dir;   /* where templates are */
	const struct box_kind *kind; /* where commands run */
	unsigned bases_max;	    /* disks that are kept to begin others with; 0: none */
	uint64_t bases_max_b;
	uint64_t layers_max_b; /* what snapshots may keep of what is outside of workspaces */
	const struct hub_pool *pools; /* borrowed: what is kept ready */
	size_t n_pools;
	unsigned sandboxes_max;	    /* running at a time, also the number of id ranges */
	uint64_t memory_b, workspace_b; /* defaults and limits of a sandbox */
	uint64_t memory_max_b, workspace_max_b;
	uint32_t cpu_milli, pids;
	uint64_t timeout_ms; /* default life; 0: for ever */
	uint64_t gc_interval_ms; /* at most, between two collections; 0: none by itself */
	uint64_t keep_stopped_ms, keep_stopped_count; /* of stopped sandboxes; 0: for ever, all */
	uint64_t keep_snapshots_ms; /* of whole sandboxes; 0: for ever */
	struct network *network; /* of sandboxes; NULL: they have none */
	struct events *events; /* what happens is told there; may be NULL */
	struct follow *watchers; /* of workspaces (ws.h), like the next */
	enum ws_log log_commands;
	uint64_t calm_rate; /* as in struct ws_conf */
	struct secrets *secrets; /* of the daemon; NULL: none are delivered */
	unsigned watch_output;	 /* enum watch_mode (docs/leak-watch.md) */
	bool watch_files;
	struct broker *broker;	 /* that uses them for sandboxes; NULL: none */
};

/** hub_new() - read what the store knows, end what an earlier daemon left running, show all workspaces on the mount. */
int hub_new(const struct hub_conf *conf, struct hub **ret, struct err *e) MUST_CHECK;
/** hub_restored() - every sandbox in a store that was restored from a backup: what ran has failed; its
 * token is forgotten. Before hub_new(). Return: 0 or -errno. */
int hub_restored(struct store *store, struct err *e) MUST_CHECK;
/** hub_hurry() - the end comes: nothing new is begun, long work that somebody's agent could draw out breaks off. Before
 * the front doors are closed, which waits for what is under way. */
void hub_hurry(struct hub *hub);
/** hub_settle() - what running sandboxes wrote so far is made durable, as far as that can be done in ten seconds;
 * nothing new is begun. Needs a mount that is served, or that is gone. */
void hub_settle(struct hub *hub);
/** hub_free() - forget everything. @end: end those that run; else they go
 * on for the next daemon to adopt. */
void hub_free(struct hub **hub, bool end);

struct hub_moment;

struct hub_create {
	char template_[PRIV_ID_MAX + 1]; /* "": base */
	char name[HUB_NAME_MAX + 1];	 /* "": none; str_is_id; unique among sandboxes that exist */
	char id[PRIV_ID_MAX + 1];	 /* "": chosen here (16 random characters) */
	uint64_t timeout_ms;		 /* 0: the default */
	uint64_t memory_b, workspace_b;	 /* 0: the default */
	uint32_t cpu_milli, pids;	 /* 0: the default */
	char owner[20];			 /* "", or the id of the API key that asks for it */
	uint32_t owner_max;		 /* how many of its own may exist that are not stopped; 0: no limit */
	enum hub_timeout on_timeout;
	const char *from; /* "ID", "ID@SNAPSHOT": whose files it begins with, and whose template and size when none are
			   * given; NULL: none */
	bool whole; /* with a snapshot as @from: also what it has of what was outside of the workspace */
	const struct hub_moment *moment; /* all of it but id, name, time and owner is as there; instead of @from */
	bool no_wait; /* with @from: it runs at once, its files come while commands run already (docs/snapshots.md) */
	const char *secrets; /* names, "A,B": files are there while it runs, variables in its commands; NULL: none */
	struct span egress; /* rules of what is put on its requests (host/broker/rules.h); empty: none */
	const char *keep; /* rules of what is kept of its files, behind those of its template; NULL: none */
	const struct policy *network; /* what it may reach; NULL: as the configuration says */
	const struct priv_volume *volumes; /* workspaces of other sandboxes, which run, at paths of this one */
	uint32_t n_volumes;		   /* at most PRIV_VOLUMES_MAX */
	const char *root; /* what was written outside of its workspace may be kept: hub_keep_root(). "": nothing yet;
			   * else the name of what was kept and is to go on with; NULL: an ordinary one */
	struct span
		meta; /* the caller's own words about it, kept as they are; at most HUB_META_MAX bytes, no newline */
	struct span door; /* the same for a front door, that shows it to nobody; at most HUB_DOOR_MAX */
};

/* What names of sandboxes begin with whose workspace is a volume (docs/decisions/011-volumes.md): they end after those
 * that may have it mounted. */
#define HUB_VOLUME "e2b-volume-"

/* What can be said about a sandbox at one moment: a copy, yours. */
struct hub_info {
	char id[PRIV_ID_MAX + 1];
	char name[HUB_NAME_MAX + 1];
	char template_[PRIV_ID_MAX + 1];
	char owner[20];		 /* id of the API key that it was made with, "" when none */
	enum sandbox_state state;
	char why[160];		 /* a sentence: why it failed or stopped; "" while it runs */
	char mount[512];	 /* directory on the host */
	int64_t created_ns;	 /* wall clock */
	int64_t ends_ns;	 /* when its timeout ends or pauses it; 0: never */
	uint64_t timeout_ms;	 /* the span that was asked for last; 0: for ever */
	enum hub_timeout on_timeout;
	int64_t stopped_ns;	 /* 0 while it runs */
	uint64_t memory_b, workspace_b;
	uint32_t cpu_milli, pids;
	char watcher[24];	 /* of the agent, "" when not running */
	char agent[32];		 /* its version */
	struct ws_stats ws;
	struct ws_filled filled; /* while files are laid out in it: files_all is not 0 */
	bool fills;		 /* it runs, and not all files that it is to begin with are there */
	char fill_why[256];	 /* why they never will be; "" */
	uint64_t pid;		 /* of the agent, host view; 0 when not running */
	uint64_t left_out;	 /* files it was to begin with whose content is nowhere */
	char secrets[HUB_SECRETS_MAX]; /* names that it was made with, "A,B" */
	bool is_cold;		 /* paused without its memory: its disks are there, its processes are not */
	bool has_egress;	 /* it has rules of what is put on its requests */
	bool keep_ignored;	 /* its agent is too old for the rules of what is kept: everything is */
};

/** hub_create() - make and start a sandbox; returns when commands can be run and the mount shows it. A failure leaves
 * nothing behind. Return: 0; slugs no-such-template, name-taken, id-taken, too-many-sandboxes, limit, no-crun, …;
 * -errno. */
int hub_create(struct hub *hub, const struct hub_create *what, struct hub_info *ret, struct err *e) MUST_CHECK;
/** hub_pools() - what is kept ready. @fn may block. */
void hub_pools(struct hub *hub, void (*fn)(void *ctx, const struct hub_pool_state *s), void *ctx);
/** hub_find() - by id or by name. Return: 0; -ENOENT slug "no-such-sandbox". */
int hub_find(struct hub *hub, const char *id_or_name, struct hub_info *ret, struct err *e) MUST_CHECK;
/** hub_find_any() - also one that is still being made, while files are laid out in it, and one that was removed and has
 * snapshots. */
int hub_find_any(struct hub *hub, const char *id_or_name, struct hub_info *ret, struct err *e) MUST_CHECK;
/** hub_each() - call @fn for each sandbox (also stopped and failed ones when @all), oldest first. @fn may block. */
int hub_each(struct hub *hub, bool all, int (*fn)(void *ctx, const struct hub_info *info), void *ctx);
/** hub_kill() - end a running sandbox: its processes get SIGTERM and after @grace_ms SIGKILL, what they wrote becomes
 * durable, everything of it but the workspace is removed. Return: 0; no-such-sandbox; -EALREADY slug "not-running".
 * When not all could be made durable the sandbox is failed, the workspace image is kept and the reason is returned. */
int hub_kill(struct hub *hub, const char *id_or_name, uint64_t grace_ms, struct err *e) MUST_CHECK;
/** hub_pause() - the workload stands still, what it wrote becomes durable, then the agent stands still, too. Streams
 * are cut. Memory and processes are kept; the mount shows the files and refuses writes (EBUSY). Return: 0; -EALREADY
 * slug "not-running" (also when it is paused); freeze-timeout, no-freezer, not-durable, …: it runs on. */
int hub_pause(struct hub *hub, const char *id_or_name, struct err *e) MUST_CHECK;
/** hub_rest() - the same without its memory: its processes are gone then, its disks stay. Return: also -ENOSYS slug
 * "no-layers". */
int hub_rest(struct hub *hub, const char *id_or_name, struct err *e) MUST_CHECK;
/** hub_resume() - the reverse; returns when commands can be run. Its time begins anew: @timeout_ms, or what was asked
 * for last (0). @anew: it forgets its memory first, if it has any. Return: 0; -EALREADY slug "not-paused"; what fails
 * here makes it failed, with its image kept; one without memory stays paused: too-many-sandboxes, no-volume, …. */
int hub_resume(struct hub *hub, const char *id_or_name, uint64_t timeout_ms, bool anew, struct err *e) MUST_CHECK;
/** hub_meta() - append what was given as hub_create.meta. Return: 0; no-such-sandbox. */
int hub_meta(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e) MUST_CHECK;
/** hub_door() - append what was given as hub_create.door. Return: 0; no-such-sandbox. */
int hub_door(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e) MUST_CHECK;
/** hub_derive() - bytes that only the daemon can know, the same for this sandbox and @word (16 characters at most) as
 * long as it runs or is paused. Return: 0; no-such-sandbox. */
struct digest;
int hub_derive(struct hub *hub, const char *id_or_name, const char *word, struct digest *ret, struct err *e) MUST_CHECK;
/** hub_network() - what it may reach; policy_fini(). Return: 1; 0: it has no network; no-such-sandbox. */
int hub_network(struct hub *hub, const char *id_or_name, struct policy *ret, struct err *e) MUST_CHECK;
enum { HUB_KEEP_PROXY = 1, HUB_DROP_RULES = 2 };
/** hub_set_network() - from now on, also of connections that are there. @how: HUB_KEEP_PROXY: the proxy of @p becomes
 * the one that there is; HUB_DROP_RULES: when it gets a proxy, its rules of requests end, else they forbid one. Return:
 * 0; no-such-sandbox; -EAGAIN slug "not-running"; -EOPNOTSUPP slug "no-network"; -EINVAL "proxy-and-rules". */
int hub_set_network(struct hub *hub, const char *id_or_name, struct policy *p, unsigned how, struct err *e)
	MUST_CHECK;
/** hub_egress() - append the rules of what is put on its requests; nothing where it has none. Return: 0;
 * no-such-sandbox. */
int hub_egress(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e) MUST_CHECK;
/** hub_set_egress() - others in their place, from the next request on; empty: none. Return: 0; no-such-sandbox;
 * not-running; no-broker; -EINVAL "bad-rules". */
int hub_set_egress(struct hub *hub, const char *id_or_name, struct span text, struct err *e) MUST_CHECK;
/** hub_keep() - append the rules of what is kept of it, its template's first. Return: 0; no-such-sandbox. */
int hub_keep(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e) MUST_CHECK;

enum hub_disk_state { HUB_DISK_OK, HUB_DISK_LOW, HUB_DISK_FULL };

struct hub_disk {
	uint64_t total_b, free_b, low_b, stop_b;
	enum hub_disk_state state; /* LOW: nothing new is made; FULL: the workloads stand still */
};

struct hub_usage {
	struct ws_usage ws;
	uint64_t store_b; /* of its own environment: names, attributes, journal */
	uint64_t image_b; /* of the images of its file systems; 0 when it does not run and none was kept */
};

/** hub_usage() - Return: 0; no-such-sandbox; -errno. */
int hub_usage(struct hub *hub, const char *id_or_name, struct hub_usage *ret, struct err *e) MUST_CHECK;
/** hub_disk() - of the state directory, not older than some seconds. */
void hub_disk(struct hub *hub, struct hub_disk *ret);
const char *hub_disk_word(enum hub_disk_state s);

/** hub_remove() - delete a sandbox that does not run, with its workspace. Snapshots of all of it stay until they are
 * removed: @ret_left (may be NULL) yields how many. @snapshots: they go, too, also those of one that was removed
 * before. Return: 0; no-such-sandbox; -EBUSY slug "running". */
int hub_remove(struct hub *hub, const char *id_or_name, bool snapshots, unsigned *ret_left, struct err *e) MUST_CHECK;
/** hub_set_timeout() - let it live until @timeout_ms from now (0: for ever). */
int hub_set_timeout(struct hub *hub, const char *id_or_name, uint64_t timeout_ms, struct err *e) MUST_CHECK;
/** hub_ws() - its workspace, a reference to give back with ws_unref(); any state but creating. */
int hub_ws(struct hub *hub, const char *id_or_name, struct ws **ret, struct err *e) MUST_CHECK;
/** hub_dial() - a new stream (WIRE_EXEC) to its agent, hello done; non-blocking, yours. Return: 0; -EAGAIN slug
 * "not-running". */
int hub_dial(struct hub *hub, const char *id_or_name, uint64_t until, int *ret_fd, struct err *e) MUST_CHECK;
/** hub_dial_as() - the same with another enum wire_kind. */
int hub_dial_as(struct hub *hub, const char *id_or_name, unsigned kind, uint64_t until, int *ret_fd,
		struct err *e) MUST_CHECK;
/* What a sandbox uses at a moment. */
struct hub_stats {
	struct msg_METRICS_IS inside; /* cpu_ns, oom_kills and pressure are the control group's where it has them */
	bool pressure_is_own;	      /* else it is that of the machine that the agent sees */
	uint64_t memory_b, memory_peak_b, memory_limit_b, pids, pids_limit, cpu_milli, throttled_us;
	uint64_t cache_b; /* of memory_b */
};
/* Secrets for one command. */
struct hub_secrets {
	const char *names, *who,
		*command; /* "A,B" that it asks for, may be NULL; who asks; what is told in the audit */
};
/** hub_send_secrets() - to a new stream of hub_dial(), before the EXEC: those that are asked for, and those variables
 * that the sandbox was made with. Return: 0; no-such-secret; -EACCES slugs wrong-template, wrong-sandbox,
 * wrong-delivery, expired; -errno. */
int hub_send_secrets(struct hub *hub, const char *id_or_name, int fd, const struct hub_secrets *what,
		     struct err *e) MUST_CHECK;
/** hub_watch() - what this sandbox was given, to be looked for in what it puts out: a reference (watch_unref(),
 * host/secret/watch.h); NULL: it is unknown, or nothing is looked for. */
struct watch *hub_watch(struct hub *hub, const char *id_or_name);
/** hub_services() - what it may use by way of the broker; broker_services_fini(). Return: 0; no-such-sandbox;
 * broker-gone. */
int hub_services(struct hub *hub, const char *id_or_name, struct broker_services *ret, struct err *e) MUST_CHECK;
/** hub_secret_services() - what this secret is for, whoever had it. Return: 0; broker-gone. */
int hub_secret_services(struct hub *hub, const char *name, struct broker_services *ret, struct err *e) MUST_CHECK;
/** hub_stats() - asks the agent. Return: 0; -EAGAIN slug "not-running"; -ENOSYS slug "agent-too-old"; the link's. */
int hub_stats(struct hub *hub, const char *id_or_name, struct hub_stats *ret, struct err *e) MUST_CHECK;
/* What was seen of a running sandbox; each ten seconds, the last hour of it. */
struct hub_sample {
	int64_t wall_ns;
	uint64_t memory_b, cache_b;
	uint64_t disk_b;    /* bytes that the store took for it, ever */
	double cpu_percent; /* of one processor */
};
/** hub_samples() - those between two moments, oldest first; @fn must not block. Return: how many. */
int hub_samples(struct hub *hub, const char *id, int64_t from_ns, int64_t to_ns,
		void (*fn)(void *ctx, const struct hub_sample *s), void *ctx);
struct usage_row;
/** hub_used() - what sandboxes used from an hour on, up to now: store_usage_each(). May block. */
int hub_used(struct hub *hub, uint32_t from_hour, int (*fn)(void *ctx, const struct usage_row *row), void *ctx,
	     struct err *e) MUST_CHECK;
/** hub_sync() - all that was written before is durable. @quiet_ms: for how long nothing may come meanwhile. */
int hub_sync(struct hub *hub, const char *id_or_name, uint64_t quiet_ms, struct err *e) MUST_CHECK;

/* --- snapshots (docs/snapshots.md) -------------------------------------------------------------------------------- */

/* FROZEN: a workload that runs stands still meanwhile. WHOLE: and what it wrote outside of its workspace is in it, too
 * (of one that has a box, and of a kind that can). */
enum hub_how { HUB_FROZEN, HUB_UNFROZEN, HUB_WHOLE };

/** hub_snapshot() - keep the present state under a name ("": made from the time). Return: 0; no-such-sandbox;
 * snapshot-exists, bad-snapshot-name, too-many-snapshots; layers-full; -EAGAIN slug "busy" (it is starting or ending);
 * freeze-timeout, content-missing, store-full …: it runs on. */
int hub_snapshot(struct hub *hub, const char *id_or_name, const char *name, enum hub_how how, struct snapshot *ret,
		 struct err *e) MUST_CHECK;
/** hub_snapshot_door() - append what the door remembered of a sandbox when this snapshot of all of it was made. Return:
 * 0, also when there is nothing; no-such-sandbox; -errno. */
int hub_snapshot_door(struct hub *hub, const char *id_or_name, const char *snapshot, struct buf *to,
		      struct err *e) MUST_CHECK;
/** hub_fsck() - store_fsck(), and that each snapshot's layer is there and the right one. */
int hub_fsck(struct hub *hub, void (*say)(void *ctx, const char *words), void *ctx, struct fsck_stats *ret,
	     struct err *e) MUST_CHECK;
/** hub_backup() - store_backup(), with the layers of all snapshots. */
int hub_backup(struct hub *hub, backup_fn *fn, void *ctx, struct err *e) MUST_CHECK;
struct hub_layers {
	uint64_t n, bytes, max_b;
};
/** hub_layers() - what snapshots have of what was written outside of workspaces. */
void hub_layers(struct hub *hub, struct hub_layers *ret);

/** hub_moment_take() - a running sandbox as it is now, for hub_create.moment; it runs on. hub_moment_free(). Return: 0;
 * as hub_snapshot(); -EBUSY slug "paused". */
int hub_moment_take(struct hub *hub, const char *id_or_name, struct hub_moment **ret, struct err *e) MUST_CHECK;
void hub_moment_free(struct hub_moment **moment);
/** hub_snapshot_each() - in the order of names. */
int hub_snapshot_each(struct hub *hub, const char *id_or_name, int (*fn)(void *ctx, const struct snapshot *s),
		      void *ctx, struct err *e);
/** hub_snapshot_remove() - Return: 0; no-such-sandbox; no-such-snapshot. */
int hub_snapshot_remove(struct hub *hub, const char *id_or_name, const char *name, struct err *e) MUST_CHECK;
/** hub_tree() - the root of a snapshot's tree; of the present state with @name "" (nothing is frozen for it: of a file
 * that is being written the last whole content counts). It stays until store_hold_free(). */
int hub_tree(struct hub *hub, const char *id_or_name, const char *name, struct digest *ret,
	     struct store_hold **ret_hold, struct err *e) MUST_CHECK;
/** hub_restore() - make the workspace equal to a snapshot at @path ("": all of it) and below; a running workload stands
 * still meanwhile. @keep: the present state is kept as a snapshot before, its name is yielded in @ret_kept (which may
 * be NULL). Return: as hub_snapshot(); no-such-snapshot; -ENOENT slug "no-such-path": the snapshot has no such path;
 * paused: -EBUSY slug "paused". */
int hub_restore(struct hub *hub, const char *id_or_name, const char *name, const char *path, bool keep,
		struct snapshot *ret_kept, struct err *e) MUST_CHECK;

struct hub_fork {
	const char *from, *snapshot; /* "": the present state */
	char name[HUB_NAME_MAX + 1]; /* "": none */
	char id[PRIV_ID_MAX + 1];    /* "": chosen here */
	char owner[20];
};

/** hub_state_split() - "ID@SNAPSHOT" into its halves; "ID" is the present, its snapshot is "". free(*ret_id).
 * Return: 0; -EINVAL slug "bad-request". */
int hub_state_split(const char *what, char **ret_id, const char **ret_snapshot, struct err *e) MUST_CHECK;

/** hub_fork() - a stored workspace (a sandbox that is stopped) which shares everything with where it came from.
 * Return: 0; no-such-sandbox; no-such-snapshot; name-taken; id-taken; bad-name; -errno. */
int hub_fork(struct hub *hub, const struct hub_fork *what, struct hub_info *ret, struct err *e) MUST_CHECK;

/* An archive that becomes a stored workspace. */
struct hub_import {
	char name[HUB_NAME_MAX + 1]; /* "": none */
	char owner[20];
	uint64_t workspace_b; /* size of its file system, from which the limits follow; 0: the default */
	uint64_t left_out;    /* yielded: devices */
	struct digest tree;   /* yielded */
};

/** hub_import() - as hub_fork(), from what @get yields. Return: also bad-archive, quota-exceeded. Blocks. */
int hub_import(struct hub *hub, struct hub_import *what, tar_get_fn *get, void *ctx, struct hub_info *ret,
	       struct err *e) MUST_CHECK;

/* An archive whose files come into a workspace. */
struct hub_put {
	const char *path; /* below the workspace; a directory, or nothing yet in one that is there */
	bool keep_top;	  /* its attributes stay when it is there */
	uint64_t files, bytes, left_out; /* yielded: names; bytes without holes; devices */
};

/** hub_put() - what @get yields is laid over what is at @path: of a stopped workspace all of it or nothing; of one that
 * runs until something cannot be, and it is shown at the return. Return: 0; -EBUSY slug "paused"; bad-archive,
 * quota-exceeded; -ENOENT; -ENOTDIR, -EISDIR, -EEXIST: something else stands where it goes; the agent's. Blocks. */
int hub_put(struct hub *hub, const char *id_or_name, struct hub_put *what, tar_get_fn *get, void *ctx,
	    struct err *e) MUST_CHECK;

/* --- what was written outside of a workspace, for steps of builds (docs/templates.md) ---------------------------- */

/** hub_keep_root() - end a sandbox that was made with hub_create.root, and keep what was written outside of its
 * workspace, @name being 64 hexadecimal digits: a cache, which may go at any time. Return: 0; -errno: it has ended or
 * failed. */
int hub_keep_root(struct hub *hub, const char *id, const char *name, struct err *e) MUST_CHECK;
/** hub_has_root() - was it kept, and is it there? */
bool hub_has_root(struct hub *hub, const char *name);

/* --- templates ---------------------------------------------------------------------------------------------------- */

/** hub_template_build() - as priv_template_build(); words arrive on @log_fd, @ret_pidfd tells the end. */
int hub_template_build(struct hub *hub, const struct priv_template_spec *spec, int tar_fd, int log_fd, int *ret_pidfd,
		       struct err *e) MUST_CHECK;
/** hub_template_each() - names of the templates that are complete. */
int hub_template_each(struct hub *hub, int (*fn)(void *ctx, const char *name), void *ctx);

/** struct hub_template - what a sandbox of it has when nothing else is asked for, and when it was put here. */
struct hub_template {
	uint64_t memory_b, workspace_b;
	uint32_t cpu_milli;
	int64_t made_ns; /* 0: not known */
};
/* What a name stands for: a template, and what a sandbox of it is made with when whoever asks does not say; 0: as the
 * configuration has it. */
struct hub_shape {
	char template_[PRIV_ID_MAX + 1];
	uint64_t memory_b;
	uint32_t cpu_milli;
};

/** hub_set_shapes() - somebody who knows more names than the hub does, of templates that have sizes of their own: of
 * [pool], and of the hub's own templates. @fn is called with the hub's lock held; it says whether it knows @name, which
 * is a template of the hub's when @ours. NULL: nobody any more, @fn is not called after the return. */
typedef bool hub_shape_fn(void *ctx, const char *name, bool ours, struct hub_shape *ret);
void hub_set_shapes(struct hub *hub, hub_shape_fn *fn, void *ctx);
/** hub_template_about() - @name NULL: of none, the defaults alone. */
void hub_template_about(struct hub *hub, const char *name, struct hub_template *ret);
/** hub_template_mark() - a number that another build of this template changes; 0: there is none. */
uint64_t hub_template_mark(struct hub *hub, const char *name);
/** hub_template_keep() - append the rules of what is kept of sandboxes that stand on it. Return: 0, also when there are
 * none; -errno. */
int hub_template_keep(struct hub *hub, const char *name, struct buf *to, struct err *e) MUST_CHECK;
/** hub_template_set_keep() - replace them; "": none. Sandboxes that are there go on with what they have. They belong to
 * the name: a template that is built anew has them, too. Return: 0; slugs bad-name, bad-rules; -errno. */
int hub_template_set_keep(struct hub *hub, const char *name, const char *text, struct err *e) MUST_CHECK;
/** hub_template_remove() - with its rules. */
int hub_template_remove(struct hub *hub, const char *name, struct err *e) MUST_CHECK;

const char *sandbox_state_name(enum sandbox_state s);

#endif
