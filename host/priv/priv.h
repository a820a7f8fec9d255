/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_PRIV_H
#define HOST_PRIV_PRIV_H

/*
 * The privileged process, seen from the daemon. priv_fork() splits the daemon in two before any thread exists: the
 * child keeps root and serves the closed list of requests below, the parent goes on and gives everything up with
 * priv_confine(). Requests are fixed structs over a SOCK_SEQPACKET socketpair; every field is checked on the other side
 * as if the daemon were hostile. When either process dies the other ends.
 *
 * All calls block for the time of the work (milliseconds; one at a time) and may be made from any thread.
 */
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { PRIV_ID_MAX = 64, PRIV_PATH_MAX = 255, PRIV_PACKAGES_MAX = 4096 };

struct priv;

enum { PRIV_CGROUP_MAX = 255, PRIV_PRIVATE_MAX = 64 };

/* How sandboxes reach the world (docs/network.md). AUTO is asked for, never told. */
enum priv_net_mode { PRIV_NET_NONE, PRIV_NET_AUTO, PRIV_NET_VETH, PRIV_NET_PASTA };

/* An address, or all that begin with its first @len bits; the others are zero. */
struct priv_prefix {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t len;
	uint8_t addr[16]; /* network order; 4 bytes for AF_INET */
};

struct priv_conf {
	char state_dir[PRIV_PATH_MAX + 1];  /* absolute; all state below it */
	char mount_dir[PRIV_PATH_MAX + 1];  /* where the FUSE mount goes */
	char agent_path[PRIV_PATH_MAX + 1]; /* the static agent program */
	char cgroup_parent[PRIV_CGROUP_MAX + 1]; /* group below which ours are, relative; empty: the root */
	uid_t uid;			    /* account of the daemon ("berth") */
	gid_t gid;
	uid_t guest_uid; /* account that the mount shows as owner ("berth-guest") */
	gid_t guest_gid; /* group of those who may read ("berth") */
	uid_t range_first; /* first host id of the ranges for sandboxes; each takes 65536 */
	uint32_t ranges;
	bool allow_fake;
	/* docs/broker.md; path "": none */
	char broker_path[PRIV_PATH_MAX + 1];   /* the program */
	char services_path[2 * PRIV_PATH_MAX]; /* directories of policies, "A:B"; handed on to it */
	char key_path[PRIV_PATH_MAX + 1];      /* a key that the service manager hands us; "": STATE/secrets/host.key */
	uid_t broker_uid;
	gid_t broker_gid;
	uid_t image_uid; /* of the tool that fetches images (docs/images.md) */
	gid_t image_gid;
	uint32_t net_mode;  /* enum priv_net_mode */
	uint32_t net_ready; /* networks that are kept ready for sandboxes to come */
	uint32_t n_private; /* of ranges behind the fence that rules may allow */
	struct priv_prefix private_[PRIV_PRIVATE_MAX];
};

/** priv_fork() - call once, as root, single-threaded. In the child it never returns.
 * Return: 0; -EPERM slug "not-root"; -errno. */
int priv_fork(const struct priv_conf *conf, struct priv **ret, struct err *e) MUST_CHECK;
/** priv_confine() - this process becomes conf.uid without capabilities, with no_new_privs and the seccomp filter (all
 * its threads to come inherit it). Return: 0 or -errno; on failure the caller must end. */
int priv_confine(struct priv *priv, struct err *e) MUST_CHECK;
/** priv_close() - end the privileged process in order (it unmounts what nobody is to keep, leaves sandboxes alone). */
void priv_close(struct priv **priv);
/** priv_fd() - readable or hung up when the privileged process died: watch it. */
int priv_fd(const struct priv *priv);

/** priv_broker_start() - end the broker that is there and start another. It gets these descriptors as 3 and 4 (sockets)
 * and 5 (a memory file), and the key's file as 6; all stay the caller's. Return: 0; -ENOSYS "no-broker"; -errno. */
int priv_broker_start(struct priv *priv, const int fds[3], struct err *e) MUST_CHECK;

