/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BERTH_CLIENT_H
#define BERTH_CLIENT_H

/*
 * libberth: talk to a berth daemon. The command line `berth` uses nothing else.
 *
 * A struct berth is one client: not for several threads at a time; make one per thread. Functions return 0 or a
 * negative errno and then fill *e (which may be NULL). Strings that are returned are yours: free() them. Paths are
 * below /workspace, absolute ("/workspace/a") or relative to it ("a"); ".." is refused. Sandboxes are named by id or
 * name. Sizes are bytes, times are nanoseconds since 1970 unless the name says _ms.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined __GNUC__
#define BERTH_API __attribute__((visibility("default")))
#else
#define BERTH_API
#endif

struct berth;
struct berth_listener;
struct berth_stream;
struct berth_tunnel;

struct berth_error {
	int code;	 /* negative errno */
	int status;	 /* HTTP status, 0 when there was no answer */
	char slug[40];	 /* stable word: "no-such-sandbox" */
	char text[240];	 /* a sentence */
};

/** berth_open() - a client for the daemon at @address: "unix:/PATH" or "http://HOST:PORT"; NULL: $BERTH_URL, else the
 * packaged default unix:/var/lib/berth/run/api.sock. The key is $BERTH_API_KEY. Nothing is sent yet. Errors: -EINVAL
 * (address). */
BERTH_API int berth_open(const char *address, struct berth **ret, struct berth_error *e);
BERTH_API void berth_close(struct berth **b);
/** berth_set_key() - another API key than $BERTH_API_KEY; NULL: none. It goes to the daemon in the clear: over HTTP to
 * another machine put something that encrypts between the two. */
BERTH_API void berth_set_key(struct berth *b, const char *key);
/** berth_version() - of this library, "0.1.0". Static. */
BERTH_API const char *berth_version(void);
/** berth_health() - the daemon's /health as JSON text. */
BERTH_API int berth_health(struct berth *b, char **ret_json, struct berth_error *e);
struct berth_status {
	char status[16]; /* ok, disk-low, disk-full */
	char version[48], mount[512];
	uint64_t uptime_ms, workspaces, store_b, store_used_b, disk_free_b, disk_total_b;
};
/** berth_status() - the same. */
BERTH_API int berth_status(struct berth *b, struct berth_status *ret, struct berth_error *e);
/** berth_host() - what of the daemon's host is used, missing or not tried, as JSON text. */
BERTH_API int berth_host_json(struct berth *b, char **ret_json, struct berth_error *e);
/** berth_host() - the same, part by part; all strings are borrowed. Stops when @fn returns not 0 and returns that. */
struct berth_part {
	const char *group; /* isolation, limits, watcher, mount, backend */
	const char *name;
	const char *state; /* on, off, missing, untested, not-built */
	const char *words;
};
BERTH_API int berth_host(struct berth *b, int (*fn)(void *ctx, const struct berth_part *), void *ctx,
			 struct berth_error *e);
/** berth_on_progress() - call @fn now and then while a file goes in or out by berth_read() and berth_write(), or files
 * are laid out by berth_create(): @done of @all bytes, 0 while that is unknown. NULL: not any more. */
BERTH_API void berth_on_progress(struct berth *b, void (*fn)(void *ctx, uint64_t done, uint64_t all), void *ctx);

/* --- API keys ----------------------------------------------------------------------------------------------------- */

struct berth_key {
	const char *name;
	const char *const *scopes; /* read, files, run, admin; NULL-terminated */
	uint64_t sandboxes;	   /* most that it may have at a time; 0: no limit */
	uint64_t per_second;	   /* requests; 0: no limit */
	uint64_t timeout_ms;	   /* its life; 0: for ever */
};

/** berth_key_create() - *@ret_key is the key itself, which cannot be seen again. */
BERTH_API int berth_key_create(struct berth *b, const struct berth_key *what, char **ret_key, struct berth_error *e);
/* What is known of a key; strings are borrowed. */
struct berth_key_info {
	const char *id, *name, *scopes; /* "read,run" */
	uint64_t sandboxes, per_second;
	int64_t created_ns, expires_ns, used_ns; /* 0: not */
};
/** berth_key_list() - oldest first; stops when @fn returns not 0 and returns that. */
BERTH_API int berth_key_list(struct berth *b, int (*fn)(void *ctx, const struct berth_key_info *), void *ctx,
			     struct berth_error *e);
BERTH_API int berth_key_list_json(struct berth *b, char **ret_json, struct berth_error *e);
/** berth_key_revoke() - by id or name, at once: whatever it has open ends. */
BERTH_API int berth_key_revoke(struct berth *b, const char *id, struct berth_error *e);

/* --- secrets (docs/secrets.md) ------------------------------------------------------------------------------------ */

