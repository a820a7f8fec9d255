/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_E2B_H
#define HOST_API_E2B_E2B_H

/*
 * The front door for the clients of E2B, unmodified: the control plane that they ask for sandboxes, and the door of
 * each sandbox ("envd" there), of which nothing lives in the guest. docs/e2b-door.md is its page.
 */
#include "base/list.h"
#include "base/lock.h"
#include "base/map.h"
#include "host/api/keys.h"
#include "host/http/http.h"
#include "host/image/image.h"
#include "host/sandbox/event.h"
#include "host/sandbox/hub.h"
#include "json/json.h"
#include "loop/loop.h"

struct secrets;
struct template;
struct volume;

enum { E2B_IMAGES_USED = 2 };

struct e2b {
	struct hub *hub;
	struct network *network; /* of sandboxes */
	struct keys *keys;
	struct secrets *secrets;
	struct loop *loop;
	struct pool *pool; /* may block for a while */
	struct http *http;
	char *spool_dir; /* for long files; e2b_fini() frees it */
	const char *domain; /* borrowed: below which ports of sandboxes have names; "": nobody's */
	const char *interpreter_dir; /* borrowed: of the code interpreter's texts */
	uint64_t body_max_b;
	const char *build_dir; /* borrowed: what is known of templates, and files for them */
	unsigned threads; /* of the API */
	struct {
		struct lock lock, save; /* the second is held while one is written */
		struct template **v; /* guarded by lock */
		size_t len, cap;
	} templates;
	struct {
		struct image_conf conf; /* e2b_init() finds it set, as the next */
		uint64_t room_b; /* for all of them */
		struct lock lock;
		pthread_cond_t cond;
		struct e2b_image_use {
			char name[PRIV_ID_MAX + 1]; /* of the template; "": free */
			const void *who; /* the build */
			bool fetches; /* others wait for it */
		} used[E2B_IMAGES_USED]; /* guarded by lock */
	} images;
	struct {
		struct lock lock;
		struct volume **v; /* guarded by lock */
		size_t len, cap;
	} volumes;
	uint8_t upload_secret[32];
	struct pool *builders, *starters, *forkers; /* builds; sandboxes that have something to start with; who helps
						      * to make many */
	bool stopping; /* atomic: whatever takes long ends */
	unsigned working; /* of them here; guarded by lock, as the next */
	struct map working_for; /* the same for each sandbox: a number as a pointer */
	struct lock lock;
	struct list procs; /* of struct proc, that somebody started or joined; guarded by lock, as the next */
	bool ending; /* the loop's, as the next */
	struct list waiting; /* for answers of servers inside */
	struct list opens; /* of struct e2b_open; the loop's */
	struct list watchers; /* of watcher.c; guarded by lock */
};

#define E2B_VERSION "0.6.13" /* of the part inside that their clients look for */
#define E2B_CLIENT "6532622b"

/** e2b_init() - @e has hub and loop. e2b_fronts() - the sets of routes, the sandboxes' first. e2b_fini() also after a
 * failure. Return: 0 or -errno. */
int e2b_init(struct e2b *e2b, struct err *e) MUST_CHECK;
enum { E2B_FRONTS = 5 };
void e2b_fronts(struct e2b *e, struct http_front ret[E2B_FRONTS]);
/** e2b_end() - whoever follows a process hears the end. Any thread, before http_stop(). e2b_fini() - after it. */
void e2b_end(struct e2b *e);
void e2b_fini(struct e2b *e);

/* What an answer waits for on the loop, and is to end when the daemon does. */
struct e2b_open {
	struct list node;
	void (*end)(struct e2b_open *o); /* may take it out of the list */
};
/* On the loop. Return: false: the daemon ends, and @o is in no list. */
bool e2b_open_add(struct e2b *e2b, struct e2b_open *o);
void e2b_open_remove(struct e2b_open *o);

/* --- shared by the handlers; not for other rooms ------------------------------------------------------------------ */

/* The control plane: sandboxes.c, listing.c. */
http_handler e2b_create, e2b_connect, e2b_resume, e2b_get, e2b_kill, e2b_timeout, e2b_refresh, e2b_pause, e2b_list,
	e2b_metrics, e2b_logs, e2b_fork, e2b_snapshot, e2b_snapshots, e2b_template_list, e2b_template_alias,
	e2b_template_remove, e2b_teams, e2b_missing, e2b_network, e2b_secret_create, e2b_secret_list, e2b_secret_get,
	e2b_secret_update, e2b_secret_remove;