/* --- the mount ---------------------------------------------------------------------------------------------------- */

enum { PRIV_CHANNELS = 4, PRIV_WINDOW_MAX_MS = 24 * 3600 * 1000 };

struct priv_mounted {
	int fuse_fd;	  /* the kernel's end */
	int table_fd;	  /* memory file for what the server knows; empty when the mount is new */
	int life_fd;	  /* as long as it is open in the daemon, nobody else is given the mount */
	int links_dirfd;  /* taken over: the directory of links, else -1 */
	int channels[PRIV_CHANNELS]; /* notifications for the kernel are sent here, see fs.h */
	bool taken;	  /* an earlier daemon's, with everybody in it */
};

#define PRIV_MOUNTED_NULL \
	((struct priv_mounted){.fuse_fd = -1, .table_fd = -1, .life_fd = -1, .links_dirfd = -1, \
			       .channels = {-1, -1, -1, -1}})

/** priv_mount() - go on with the mount that an earlier daemon has left with its keeper; else clear what is there, make
 * the directory and mount a new FUSE file system (nosuid,nodev,nosymfollow,default_permissions,allow_other) with a new
 * keeper. Return: 0; -ENOENT slug "no-fuse" (no /dev/fuse); -EBUSY slug "mount-busy" (alive already); -errno. */
int priv_mount(struct priv *priv, struct priv_mounted *ret, struct err *e) MUST_CHECK;
void priv_mounted_fini(struct priv_mounted *m);
/** priv_mount_notify() - whoever takes the channels of the mount is gone: another one, and PRIV_CHANNELS channels to
 * it.
 * @priv: a struct priv, as fs.h calls it. Return: 0 or -errno. */
int priv_mount_notify(void *priv, int *channels, struct err *e) MUST_CHECK;
/** priv_mount_keep() - from now on, when the daemon is gone, the mount waits @window_ms for the next one; 0: it goes at
 * once. Everybody in it waits as long. */
int priv_mount_keep(struct priv *priv, uint32_t window_ms, struct err *e) MUST_CHECK;
/** priv_mount_links() - after the session answers: a small tmpfs on MOUNT/by-name, owned by the daemon; yields a
 * directory descriptor of it. (The mount is nosymfollow; links that people follow must live on a file system of their
 * own.) */
int priv_mount_links(struct priv *priv, int *ret_dirfd, struct err *e) MUST_CHECK;
/** priv_unmount() - both of them, and the keeper; who stands in them is answered ENOTCONN. */
int priv_unmount(struct priv *priv, struct err *e) MUST_CHECK;

/* --- sandboxes ---------------------------------------------------------------------------------------------------- */

enum priv_box_kind { PRIV_BOX_OCI = 1, PRIV_BOX_FAKE = 2 };

/* The writable layer of the root. One that may be kept has the guest's own ids on its disk, whatever the range. */
enum priv_root {
	PRIV_ROOT_PLAIN,
	PRIV_ROOT_KEPT, /* empty, and may be kept */
	PRIV_ROOT_LAID, /* what priv_base_lay() copied for it, and may be kept */
};

/* Which of the disks of a sandbox. BOTH: of one that is to be started again with them. */
enum priv_disk { PRIV_DISK_NONE, PRIV_DISK_WORKSPACE, PRIV_DISK_ROOT, PRIV_DISK_BOTH };

enum { PRIV_VOLUMES_MAX = 8 };

/* The workspace of another sandbox, which runs, at an absolute path of this one: one file system, seen by both. */
struct priv_volume {
	char box[PRIV_ID_MAX + 1];
	char path[PRIV_PATH_MAX + 1];
};