/** berth_secret_key() - the daemon's public key, to seal to, as a file of recipients; free(*ret). */
BERTH_API int berth_secret_key(struct berth *b, char **ret, struct berth_error *e);
/** berth_secret_add() - keep a sealed file under the name that is in it. Errors: secret-exists, bad-secret, wrong-key,
 * old-secret, expired. */
BERTH_API int berth_secret_add(struct berth *b, const void *sealed, size_t len, struct berth_error *e);
/** berth_secret_rotate() - put a newer one into its place, for the same delivery. Sandboxes that run keep what they
 * were given. Errors: as above, no-such-secret, other-delivery. */
BERTH_API int berth_secret_rotate(struct berth *b, const char *name, const void *sealed, size_t len,
				  struct berth_error *e);
/** berth_secret_rotate_to() - the same, for delivery @deliver ("env", "file", "broker"), whatever it was before; NULL:
 * as before. */
BERTH_API int berth_secret_rotate_to(struct berth *b, const char *name, const void *sealed, size_t len,
				     const char *deliver, struct berth_error *e);
BERTH_API int berth_secret_remove(struct berth *b, const char *name, struct berth_error *e);
/* What is known of a secret; strings are borrowed. Of lists "A,B", "" when there is no restriction. */
struct berth_secret_info {
	const char *name, *delivery, *templates, *sandboxes, *hosts;
	const char *services;			  /* of the broker that it is for, "" when there is none */
	uint64_t number;			  /* 1, and one more with each rotation */
	int64_t created_ns, expires_ns, added_ns; /* 0: not */
	const char *methods, *paths;		  /* "A,B", of the broker what requests it may be used for; "": any */
	uint64_t per_minute, body_max, answer_max; /* 0: any number */
	const char *header, *prefix;		  /* the only header that it is put in, and what stands before it */
};
/** berth_secret_list() - in the order of names; stops when @fn returns not 0 and returns that. */
BERTH_API int berth_secret_list(struct berth *b, int (*fn)(void *ctx, const struct berth_secret_info *), void *ctx,
				struct berth_error *e);
BERTH_API int berth_secret_list_json(struct berth *b, char **ret_json, struct berth_error *e);
/* What was done with one; strings are borrowed, "" when there is none. */
struct berth_secret_row {
	uint64_t seq;
	int64_t time_ns;
	const char *link; /* digest over this row and the link of the one before */
	const char *what; /* added, rotated, removed, delivered, used, refused, seen */
	const char *secret, *key, *sandbox, *command, *delivery, *why;
	const char *where, *form; /* where it was seen: "the file PATH", "the output of process N"; plain, base64 … */
	/* used, or refused by the broker: of how many requests since the row before, and what was asked */
	const char *service, *method, *host, *path;
	uint64_t count, status, sent_b, received_b; /* count 0: the first use, before it is sent */
	const char *process; /* id of the command from which it was asked, as the sandbox says */
};
/** berth_secret_audit() - rows behind @since, oldest first; stops when @fn returns not 0 and returns that. */
BERTH_API int berth_secret_audit(struct berth *b, uint64_t since, int (*fn)(void *ctx, const struct berth_secret_row *),
				 void *ctx, struct berth_error *e);
/** berth_secret_audit_json() - the next rows behind @since, as the daemon says them: an array, empty at the end. */
BERTH_API int berth_secret_audit_json(struct berth *b, uint64_t since, char **ret_json, struct berth_error *e);

/* --- events ------------------------------------------------------------------------------------------------------- */

/* What happened; strings are borrowed. */
struct berth_what {
	uint64_t seq;
	int64_t time_ns;
	const char *kind; /* sandbox.created, …, lost (docs/api.md) */
	const char *id, *name, *why;
};
/** berth_events() - call @fn with each event behind number @since (0: all that the daemon keeps; with @follow: from now
 * on). With @follow until @fn returns not 0, which is returned, or the daemon ends: -EPIPE. */
BERTH_API int berth_events(struct berth *b, uint64_t since, bool follow,
			   int (*fn)(void *ctx, const struct berth_what *), void *ctx, struct berth_error *e);
/** berth_events_json() - the same as lines of JSON. */
BERTH_API int berth_events_json(struct berth *b, uint64_t since, bool follow, int (*fn)(void *ctx, const char *line),
				void *ctx, struct berth_error *e);

/* --- archives ----------------------------------------------------------------------------------------------------- */

/** berth_export() - "ID" or "ID@SNAPSHOT", or what is at @path in it (NULL: all), as a tar archive. */
BERTH_API int berth_export(struct berth *b, const char *from, const char *path, int to_fd, struct berth_error *e);
/** berth_export_counted() - the same; *@ret_left_out: how many files are not in it (only their names were kept). */
BERTH_API int berth_export_counted(struct berth *b, const char *from, const char *path, int to_fd,
				   uint64_t *ret_left_out, struct berth_error *e);