/* Templates: templates.c, uploads.c. */
http_handler e2b_template_request, e2b_template_trigger, e2b_template_get, e2b_template_patch, e2b_tags_assign,
	e2b_tags_remove, e2b_tags_list, e2b_build_status, e2b_build_logs, e2b_file_link, e2b_file_upload;
/* Volumes: volumes.c, content.c. */
http_handler e2b_volume_create, e2b_volume_list, e2b_volume_get, e2b_volume_remove, e2b_content_list, e2b_content_make,
	e2b_content_stat, e2b_content_change, e2b_content_remove, e2b_content_read, e2b_content_write;
bool e2b_is_content(void *ctx, struct http_req *req);
int e2b_admit_content(void *ctx, struct http_req *req, struct http_who *ret, struct err *e);
void e2b_content_error(void *ctx, struct http_req *req, struct http_res *res, const struct err *e);
bool e2b_is_upload(void *ctx, struct http_req *req);
int e2b_admit_upload(void *ctx, struct http_req *req, struct http_who *ret, struct err *e);
/* The sandbox's own: process.c, files.c. */
http_handler e2b_health, e2b_envs, e2b_self_metrics, e2b_options, e2b_proc_list, e2b_proc_start, e2b_proc_connect,
	e2b_proc_update, e2b_proc_input, e2b_proc_close, e2b_proc_signal, e2b_watch_dir, e2b_watcher_create,
	e2b_watcher_events, e2b_watcher_remove, e2b_stat, e2b_make_dir, e2b_move, e2b_list_dir, e2b_remove,
	e2b_file_get, e2b_file_put;

/* A body that is an object; {} when it is empty. json_free() it. */
int e2b_body(struct http_req *req, struct json **ret, struct err *e) MUST_CHECK;
/* The sandbox that segment 0 names, if whoever asks may see it and it runs or is paused. */
int e2b_find(struct e2b *e2b, struct http_req *req, struct hub_info *ret, struct err *e) MUST_CHECK;
/* May whoever asks see it: its own, or everything where no key is wanted. */
bool e2b_is_ours(struct http_req *req, const struct hub_info *i);
/* The token that its door wants. */
enum { E2B_TOKEN = 40 };
int e2b_token(struct e2b *e2b, const char *id, char ret[E2B_TOKEN + 1], struct err *e) MUST_CHECK;
/* "2026-11-25T10:00:00.123Z" */
void e2b_time(struct json_writer *w, const char *key, int64_t ns);
/* What is remembered of it for this door, "{}" at least; json_free() it. */
int e2b_memory(struct e2b *e2b, const char *id, struct json **ret, struct err *e) MUST_CHECK;
/* Other ports: proxy.c. */
http_handler e2b_proxy;
uint64_t e2b_port(struct http_req *req);
void e2b_proxy_end(struct e2b *e2b); /* on the loop */
/* Start what E2B's code interpreter asks for, and wait until it listens: interpreter.c. -ENOSYS: it cannot. */
enum { E2B_INTERPRETER_PORT = 49999 };
int e2b_interpreter(struct e2b *e2b, const char *sandbox, struct err *e) MUST_CHECK;
/* The sandbox of a request on a sandbox's door. */
const char *e2b_sandbox(struct http_req *req);
/* Which user the request is for: "name:" as basic credentials; else that of its template, "user" where it has none. On
 * the heap. */
char *e2b_user(struct e2b *e2b, struct http_req *req);

/* network.c: what a sandbox may reach, of a body and its member with the lists; policy_fini(@ret). @egress NULL: no
 * rules are wanted. Its members. */
struct policy;
struct e2b_egress {
	const char *owner, *given; /* whose it is, and names of secrets that it was made with */
	struct buf text; /* of the rules, at most HUB_EGRESS_MAX */
};
int e2b_read_network(struct e2b *e2b, const struct json *j, const struct json *network, struct policy *ret,
		     struct e2b_egress *egress, struct err *e) MUST_CHECK;
/* ingress.c: how its ports are reached: written to what is remembered of it; as members of the network; the token for
 * them, where one is wanted; may this request go to one? Under which name, NULL: its own; on the heap. */