struct priv_box_spec {
	char id[PRIV_ID_MAX + 1];	/* str_is_id */
	char template_[PRIV_ID_MAX + 1]; /* str_is_id; ignored by the fake kind */
	uint32_t kind;			/* enum priv_box_kind */
	uint32_t range;			/* index of the id range, < conf.ranges; unique among running sandboxes */
	uint64_t memory_b, workspace_b;
	uint32_t cpu_milli, pids;
	uint32_t laid; /* the workspace's image is what priv_base_lay() copied for it */
	uint32_t root; /* enum priv_root */
	uint32_t again; /* both disks are where an end with PRIV_DISK_BOTH has left them; they stay when it fails */
	uint32_t n_volumes;
	struct priv_volume volumes[PRIV_VOLUMES_MAX];
	uint32_t net;  /* it has a network beside its loopback; what it may reach says priv_net_policy() */
};

struct priv_box_started {
	pid_t pid;	/* of the agent, host view */
	int pidfd;	/* yours */
	bool fanotify;	/* the agent was given a group marked on the workspace's file system */
	uint32_t uid_base; /* host id of the sandbox's 0; 0 for the fake kind */
};

/** priv_box_start() - make everything (workspace image and mount, idmapped template, overlay, bundle, cgroups, fanotify
 * group) and start the agent as the sandbox's first process. The agent gets: descriptor 3 the listening socket
 * @listen_fd, 4 the token (a pipe or memfd with WIRE_TOKEN_LEN bytes: @token_fd), 5 the fanotify group when there is
 * one, 6 the control group's count of kills for memory; argv: berth-agent --listen fd:3 --token-fd 4 [--fanotify-fd 5]
 * [--oom-fd 6] --id ID --workspace /workspace. A failed start leaves nothing behind. Return: 0; -ENOENT slug
 * "no-such-template"; -ENOENT slug "no-crun"; -EEXIST slug "box-exists"; -ENOSPC; -errno with the runtime's own words.
 */
int priv_box_start(struct priv *priv, const struct priv_box_spec *spec, int listen_fd, int token_fd,
		   struct priv_box_started *ret, struct err *e) MUST_CHECK;
/** priv_box_end() - kill whatever is left of it (cgroup and runtime), unmount and remove everything but the disk @keep
 * (the workspace's of a sandbox that failed: what was not replicated is still there; both of one that is to be started
 * again: they have reached the disk then). Succeeds when nothing is there. */
int priv_box_end(struct priv *priv, const char *id, enum priv_disk keep, struct err *e) MUST_CHECK;
/** priv_box_alive() - Return: the agent's process number (host view) and a pidfd when a sandbox of an earlier daemon
 * still runs, 0 when not, -errno. */
int priv_box_alive(struct priv *priv, const char *id, int *ret_pidfd, struct err *e) MUST_CHECK;
enum priv_freeze {
	PRIV_FREEZE_NONE, /* everything runs */
	PRIV_FREEZE_WORK, /* only the agent runs */
	PRIV_FREEZE_ALL,
};

/** priv_box_freeze() - bring a sandbox to @level; it may be there already. Returns when the processes stand still.
 * Return: 0; -ESRCH slug "not-running"; -ETIMEDOUT slug "freeze-timeout" (a process that the kernel cannot stop now:
 * what was frozen is thawed again); -EOPNOTSUPP slug "no-freezer"; -errno. */
int priv_box_freeze(struct priv *priv, const char *id, enum priv_freeze level, struct err *e) MUST_CHECK;
/* --- bases: disks that others begin with (docs/base.md, docs/templates.md) ---------------------------------------- */

/** priv_base_keep() - the disk that the end of a sandbox has kept becomes base @name, its directory goes.
 * Return: 0; -EBUSY slug "running"; -errno. */
int priv_base_keep(struct priv *priv, const char *id, const char *name, enum priv_disk disk, struct err *e) MUST_CHECK;
/** priv_base_lay() - copy a base for the sandbox @id that is about to be started with spec.laid, or with its root.
 * Blocks for the time of the copy, without keeping other requests waiting. Return: 0; -ENOENT slug "no-base"; -ENOSPC;
 * -errno. */
int priv_base_lay(struct priv *priv, const char *name, const char *id, enum priv_disk disk, struct err *e) MUST_CHECK;
/** priv_base_drop() - Return: 0, also when there is none. */
int priv_base_drop(struct priv *priv, const char *name, struct err *e) MUST_CHECK;