struct berth_imported {
	char id[65], name[65];
	char tree[65]; /* the hash of all that is in it */
	uint64_t left_out; /* device nodes */
};
/** berth_import() - a tar archive from @fd, to its end, becomes a stored workspace. @name: NULL: none. @workspace_b: 0:
 * the daemon's default. */
BERTH_API int berth_import(struct berth *b, int fd, const char *name, uint64_t workspace_b,
			   struct berth_imported *ret, struct berth_error *e);
/** berth_put_archive() - a tar archive from @fd, to its end, is laid over what is at @path in a sandbox, which is a
 * directory or nothing yet in one. @keep_top: attributes of one that is there stay. @ret_left_out: device nodes; may be
 * NULL. Stopped: all of it or nothing. */
BERTH_API int berth_put_archive(struct berth *b, const char *id, const char *path, bool keep_top, int fd,
				uint64_t *ret_left_out, struct berth_error *e);

/* --- the log of a workspace -------------------------------------------------------------------------------------- */

struct berth_log {
	const char *path; /* NULL or "": all of it */
	uint64_t since;	  /* behind the row with this number; 0: all that are kept */
	int follow;
};

/* A row. What is not there is NULL. Valid during the call. */
struct berth_log_row {
	uint64_t seq;
	int64_t time_ns;
	const char *kind; /* create, remove, rename, write, chmod, content, began, ended, lost */
	const char *type, *path, *from, *hash;
	uint64_t size;
	const char *by;	     /* command, host, background, unknown */
	const char *command; /* "id: words", the commands that ran separated by "; "; of began and ended that one */
	const char *end;     /* of ended: "exit 0", "signal 9" */
};

/** berth_log() - call @fn with each row, until it returns not 0, which is returned. */
BERTH_API int berth_log(struct berth *b, const char *id, const struct berth_log *what,
			int (*fn)(void *ctx, const struct berth_log_row *), void *ctx, struct berth_error *e);
/** berth_log_json() - the same as lines of JSON. */
BERTH_API int berth_log_json(struct berth *b, const char *id, const struct berth_log *what,
			     int (*fn)(void *ctx, const char *line), void *ctx, struct berth_error *e);

/* --- watching ----------------------------------------------------------------------------------------------------- */

/* A change of a workspace; strings are borrowed. Paths are relative to it, in their real bytes. */
struct berth_change {
	uint64_t seq;
	int64_t time_ns;
	const char *kind; /* create, remove, rename, write, chmod; lost: there were more, look again at all */
	const char *type; /* file, dir, symlink, fifo, socket, other */
	const char *path;
	const char *from; /* of a rename; else NULL */
	uint64_t size;
	uint32_t mode;
};

struct berth_watch {
	const char *path; /* a directory or file; NULL: the workspace */
	bool flat;	  /* only what is directly in it */
	bool follow;	  /* go on with what comes; without @since from now on */
	uint64_t since;	  /* behind the change with this number; 0: all that are kept */
};
/** berth_watch() - call @fn with each change; with follow until @fn returns not 0, which is returned, or the sandbox is
 * removed or the daemon ends: -EPIPE. When berth_stream_next() has told the end of a command, its changes are there. */
BERTH_API int berth_watch(struct berth *b, const char *id, const struct berth_watch *what,
			  int (*fn)(void *ctx, const struct berth_change *), void *ctx, struct berth_error *e);
/** berth_watch_json() - the same as lines of JSON. */
BERTH_API int berth_watch_json(struct berth *b, const char *id, const struct berth_watch *what,
			       int (*fn)(void *ctx, const char *line), void *ctx, struct berth_error *e);

/* --- sandboxes ---------------------------------------------------------------------------------------------------- */

struct berth_create {
	const char *template_; /* NULL: base */
	const char *name;      /* NULL: none */
	uint64_t timeout_ms;   /* 0: the daemon's default */
	uint64_t memory_b, workspace_b, cpu_milli, pids; /* 0: the daemon's default */
	const char *on_timeout;	     /* "kill", "pause", "pause-no-memory"; NULL: kill */
	const char *const *metadata; /* "KEY=VALUE", NULL-terminated; NULL: none. At most 16 KiB in all */
	const char *from; /* "ID@SNAPSHOT" or "ID": whose files it begins with; then the defaults of template and
			   * workspace are those of that sandbox. NULL: none */
	const char *keep; /* rules of what is kept of its files, as text; NULL: those of its template alone */
	const char *const *secrets; /* names, NULL-terminated: files are there while it runs, variables in each of its
				     * commands; NULL: none */
	bool no_wait; /* with @from: commands can be run before all the files are there; info.fills tells */
	const char *internet; /* "on", "off"; NULL: the daemon's default */
	const char *const *allow, *const *deny; /* as of struct berth_network; NULL: none */
};

