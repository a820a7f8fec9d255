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

struct http_conf {
	int listen_fd;	      /* taken over */
	struct pool *pool;    /* runs handlers */
	const char *spool_dir; /* for long bodies */
	uint64_t body_max_b;
	unsigned connections;
};

enum { HTTP_BODY_MEMORY = 1024 * 1024 };

/* What a handler answers; starts as 200 with an empty JSON body. */
struct http_res {
	int status;
	const char *type; /* Content-Type; a constant */
	struct buf body;  /* at most 64 MiB */
	/* Instead of @body: @size bytes fetched piece by piece on the server's thread; Return: bytes, or -errno to cut
	 * off. */
	ssize_t (*read)(void *ctx, uint64_t at, void *to, size_t max);
	uint64_t size;
	void (*read_end)(void *ctx);
	/* Instead of @body: 101, then the raw connection. Called on the server's thread; @first was read already
	 * (borrowed). The descriptor is given back with http_upgrade_end(@handle), never closed. */
	void (*upgrade)(void *ctx, int fd, struct span first, void *handle);
	void (*upgrade_drop)(void *ctx); /* called instead when the client has gone before that */
	void *ctx;			 /* of read and upgrade */
};

/** A handler: on a pool thread. Return: 0 and @res is filled; -errno with @e, from which the error body is made. */
typedef int http_handler(void *ctx, struct http_req *req, struct http_res *res, struct err *e);

struct http_route {
	const char *method;
	const char *pattern; /* "/v1/sandboxes/{}/files": each {} is one segment, never empty */
	http_handler *handler;
};

/** http_start() - serve @routes (n of them, borrowed) with @ctx. Return: 0 or -errno. */
int http_start(const struct http_conf *conf, const struct http_route *routes, size_t n, void *ctx, struct http **ret,
	       struct err *e) MUST_CHECK;
/** http_stop() - accept nothing more, wait for handlers that run, end all connections; whoever has an upgraded one sees
 * its end and must give it back (within 5 s). */
void http_stop(struct http **http);

/** http_segment() - the @i-th {} of the route, percent-decoded; NULL when there is none. */
const char *http_segment(struct http_req *req, size_t i);
/** http_query() - a query parameter, percent-decoded ('+' stays), NULL when absent. Lives as long as the request. */
const char *http_query(struct http_req *req, const char *name);
const char *http_header(struct http_req *req, const char *name);
/** http_body() - the body when it is in memory; *@ret_fd is -1. Else an empty span and *@ret_fd is a file with
 * *@ret_size bytes, borrowed, positioned at its start. */
struct span http_body(struct http_req *req, int *ret_fd, uint64_t *ret_size);
/** http_upgrade_end() - any thread. */
void http_upgrade_end(void *handle);
/** http_status_of() - the HTTP status for a negative errno: -ENOENT is 404, … */
int http_status_of(int code);

#endif