/* --- layers: what a sandbox had written outside of its workspace, kept for others to begin with (docs/snapshots.md) */

/** priv_layer_keep() - the writable layer of the root of a sandbox, which may run but stands still, is copied to layer
 * @name; @copied is called when it need not stand still any more. At the return it has reached the disk. Blocks as
 * priv_base_lay(). Return: 0; -EEXIST; -ENOENT: it has none; -ENOSPC; -errno. */
int priv_layer_keep(struct priv *priv, const char *id, const char *name, void (*copied)(void *ctx), void *ctx,
		    struct err *e) MUST_CHECK;
/** priv_layer_lay() - copy one for the sandbox @id that is about to be started with PRIV_ROOT_LAID. As priv_base_lay().
 */
int priv_layer_lay(struct priv *priv, const char *name, const char *id, struct err *e) MUST_CHECK;
/** priv_layer_drop() - Return: 0, also when there is none. */
int priv_layer_drop(struct priv *priv, const char *name, struct err *e) MUST_CHECK;
/** priv_layer_open() - its image, to be read; yours. Return: 0; -ENOENT; -errno. */
int priv_layer_open(struct priv *priv, const char *name, int *ret_fd, struct err *e) MUST_CHECK;

/** priv_volume_path() - may a volume be mounted there? Absolute, clean, and nothing that every sandbox has. */
bool priv_volume_path(const char *path);

#define PRIV_NOT_SETTLED "not-settled" /* slug of an end: its disks may not be what was written to them */

/** priv_sweep() - end and remove every sandbox below the state directory but those in @keep (n ids), and of these what
 * an end that was cut off has left, but for the images; and what was laid out for none: at start. */
int priv_sweep(struct priv *priv, const char (*keep)[PRIV_ID_MAX + 1], size_t n, struct err *e) MUST_CHECK;

/* --- networks of sandboxes (docs/network.md) ---------------------------------------------------------------------- */

enum { PRIV_NET_RULES_MAX = 128, PRIV_NET_NAMES_MAX = 32, PRIV_NET_LIFE_MAX_S = 7200 };

/* What one sandbox may reach. Allowed goes before denied, denied before open; the fence before all of them. */
struct priv_net_policy {
	uint32_t range; /* the id range of the sandbox, which is also the number of its network */
	uint32_t open;	/* everything that is not denied */
	uint32_t tag;	/* what was allowed by name under another one is not any more; never 0 */
	uint32_t n_allow, n_deny;
	uint32_t proxied; /* its TCP goes to the sockets for proxies, and nothing else of it leaves */
	struct priv_prefix allow[PRIV_NET_RULES_MAX], deny[PRIV_NET_RULES_MAX];
};

struct priv_net_state {
	enum priv_net_mode mode; /* NONE, VETH or PASTA */
	char why[200];		 /* in words, also why it is not another */
	int dns_udp, dns_tcp;	 /* sockets that sandboxes ask for names; yours; -1 without a network */
	int proxy[2];		 /* where the TCP of those with a proxy arrives, of IPv4 and IPv6; the same */
};

/** priv_net_open() - what there is, and the sockets. Call once. */
int priv_net_open(struct priv *priv, struct priv_net_state *ret, struct err *e) MUST_CHECK;
/** priv_net_policy() - from now on, for a sandbox that is about to start or runs. Connections that it does not allow
 * are cut. It goes with the sandbox. Return: 0; -EINVAL; -EOPNOTSUPP slug "no-network"; -errno: the one before still
 * holds.
 */
int priv_net_policy(struct priv *priv, const struct priv_net_policy *policy, struct err *e) MUST_CHECK;
/** priv_net_names() - addresses that the answer to an allowed name has told: allowed for @life_s. */
int priv_net_names(struct priv *priv, uint32_t range, uint32_t life_s, const struct priv_prefix *v, size_t n,
		   struct err *e) MUST_CHECK;