struct berth_info {
	char id[65], name[65], template_[65];
	char state[16]; /* running, pausing, paused, resuming, stopping, stopped, failed, removed */
	char why[160];
	char mount[512]; /* directory on the daemon's host */
	int64_t created_ns, ends_ns, stopped_ns; /* 0: not */
	uint64_t memory_b, workspace_b, cpu_milli, pids;
	uint64_t left_out;  /* files that it was to begin with, of which only the names were kept */
	bool keep_ignored;  /* there are rules of what is kept, and its agent is too old for them */
	bool has_keep;	    /* there are rules: berth_keep() */
	char secrets[512];  /* names that it was made with, "A,B" */
	bool fills;	    /* not all the files that it begins with are there yet */
	char fill_why[256]; /* why some of them never will be; "" */
};

/** berth_create() - make a sandbox and wait until commands can be run. With @what->from and berth_on_progress() it says
 * how many bytes are laid out. Errors: no-such-template, name-taken, too-many-sandboxes, limit, no-space, fill-slow. */
BERTH_API int berth_create(struct berth *b, const struct berth_create *what, struct berth_info *ret,
			   struct berth_error *e);
BERTH_API int berth_info(struct berth *b, const char *id, struct berth_info *ret, struct berth_error *e);
/* What a sandbox may use by way of the broker; strings are borrowed. */
struct berth_service {
	const char *name, *secret, *url; /* as it is reached inside */
};
/** berth_services() - all of them; stops when @fn returns not 0 and returns that. */
BERTH_API int berth_services(struct berth *b, const char *id, int (*fn)(void *ctx, const struct berth_service *),
			     void *ctx, struct berth_error *e);
/** berth_keep() - the rules of what is kept of its files, "" when everything is; free(*ret). */
BERTH_API int berth_keep(struct berth *b, const char *id, char **ret, struct berth_error *e);
/** berth_info_json() - the daemon's own words: an object. */
BERTH_API int berth_info_json(struct berth *b, const char *id, char **ret_json, struct berth_error *e);
/** berth_list() - sandboxes, oldest first; stopped and failed ones too with @all. free(*ret). */
BERTH_API int berth_list(struct berth *b, bool all, struct berth_info **ret, size_t *ret_n, struct berth_error *e);
BERTH_API int berth_list_json(struct berth *b, bool all, char **ret_json, struct berth_error *e);
/** berth_kill() - end it: SIGTERM, after @grace_ms SIGKILL; its files are durable when this returns 0. */
BERTH_API int berth_kill(struct berth *b, const char *id, uint64_t grace_ms, struct berth_error *e);
/** berth_pause() - freeze it: processes and memory are kept, its files are durable when this returns 0. Streams end
 * with the slug "paused". Errors: not-running, freeze-timeout, not-durable (it runs on then). */
BERTH_API int berth_pause(struct berth *b, const char *id, struct berth_error *e);
/** berth_pause_no_memory() - its processes and memory go, its files stay, also those outside of /workspace; it takes no
 * memory and outlives a new start of the machine. Errors: also no-layers: its kind has no such pause. */
BERTH_API int berth_pause_no_memory(struct berth *b, const char *id, struct berth_error *e);
/** berth_resume() - go on. @timeout_ms from now on; 0: as long as it was given before. Errors: not-paused. */
BERTH_API int berth_resume(struct berth *b, const char *id, uint64_t timeout_ms, struct berth_error *e);
/** berth_resume_no_memory() - one that has its memory loses it first: it begins anew with its files. */
BERTH_API int berth_resume_no_memory(struct berth *b, const char *id, uint64_t timeout_ms, struct berth_error *e);
/** berth_remove() - delete a sandbox that does not run, with its files. Snapshots of all of it stay. */
BERTH_API int berth_remove(struct berth *b, const char *id, struct berth_error *e);
/** berth_remove_counted() - the same; *@ret_left: how many such snapshots stay. @snapshots: they go, too, also those of
 * one that was removed before. */
BERTH_API int berth_remove_counted(struct berth *b, const char *id, bool snapshots, uint64_t *ret_left,
				   struct berth_error *e);
/** berth_timeout() - let it live until @timeout_ms from now; 0: for ever. */
BERTH_API int berth_timeout(struct berth *b, const char *id, uint64_t timeout_ms, struct berth_error *e);
/* What it may reach (docs/network.md). Entries are addresses, ranges, names and "*.name"; lists end with NULL. */
struct berth_network {
	char mode[8]; /* veth, pasta, none; only told */
	bool internet;
	char **allow, **deny;
	char proxy[320]; /* where its TCP goes, "host:port"; "": directly. Only told: a change leaves it as it is */
};

/** berth_network() - berth_network_free(@ret). */
BERTH_API int berth_network(struct berth *b, const char *id, struct berth_network *ret, struct berth_error *e);
BERTH_API void berth_network_free(struct berth_network *n);
/** berth_set_network() - from now on, also for connections that are there. Errors: no-network, network-private,
 * bad-network, not-running. */
