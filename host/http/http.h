/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_HTTP_HTTP_H
#define HOST_HTTP_HTTP_H

/*
 * The HTTP server: libmicrohttpd's only home. One thread of its own waits for all connections; a complete request is
 * handed to a thread of a pool, where the handler may block, while its connection is suspended. A body of up to 1 MiB
 * is kept in memory, a longer one in an unlinked file.
 */
#include "base/buf.h"
#include "base/err.h"
#include "loop/pool.h"

#include <sys/types.h>

struct http;
struct http_req;

enum {
	HTTP_BODY_MEMORY = 1024 * 1024,
	HTTP_DOORS_MAX = 3,
	HTTP_FRONTS_MAX = 8,
	HTTP_HEADERS_MAX = 64,
	HTTP_BUCKETS = 12,
	HTTP_STATUSES = 24
};
#define HTTP_ANY UINT32_MAX	     /* as a need: whoever is known at all */
#define HTTP_SIZE_UNKNOWN UINT64_MAX /* of an answer that is read piece by piece */

/* Who asks. All empty: a connection that needs no key. */
struct http_who {
	char id[20];
	char name[65];
	bool sees_all; /* also what others made */
	char of[72]; /* what it is let in to alone, "" when it has a key: http_cut() knows it by that, too */
};

/* Asked about each request on a door that wants keys: on the server's thread, before any of the body is taken, so it
 * must not block. @credential: what came as X-API-Key or as Authorization: Bearer, NULL when nothing did. @need: of the
 * route. Return: 0 and @ret is filled; -errno. */
struct http_gate {
	int (*admit)(void *ctx, const char *credential, unsigned need, struct http_who *ret, struct err *e);
	void *ctx;
};

struct http_listener {
	int fd; /* taken over */
	bool keyed;
	/* A gnutls_certificate_retrieve_function2, cast, and what ciphers: it speaks TLS. NULL: plain. */
	void (*certificate)(void);
	const char *priorities;
};

struct http_conf {
	struct http_listener listener[HTTP_DOORS_MAX];
	size_t listeners;
	struct http_gate gate;
	struct loop *loop;    /* looks after slow clients; NULL: nobody does */
	struct pool *pool;    /* runs handlers */
	const char *spool_dir; /* for long bodies */
	uint64_t body_max_b;
	uint64_t head_ms;     /* how long a client may take for a request's head, or for each 4 KiB of its body */
	unsigned connections; /* on each door */
	unsigned failures;    /* in a minute, of one address to show a key; 0: any number */
};

/* What a handler answers; starts as 200 with an empty JSON body. */
struct http_res {
	int status;
	const char *type; /* Content-Type; a constant; NULL: among the headers, or none */
	struct buf body;  /* at most 64 MiB */
	bool ranged;	 /* parts of it may be asked for: http_range() */
	char range[72]; /* Content-Range of the part that this is */
	uint64_t left_out; /* not 0: X-Berth-Left-Out, how many files are not in it */
	struct {
		char *name, *value;
	} header[HTTP_HEADERS_MAX]; /* http_answer_header() */
	size_t headers;
	/* Instead of @body: @size bytes fetched piece by piece on the server's thread; Return: bytes, or -errno to cut
	 * off; -EAGAIN after http_suspend(): nothing yet. @size may be HTTP_SIZE_UNKNOWN. */
	ssize_t (*read)(void *ctx, uint64_t at, void *to, size_t max);
	uint64_t size;
	void (*read_end)(void *ctx);
	/* Instead of @body: 101, then the raw connection. Called on the server's thread; @first was read already
	 * (borrowed). The descriptor is given back with http_upgrade_end(@handle), never closed. */
	void (*upgrade)(void *ctx, int fd, struct span first, void *handle);
	const char *upgrade_to; /* the answer's Upgrade; NULL: berth-stream */
	void (*upgrade_drop)(void *ctx); /* called instead when the client has gone before that */
	void *ctx;			 /* of read and upgrade */
};

/** A handler: on a pool thread. Return: 0 and @res is filled; -errno with @e, from which the error body is made;
 * HTTP_LATER: http_later() was or will be called, on any thread. */
enum { HTTP_LATER = 1 };
typedef int http_handler(void *ctx, struct http_req *req, struct http_res *res, struct err *e);

struct http_route {
	const char *method;
	const char *pattern; /* "/v1/sandboxes/{}/files": each {} is one segment, never empty */
	http_handler *handler;
	unsigned need;	   /* for the gate */
	const char *query; /* the parameters that it takes, one space between them; NULL: none */
};