/** priv_net_sockets() - unconnected TCP sockets of the router's, @n of them: what they connect to is let pass as what
 * sandboxes connect to is, but for ranges that the operator has named, which are open to them. Return: 0 or -errno. */
enum { PRIV_NET_SOCKETS_MAX = 8 }; /* IO_FDS_MAX */
int priv_net_sockets(struct priv *priv, int family, int *fds, size_t n, struct err *e) MUST_CHECK;
/** priv_net_home() - the range of the sandbox that has this address. Return: 0; -ENOENT. */
int priv_net_home(const struct priv_prefix *address, uint32_t *ret_range) MUST_CHECK;
/** priv_net_fenced() - is any of it behind the fence: private, local, reserved, not for the internet? */
bool priv_net_fenced(const struct priv_prefix *p);

/* --- templates ---------------------------------------------------------------------------------------------------- */

struct priv_template_spec {
	char name[PRIV_ID_MAX + 1];
	char packages[PRIV_PACKAGES_MAX]; /* names of Debian packages separated by single spaces; "" with a root tarball
					   */
	uint32_t replace;
};

/** priv_template_build() - start building a template, from packages with mmdebstrap (from the mirror and suite of the
 * host's own apt configuration) or from the tarball at @tar_fd (-1: none). It appears under its name only when
 * complete.
 * @log_fd gets all its words; the last line is "berth: ok" or "berth: failed: WHY". Returns at once; the build's
 * process is in @ret_pidfd (wait for it to become readable). Return: 0; -EEXIST slug "template-exists"; -EBUSY; -errno.
 */
int priv_template_build(struct priv *priv, const struct priv_template_spec *spec, int tar_fd, int log_fd,
			int *ret_pidfd, struct err *e) MUST_CHECK;
/** priv_template_remove() - Return: 0; -ENOENT slug "no-such-template"; -EBUSY (a sandbox uses it); -errno. */
int priv_template_remove(struct priv *priv, const char *name, struct err *e) MUST_CHECK;

/* --- images of registries (docs/images.md) ------------------------------------------------------------------------ */

enum { PRIV_IMAGE_MAX = 512, PRIV_AUTH_MAX = 64 * 1024, PRIV_FETCH_S_MAX = 24 * 3600 };
enum priv_fetch_op { PRIV_FETCH_MANIFEST, PRIV_FETCH_IMAGE };

struct priv_fetch_spec {
	char image[PRIV_IMAGE_MAX]; /* "HOST[:PORT]/PATH:TAG" or "...@DIGEST" */
	uint32_t op;	 /* enum priv_fetch_op */
	uint32_t tunnel; /* a port of its loopback at which it finds the registry, without TLS; 0: none */
	uint32_t seconds; /* until it is ended */
	uint64_t room_b; /* for an image */
};

/* What comes on life_fd when the tool is about to begin, with one to three descriptors: a listening socket at which it
 * asks for connections (CONNECT of HTTP), one at its tunnel's port when there is one, the directory that the image goes
 * to, for an image. */
struct priv_fetch_begun {
	struct err err; /* code 0: it begins */
};

/** priv_fetch_start() - run the image tool (skopeo) where there is nothing of the host but its programs: an account of
 * its own, a network that leads nowhere but to these sockets, a disk of spec.room_b. @life_fd: a SEQPACKET socket; the
 * tool ends when its other end is closed. @words_fd: a pipe for all its words, the last line is "berth: ok" or "berth:
 * failed: WHY". @out_fd: a pipe for the manifest. @auth_fd: a memory file with credentials in the form of the tool, or
 * -1. All stay the caller's. Returns at once; its end is that of @ret_pidfd. Return: 0; -EBUSY slug "too-many-fetches";
 * -errno. */
int priv_fetch_start(struct priv *priv, const struct priv_fetch_spec *spec, int life_fd, int words_fd, int out_fd,
		     int auth_fd, int *ret_pidfd, struct err *e) MUST_CHECK;

#endif
