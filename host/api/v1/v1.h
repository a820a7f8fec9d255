/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_V1_V1_H
#define HOST_API_V1_V1_H

/* berth's own front door: HTTP/JSON on a Unix socket, and with keys on TCP. docs/api.md is its page; the routes are in
 * v1.c. */
#include "base/list.h"
#include "host/api/facts.h"
#include "host/api/keys.h"
#include "host/http/http.h"
#include "host/sandbox/event.h"
#include "host/sandbox/hub.h"

struct out_leaks;
struct secrets;
struct api {
	struct hub *hub;
	struct store *store;
	struct loop *loop;
	struct fs *fs;
	struct keys *keys;
	struct events *events;
	struct secrets *secrets;
	struct follow *watchers;
	struct pool *pool;   /* may block for a while */
	struct list waiting; /* for the ends of commands; the loop's */
	struct http *http;
	const struct facts *facts;
	struct network *network; /* of sandboxes */
	const char *box; /* the configured kind */
	const char *mount_dir;
	uint64_t takeover_ms; /* how long the mount waits for the next daemon */
	int64_t started_ns;
	bool ending; /* atomic: whoever waits for a guest gives up */
};

/** v1_init() - what is not given. v1_end() - whoever waits for a guest hears that the daemon ends. Any thread. */
void v1_init(struct api *api);
void v1_end(struct api *api);
/** v1_backup_end() - after http_stop(): wait until no backup reads the store any more. */
void v1_backup_end(void);
/** v1_export_end() - the same of exports. */
void v1_export_end(void);
/* wait.c: the rest of an exec that was sent to the agent on @fd (taken over); http_later() follows. */
void wait_begin(struct api *api, struct http_req *req, struct http_res *res, int fd, struct out_leaks *leaks,
		uint64_t until);

/** v1_routes() - the table and its length; the handlers' context is a struct api. */
const struct http_route *v1_routes(size_t *ret_n);

/* The handlers, one file per family of nouns. */
http_handler v1_health, v1_df, v1_usage, v1_sandbox_create, v1_sandbox_list, v1_sandbox_get, v1_sandbox_kill,
	v1_sandbox_remove, v1_sandbox_pause, v1_sandbox_resume, v1_sandbox_timeout, v1_sandbox_sync, v1_exec, v1_stream,
	v1_ps, v1_signal, v1_file_get, v1_file_put, v1_file_remove, v1_file_list, v1_file_stat, v1_file_make,
	v1_file_rename, v1_template_list, v1_template_build, v1_template_put, v1_template_remove, v1_template_keep_get,
	v1_template_keep_put, v1_fsck, v1_gc, v1_backup, v1_key_create, v1_key_list, v1_key_revoke, v1_events, v1_watch,
	v1_log, v1_file_head, v1_statfs, v1_xattr_get, v1_xattr_put, v1_xattr_remove, v1_xattr_list, v1_metrics,
	v1_host, v1_tunnel, v1_listen, v1_stats, v1_logs, v1_snapshot_create, v1_snapshot_list, v1_snapshot_remove,
	v1_secret_key, v1_secret_list, v1_secret_add, v1_secret_rotate, v1_secret_remove, v1_secret_audit, v1_restore,
	v1_export, v1_import, v1_archive_put, v1_fork, v1_diff, v1_network_get, v1_network_put;

/* The member "disk": of the state directory. */
struct json_writer;
void v1_put_disk(struct json_writer *w, struct hub *hub);
/* A JSON body held against a list of members (json_check); an empty body is an empty object. json_free() it. */
struct json;
int v1_body(struct http_req *req, const char *spec, struct json **ret, struct err *e);
/* A path below the workspace from a body: "KEY_hex", or "KEY"; "" is the workspace. Return: 0; -EINVAL. */
int v1_path_of(const struct json *j, const char *key, char **ret);
/* The tree of "ID@SNAPSHOT", or of the present with "ID"; it stays until store_hold_free(). */
struct store_hold;
int v1_tree_of(struct api *api, const char *what, struct digest *ret, struct store_hold **ret_hold, struct err *e);
/* "file", "dir", "symlink", "fifo", "socket", "other". */
const char *v1_type_of(uint32_t mode);
/* Answer with the lines that a reader follows; it is taken over. */
void v1_follow(struct http_res *res, struct follower *reader);
/* A number from the query. Return: 0; -EINVAL slug "bad-request". */
int v1_query_u64(struct http_req *req, const char *name, uint64_t otherwise, uint64_t *ret, struct err *e);

/* Streams: is an upgrade asked for (-EINVAL slug "upgrade-needed"); answer with one that relays to @fd, taken over. */
/** own.c: does whoever asks see what all made; this one; the sandbox that "ID" or "ID@SNAPSHOT" names (NULL: 0)?
 * Return: 0; -ENOENT slug "no-such-sandbox". */
bool v1_sees_all(const struct http_req *req);
bool v1_is_own(const struct http_req *req, const struct hub_info *i);
int v1_check_own(struct api *api, const struct http_req *req, const char *ref, struct err *e) MUST_CHECK;
bool v1_sees_template(const struct http_req *req, const char *name);
/** v1_prepare() - the front's: the sandbox of a path is one that may be seen. */
int v1_prepare(void *ctx, struct http_req *req, struct err *e);
int v1_upgrade_wanted(struct http_req *req, struct err *e);
void v1_relay(struct api *api, struct http_res *res, int fd, struct out_leaks *leaks);
/* The link of a sandbox that runs; borrowed as long as the workspace is. Return: 0; -EAGAIN slug "not-running". */
int v1_link(struct api *api, struct http_req *req, struct ws **ret_ws, struct link **ret, struct err *e);

/** v1_left_out() - how many files at @path and below of a state of this sandbox have their content elsewhere. Only
 * where there are rules of what is kept: it takes a walk. export.c */
int v1_left_out(struct api *api, const char *id, const struct digest *root, const char *path, uint64_t *ret,
		struct err *e) MUST_CHECK;

/* network.c: the members of what a sandbox may reach; @ret is for policy_fini(). Return: 0 or -errno. */
struct policy;
struct json;
struct json_writer;
int v1_put_network(struct json_writer *w, const struct api *api, const char *id, struct err *e);
int v1_read_network(const struct api *api, const struct json *j, struct policy *ret, struct err *e);

#endif