/* What serves one kind of clients: its routes, who may come in, and how it says no. */
struct http_front {
	const struct http_route *routes; /* borrowed */
	size_t n;
	void *ctx; /* of the handlers and of what follows */
	/* Does this request belong here? On the server's thread, so it must not block; http_path(), http_header() and
	 * http_query() may be asked. NULL: whatever none before it has taken. */
	bool (*is_mine)(void *ctx, struct http_req *req);
	/* Instead of the gate, on every door; the same rules. NULL: the gate, on doors that want keys. */
	int (*admit)(void *ctx, struct http_req *req, struct http_who *ret, struct err *e);
	/* Called before each handler, on its thread: it may block. Other than 0: as if the handler had returned it.
	 * NULL: nothing is to be done. */
	int (*prepare)(void *ctx, struct http_req *req, struct err *e);
	/* Called when prepare() returned 0 and the handler has returned; it must not look at the request. @of: as in
	 * http_who. NULL: nothing. */
	void (*finish)(void *ctx, const char *of);
	/* The body of an answer that says no, in @res, whose status is set already and may be changed. NULL: ours. */
	void (*put_error)(void *ctx, struct http_req *req, struct http_res *res, const struct err *e);
	/* What every answer carries, errors too. NULL: nothing. */
	void (*dress)(void *ctx, struct http_req *req, struct http_res *res);
	const struct http_route *fallback; /* for what no route takes; NULL: that is refused */
	bool lenient; /* parameters of the query that the route does not take are no error */
};

/** http_address() - "127.0.0.1:7070", "[::1]:7070"; numbers only. Return: 0; -EINVAL. */
struct sockaddr_storage;
int http_address(const char *text, struct sockaddr_storage *ret, unsigned *ret_len, struct err *e) MUST_CHECK;
/** http_listen() - a listening socket there. Return: 0 or -errno. */
int http_listen(const char *text, int *ret_fd, struct err *e) MUST_CHECK;

/** http_start() - serve @fronts (n of them, copied), asked in order whose a request is; the last one takes all that is
 * left. Return: 0 or -errno. */
int http_start(const struct http_conf *conf, const struct http_front *fronts, size_t n, struct http **ret,
	       struct err *e) MUST_CHECK;
/** http_cut() - end every connection of whoever has this id, in the middle of whatever it does. Any thread. */
void http_cut(struct http *http, const char *who_id);
/** http_stop() - accept nothing more, wait for handlers that run, end all connections; whoever has an upgraded one sees
 * its end and must give it back (within 5 s). */
void http_stop(struct http **http);

/** http_segment() - the @i-th {} of the route, percent-decoded; NULL when there is none. */
const char *http_segment(struct http_req *req, size_t i);
/** http_query() - a query parameter, percent-decoded ('+' stays), NULL when absent. Lives as long as the request. */
const char *http_query(struct http_req *req, const char *name);
const char *http_header(struct http_req *req, const char *name);
/** http_is_secure() - whether it came over TLS. */
bool http_is_secure(struct http_req *req);
/** http_each_header() - of the request; stops when @fn returns other than 0 and returns that. */
int http_each_header(struct http_req *req, int (*fn)(void *ctx, const char *name, const char *value), void *ctx);
/** http_path() - as it came, without the query. */
const char *http_path(const struct http_req *req);
const char *http_method(const struct http_req *req);
/** http_raw_query() - what is behind the question mark, as it came; "". */
const char *http_raw_query(struct http_req *req);
/** http_answer_header() - both are copied; what cannot stand in a header is left out of it. At most HTTP_HEADERS_MAX,
 * others are dropped. */
void http_answer_header(struct http_res *res, const char *name, const char *value);
/** http_range() - the part of @size bytes that the request wants: all of it, or of one range in its header "Range";
 * then the answer's status and Content-Range are set. A header that has another form, or several ranges, counts for
 * nothing. Return: 0; -ERANGE slug "bad-range". */
int http_range(struct http_req *req, struct http_res *res, uint64_t size, uint64_t *ret_at, uint64_t *ret_len,
	       struct err *e);
/** http_body() - the body when it is in memory; *@ret_fd is -1. Else an empty span and *@ret_fd is a file with
 * *@ret_size bytes, borrowed, positioned at its start. */
struct span http_body(struct http_req *req, int *ret_fd, uint64_t *ret_size);
const struct http_who *http_who(const struct http_req *req);
/** http_connection() - for http_suspend() and http_resume(); lives until the answer's read_end(). */
void *http_connection(struct http_req *req);
/** http_suspend() - from inside of an answer's read(), which then returns -EAGAIN: it is not called again before
 * http_resume(). Hold the lock under which you resume. */
void http_suspend(void *connection);
/** http_resume() - any thread; once for each http_suspend(). */
void http_resume(void *connection);
/** http_upgrade_end() - any thread. */
void http_upgrade_end(void *handle);
/** http_later() - what the handler would have returned; its @res is filled. The request is not the caller's any more.
 */
void http_later(struct http_req *req, int r, struct err *e);
/** http_client() - the client's descriptor, borrowed while the request is worked on: to see it go away. */
int http_client(const struct http_req *req);
/** http_status_of() - the HTTP status for a negative errno: -ENOENT is 404, … */
int http_status_of(int code);

/* What was asked of one route since the start. */
struct http_stat {
	const struct http_route *route; /* NULL: of none */
	struct {
		int status;
		uint64_t n;
	} by_status[HTTP_STATUSES]; /* ended by n = 0, or full */
	uint64_t bucket[HTTP_BUCKETS]; /* of http_bucket_us, not cumulated */
	uint64_t n, sum_us;
};
struct http_load {
	unsigned connections, streams, running;
};
extern const uint64_t http_bucket_us[HTTP_BUCKETS];

/** http_stats() - a copy for each route and one for none; free() it. Any thread. */
struct http_stat *http_stats(struct http *http, size_t *ret_n, struct http_load *ret);

#endif