BERTH_API int berth_set_network(struct berth *b, const char *id, const struct berth_network *what,
				struct berth_error *e);
/** berth_sync() - return when everything that was written in it before is durable on the host. */
BERTH_API int berth_sync(struct berth *b, const char *id, struct berth_error *e);

/* --- commands ----------------------------------------------------------------------------------------------------- */

enum berth_stdin { BERTH_STDIN_NONE, BERTH_STDIN_CLOSED, BERTH_STDIN_STREAM };

struct berth_exec {
	const char *id;		 /* of the process, yours to choose (1 to 64 of a-z 0-9 -); NULL: a random one */
	const char *const *argv; /* NULL-terminated */
	const char *const *env;	 /* "NAME=VALUE", NULL-terminated; may be NULL */
	const char *cwd, *user;	 /* NULL: /workspace, user */
	enum berth_stdin stdin_mode;
	uint64_t timeout_ms; /* 0: none */
	bool pty;
	unsigned cols, rows; /* of the PTY */
	bool has_umask;
	unsigned umask;		   /* with has_umask; else 022 */
	const char *const
		*limits; /* "nofile=1024:4096", "core=0": names as of RLIMIT_*, NULL-terminated; may be NULL */
	const char *const *secrets; /* that it gets as variables, NULL-terminated; may be NULL */
};

enum berth_event_kind { BERTH_STARTED = 1, BERTH_STDOUT, BERTH_STDERR, BERTH_EXIT, BERTH_STDIN_ROOM };

struct berth_event {
	enum berth_event_kind kind;
	uint64_t pid;	  /* STARTED */
	const void *data; /* STDOUT, STDERR: valid until the next call on the stream */
	size_t len;
	uint64_t offset; /* of the first byte, in that stream */
	uint64_t lost;	 /* STARTED after an attach: bytes that are gone */
	int how;	  /* EXIT: 0 exit status, 1 signal, 2 timeout, 3 unknown, 4 killed because memory was out */
	int code;
	uint64_t oom_kills; /* EXIT: processes of the sandbox that were killed for memory meanwhile */
};

/** berth_exec() - start a process; its events come from berth_stream_next(). When EXIT has come, the host knows every
 * path that the command changed. A start that fails is told by berth_stream_next(): slugs not-found, permission,
 * not-executable, bad-directory, unknown-user, limits. */
BERTH_API int berth_exec(struct berth *b, const char *sandbox, const struct berth_exec *what, struct berth_stream **ret,
			 struct berth_error *e);
/** berth_attach() - join a process by its id; output is replayed from these offsets as far as it is kept. */
BERTH_API int berth_attach(struct berth *b, const char *sandbox, const char *exec_id, uint64_t out_from,
			   uint64_t err_from, struct berth_stream **ret, struct berth_error *e);
/** berth_stream_close() - leave; a process that has not ended goes on. */
BERTH_API void berth_stream_close(struct berth_stream **s);
/** berth_stream_fd() - to poll for reading before berth_stream_next(); but first look whether berth_stream_next() with
 * a timeout of 0 has something. -1 while a lost connection is made again: then call berth_stream_next() again soon. */
BERTH_API int berth_stream_fd(const struct berth_stream *s);
/** berth_stream_id() - of the process. Lives as long as the stream. */
BERTH_API const char *berth_stream_id(const struct berth_stream *s);
/** berth_stream_next() - the next event. A connection that is lost is made again for half a minute, without a byte of
 * output or input lost or doubled, also when the daemon is started anew meanwhile; @timeout_ms -1: wait. Errors:
 * -ETIMEDOUT (nothing yet), -EPIPE (cut off), a start that failed. */
BERTH_API int berth_stream_next(struct berth_stream *s, int timeout_ms, struct berth_event *ret, struct berth_error *e);
/** berth_stream_hold() - while it is on, output that is taken makes no room for more: at most 256 KiB of each stream
 * come (again as much after each connection that was lost), so who cannot pass output on now may keep it, go on calling
 * berth_stream_next() and hear of the end. */
BERTH_API void berth_stream_hold(struct berth_stream *s, bool on);
/** berth_stream_room() - how many bytes of standard input may be sent now. */
BERTH_API size_t berth_stream_room(const struct berth_stream *s);
/** berth_stream_write() - standard input; @len at most berth_stream_room(). */
BERTH_API int berth_stream_write(struct berth_stream *s, const void *data, size_t len, struct berth_error *e);
BERTH_API int berth_stream_end(struct berth_stream *s, struct berth_error *e);
BERTH_API int berth_stream_signal(struct berth_stream *s, int signal, struct berth_error *e);
BERTH_API int berth_stream_resize(struct berth_stream *s, unsigned cols, unsigned rows, struct berth_error *e);