int e2b_read_ingress(const struct json *network, struct json_writer *w, struct err *e) MUST_CHECK;
void e2b_put_ingress(struct json_writer *w, const struct json *memory);
void e2b_put_traffic(struct e2b *e2b, struct json_writer *w, const char *id);
int e2b_admit_traffic(struct e2b *e2b, struct http_req *req, const char *id, struct err *e) MUST_CHECK;
char *e2b_mask_host(struct e2b *e2b, const char *id, uint64_t port);
bool e2b_speaks_tls(struct e2b *e2b, const char *id, uint64_t port);
/* rules.c: its rules alone, of the member of that name; as a member of the network; a line for each. */
int e2b_read_rules(struct e2b *e2b, const struct json *rules, const struct policy *p, struct e2b_egress *egress,
		   struct err *e) MUST_CHECK;
void e2b_put_rules(struct e2b *e2b, struct json_writer *w, const char *id);
void e2b_tell_rules(struct e2b *e2b, const char *id, void (*fn)(void *ctx, const char *line), void *ctx);
void e2b_put_network(struct e2b *e2b, struct json_writer *w, const char *id, const struct json *memory);

/* What whoever makes one is told: sandboxes.c. How long it is to live: of a body that may leave it out. */
void e2b_put_sandbox(struct e2b *e2b, struct json_writer *w, const struct hub_info *i, const char *template_,
		     const char *alias);
int e2b_read_timeout(const struct json *j, uint64_t *ret_ms, struct err *e) MUST_CHECK;
/* What was remembered of the sandbox when this snapshot of it was made: JSON, on the heap; NULL: nothing. snapshot.c */
int e2b_snapshot_config(struct e2b *e2b, const char *id, const char *snapshot, char **ret, struct err *e) MUST_CHECK;
/* Remove it, if there is one that whoever asks may see. Return: 1; 0: that is no snapshot; -errno. */
int e2b_snapshot_remove(struct e2b *e2b, struct http_req *req, const char *what, struct err *e) MUST_CHECK;

/* Pages of lists: the mark of one is the number of the entry that comes next. @n: how many there are. */
struct e2b_page {
	uint64_t from, limit;
};
int e2b_page_of(struct http_req *req, struct e2b_page *ret, struct err *e) MUST_CHECK;
void e2b_page_more(struct http_res *res, const struct e2b_page *p, size_t n);

/* One of a list; what is asked about it in figures. */
void e2b_put_listed(struct e2b *e2b, struct json_writer *w, const struct hub_info *i);
struct msg_PLACE_ENTRY;
struct msg_PLACE_EVENT;
/* An event of a watch as its object. */
void e2b_put_place_event(struct json_writer *w, const struct msg_PLACE_EVENT *m, bool with_entry);
void e2b_watchers_end(struct e2b *e2b); /* when the loop has let go of all */
struct msg_PLACE_DO;
/* Files of the sandbox of a request: files.c. One thing that answers with entries (@fn may be NULL); the answer is a
 * file; a file is written. */
int e2b_place(struct e2b *e2b, struct http_req *req, const struct msg_PLACE_DO *m,
	      int (*fn)(void *ctx, const struct msg_PLACE_ENTRY *en), void *ctx, struct err *e) MUST_CHECK;
int e2b_file_send(struct e2b *e2b, struct http_req *req, struct http_res *res, const char *path, const char *user,
		  struct err *e) MUST_CHECK;
int e2b_file_take(struct e2b *e2b, struct http_req *req, const char *path, const char *user, struct span data,
		  struct err *e) MUST_CHECK;
void e2b_put_entry(struct json_writer *w, const struct msg_PLACE_ENTRY *en);
struct hub_stats;
void e2b_put_metric(struct json_writer *w, const struct hub_stats *s);

/* Connect's words for an error, and the status that goes with each: connect.c. */
const char *e2b_code_of(const struct err *e, int *ret_status);
/* The one message of a stream's request. */
int e2b_envelope(struct http_req *req, struct json **ret, struct err *e) MUST_CHECK;
/* Append a message of an answer's stream; the last one has an error or none. */
void e2b_put_message(struct buf *to, struct span json);
void e2b_put_last(struct buf *to, const struct err *e);

#endif