/** berth_signal() - to a process by its id and its group; with @tree to all that descends from it. */
BERTH_API int berth_signal(struct berth *b, const char *sandbox, const char *exec_id, int signal, bool tree,
			   struct berth_error *e);
/** berth_stats_json() - what the sandbox uses, as the daemon says it: an object. */
BERTH_API int berth_stats_json(struct berth *b, const char *id, char **ret_json, struct berth_error *e);
/** berth_logs() - what the agent (and the kernel of a virtual machine) said from offset *@at on; *@at becomes the
 * offset to go on from. The last 64 KiB are kept. */
BERTH_API int berth_logs(struct berth *b, const char *id, uint64_t *at, char **ret_text, struct berth_error *e);

/* --- tunnels ------------------------------------------------------------------------------------------------------ */

struct berth_target {
	const char *socket;  /* a Unix socket inside: its path, or @ and an abstract name; or */
	const char *address; /* IPv4 or IPv6 in digits; NULL: 127.0.0.1, then ::1 */
	unsigned port;
	uint64_t ask;	     /* or: a connection from inside, of berth_listener_next() */
	unsigned timeout_ms; /* of connecting inside; 0: 10 s */
};

/** berth_tunnel() - connect to a socket inside. Errors: refused, no-such-socket, timeout, unreachable, permission,
 * no-such-stream (an ask that nobody waits for any more), agent-too-old. */
BERTH_API int berth_tunnel(struct berth *b, const char *sandbox, const struct berth_target *to,
			   struct berth_tunnel **ret, struct berth_error *e);
/** berth_tunnel_relay() - bytes both ways between the tunnel and local descriptors, which become non-blocking, until
 * both directions have ended. The end from inside shuts @to_fd down for writing; when it is no socket and not @from_fd,
 * it is closed. Errors: reset (inside), local, cut-off. */
BERTH_API int berth_tunnel_relay(struct berth_tunnel *t, int from_fd, int to_fd, struct berth_error *e);
BERTH_API void berth_tunnel_close(struct berth_tunnel **t);

/** berth_listen() - have the sandbox listen on a Unix socket at @socket (absolute; @mode 0: 0666) as long as the
 * listener lives. Each connection to it waits ten seconds for a berth_tunnel() with its ask, and is bounded in number.
 */
BERTH_API int berth_listen(struct berth *b, const char *sandbox, const char *socket, unsigned mode,
			   struct berth_listener **ret, struct berth_error *e);
/** berth_listener_next() - the next connection's ask. Errors: -ETIMEDOUT (nobody yet), -EPIPE (sandbox or daemon gone).
 */
BERTH_API int berth_listener_next(struct berth_listener *l, int timeout_ms, uint64_t *ret_ask, struct berth_error *e);
/** berth_listener_refuse() - close it instead. */
BERTH_API int berth_listener_refuse(struct berth_listener *l, uint64_t ask, struct berth_error *e);
/** berth_listener_fd() - to poll for reading, as berth_stream_fd(). */
BERTH_API int berth_listener_fd(const struct berth_listener *l);
BERTH_API void berth_listener_close(struct berth_listener **l);

/* --- files -------------------------------------------------------------------------------------------------------- */

struct berth_entry {
	char *name;	   /* yours only inside a berth_stat(): free it; borrowed in a listing */
	char type[8];	   /* file, dir, symlink, fifo, socket, other */
	char *target;	   /* of a symlink, else NULL; as name */
	uint64_t size, mode, nlink, uid, gid;
	int64_t mtime_ns;
};

/** berth_ls() - call @fn for each entry of a directory; stops when it returns non-zero and returns that. */
BERTH_API int berth_ls(struct berth *b, const char *id, const char *path,
		       int (*fn)(void *ctx, const struct berth_entry *), void *ctx, struct berth_error *e);
BERTH_API int berth_ls_json(struct berth *b, const char *id, const char *path, char **ret_json, struct berth_error *e);
/** berth_stat() - the last name is not followed. Free name and target. */
BERTH_API int berth_stat(struct berth *b, const char *id, const char *path, struct berth_entry *ret,
			 struct berth_error *e);
/** berth_read() - a file's bytes into a descriptor. */
BERTH_API int berth_read(struct berth *b, const char *id, const char *path, int to_fd, struct berth_error *e);
/** berth_write() - replace a file with what @from_fd yields, atomically. @mode 0: keep, or 0644. */
BERTH_API int berth_write(struct berth *b, const char *id, const char *path, int from_fd, unsigned mode,
			  struct berth_error *e);
BERTH_API int berth_mkdir(struct berth *b, const char *id, const char *path, unsigned mode, struct berth_error *e);
BERTH_API int berth_symlink(struct berth *b, const char *id, const char *path, const char *target,
			    struct berth_error *e);
/** berth_link() - another name, @path, of the file @target. */
BERTH_API int berth_link(struct berth *b, const char *id, const char *path, const char *target, struct berth_error *e);
BERTH_API int berth_unlink(struct berth *b, const char *id, const char *path, bool recursive, struct berth_error *e);
BERTH_API int berth_rename(struct berth *b, const char *id, const char *from, const char *to, struct berth_error *e);

/** berth_read_at() - a file as a snapshot has it. Errors: no-such-snapshot; enoent. */
BERTH_API int berth_read_at(struct berth *b, const char *id, const char *snapshot, const char *path, int to_fd,
			    struct berth_error *e);

/* --- snapshots ---------------------------------------------------------------------------------------------------- */

struct berth_snapshot {
	char name[65];
	int64_t created_ns;
	uint64_t entries; /* names in it */
	bool live, frozen; /* of a sandbox that ran; that stood still meanwhile */
};

/** berth_snapshot() - keep the present state of a sandbox's files. @name NULL: made from the time. A sandbox that runs
 * stands still for it, unless @unfrozen. Errors: snapshot-exists, bad-snapshot-name, too-many-snapshots. */
BERTH_API int berth_snapshot(struct berth *b, const char *id, const char *name, bool unfrozen,
			     struct berth_snapshot *ret, struct berth_error *e);
/** berth_snapshots() - in the order of names; stops when @fn returns non-zero and returns that. */
BERTH_API int berth_snapshots(struct berth *b, const char *id, int (*fn)(void *ctx, const struct berth_snapshot *),
			      void *ctx, struct berth_error *e);
BERTH_API int berth_snapshots_json(struct berth *b, const char *id, char **ret_json, struct berth_error *e);
BERTH_API int berth_snapshot_remove(struct berth *b, const char *id, const char *name, struct berth_error *e);
/** berth_restore() - the files become those of a snapshot, at @path and below (NULL: all of them). @ret_kept: the name
 * of the snapshot that was made of the present before; NULL: none is made. */
BERTH_API int berth_restore(struct berth *b, const char *id, const char *snapshot, const char *path,
			    char (*ret_kept)[65], struct berth_error *e);
/** berth_restore_counted() - the same; *@ret_left_out: of how many files the snapshot has only the names. In a sandbox
 * that runs these are as they were, or not there. */
BERTH_API int berth_restore_counted(struct berth *b, const char *id, const char *snapshot, const char *path,
				    char (*ret_kept)[65], uint64_t *ret_left_out, struct berth_error *e);
/** berth_fork() - @n stored workspaces (sandboxes that are stopped) that share everything with a snapshot (NULL: the
 * present). @name: of a single one, or NULL. @fn may be NULL. */
BERTH_API int berth_fork(struct berth *b, const char *id, const char *snapshot, const char *name, unsigned n,
			 void (*fn)(void *ctx, const char *fork_id), void *ctx, struct berth_error *e);

struct berth_side {
	char type[8]; /* as in berth_entry; "": it is not there */
	uint64_t size, mode, uid, gid;
	int64_t mtime_ns;
	const char *hash, *target; /* of a file that is not empty; of a link; else NULL */
	bool elsewhere;		   /* a file of which only the name was kept: nobody knows its bytes */
};
struct berth_difference {
	const char *path; /* below the workspace, "" for itself */
	struct berth_side before, after;
};

/** berth_diff() - what differs from one state to another, in the order of paths. A state is "ID@SNAPSHOT", or "ID" for
 * the present. @path: at and below it; NULL: everything. Stops when @fn returns non-zero and returns that. */
BERTH_API int berth_diff(struct berth *b, const char *from, const char *to, const char *path,
			 int (*fn)(void *ctx, const struct berth_difference *), void *ctx, struct berth_error *e);
BERTH_API int berth_diff_json(struct berth *b, const char *from, const char *to, const char *path, char **ret_json,
			      struct berth_error *e);

/* Extended attributes, names that begin with "user.". */

/** berth_xattr_list() - call @fn for each name; stops when it returns non-zero and returns that. */
BERTH_API int berth_xattr_list(struct berth *b, const char *id, const char *path,
			       int (*fn)(void *ctx, const char *name), void *ctx, struct berth_error *e);
/** berth_xattr_get() - *@ret: free it; a NUL stands behind its *@ret_len bytes. */
BERTH_API int berth_xattr_get(struct berth *b, const char *id, const char *path, const char *name, char **ret,
			      size_t *ret_len, struct berth_error *e);
/** berth_xattr_set() - @value NULL removes it. */
BERTH_API int berth_xattr_set(struct berth *b, const char *id, const char *path, const char *name, const void *value,
			      size_t len, struct berth_error *e);

struct berth_room {
	char of[8]; /* sandbox: its file system; store: what a stopped one may still bring */
	uint64_t total_b, free_b, available_b, files, files_free; /* 0: no limit */
};

/** berth_statfs() - the room of one workspace. */
BERTH_API int berth_statfs(struct berth *b, const char *id, struct berth_room *ret, struct berth_error *e);

struct berth_df {
	char state[8]; /* ok; low: no sandbox is made; full: sandboxes stand still until there is room */
	uint64_t disk_total_b, disk_free_b;
	uint64_t store_b, store_used_b, store_max_b; /* of the contents: file, what of it is used, what it can become */
	/* As of the last collection, gc_at_ns, 0: there was none since the daemon's start. */
	int64_t gc_at_ns;
	uint64_t gc_live_b, gc_saved_b; /* what was referred to; what more it would be if workspaces shared nothing */
	/* Snapshots of whole sandboxes; what they keep of what is outside of workspaces, and may; 0: none may be. */
	uint64_t layers, layers_b, layers_max_b;
};

struct berth_usage {
	char id[65], name[65], state[16];
	uint64_t entries, entries_max;	   /* names; 0: no limit */
	uint64_t brought_b;		   /* bytes it has added to the store, ever */
	uint64_t charged_b, brought_max_b; /* handed over and not given back by a collection; at most, 0: no limit */
	uint64_t store_b, image_b;	   /* of its own on the disk: records; images of its file systems */
	uint64_t own_b, snapshots;	   /* as of the last collection: contents that nobody else has; its snapshots */
	bool has_own;			   /* there was one since the workspace was made */
};

/** berth_df() - where the space is. free(*ret_rows). */
BERTH_API int berth_df(struct berth *b, struct berth_df *ret, struct berth_usage **ret_rows, size_t *ret_n,
		       struct berth_error *e);
BERTH_API int berth_df_json(struct berth *b, char **ret_json, struct berth_error *e);
/* What was used, added up; strings are borrowed. docs/usage.md says what is counted. */
struct berth_usage_sum {
	uint64_t hour; /* seconds since 1970 of its beginning; 0: of all hours */
	const char *sandbox, *key; /* "": of all of the key; "socket": it was made without one */
	uint64_t run_ms, paused_ms, cpu_ms, memory_mib_s, stored_b, moved_b;
};
/** berth_usage_each() - since the hour of a moment (seconds since 1970), a sum for each "sandbox", "key" or "hour" (and
 * sandbox); stops when @fn returns not 0 and returns that. */
BERTH_API int berth_usage_each(struct berth *b, uint64_t since, const char *by,
			       int (*fn)(void *ctx, const struct berth_usage_sum *), void *ctx, struct berth_error *e);
BERTH_API int berth_usage_json(struct berth *b, uint64_t since, const char *by, char **ret_json,
			       struct berth_error *e);

/* --- templates, health -------------------------------------------------------------------------------------------- */

typedef void berth_line_fn(void *ctx, const char *line);

/** berth_template_list() - a JSON array of objects with "name". */
BERTH_API int berth_template_list(struct berth *b, char **ret_json, struct berth_error *e);
/** berth_template_build() - from Debian packages (NULL-terminated), or from a root tarball @tar_fd when @packages is
 * NULL.
 * @say gets each line of what happens. */
BERTH_API int berth_template_build(struct berth *b, const char *name, const char *const *packages, int tar_fd,
				   bool replace, berth_line_fn *say, void *ctx, struct berth_error *e);
/** berth_template_keep() - the rules of what is kept of sandboxes that stand on a template; free(*ret).
 * berth_template_set_keep() - others, for sandboxes that are made from now on; "": none. Errors: bad-rules. */
BERTH_API int berth_template_keep(struct berth *b, const char *name, char **ret, struct berth_error *e);
BERTH_API int berth_template_set_keep(struct berth *b, const char *name, const char *rules, struct berth_error *e);
BERTH_API int berth_template_remove(struct berth *b, const char *name, struct berth_error *e);
/** berth_backup() - the store of the daemon, as a tar archive, into a descriptor. After a failure what was written is
 * of no use. */
BERTH_API int berth_backup(struct berth *b, int to_fd, struct berth_error *e);
/* What a collection of the store did. */
struct berth_gc {
	uint64_t freed, freed_b; /* objects, and bytes of them */
	uint64_t left, left_b;
	uint64_t took_ms;
};
/** berth_gc() - delete what nothing refers to any more; returns when it is done. @ret_json may be NULL; free() it. */
BERTH_API int berth_gc(struct berth *b, struct berth_gc *ret, char **ret_json, struct berth_error *e);
/** berth_fsck() - verify the store; *@ret_problems findings, told one by one to @say. */
BERTH_API int berth_fsck(struct berth *b, berth_line_fn *say, void *ctx, uint64_t *ret_problems, char **ret_json,
			 struct berth_error *e);
/** berth_dump_wire() - print a capture made with BERTH_TRACE as text. */
BERTH_API int berth_dump_wire(const char *file, int to_fd, struct berth_error *e);

#ifdef __cplusplus
}
#endif
#endif
