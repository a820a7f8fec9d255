/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_INSIDE_H
#define CLIENT_INSIDE_H

/* What the files of the library share. */
#include "base/buf.h"
#include "base/err.h"
#include "berth/client.h"
#include "json/json.h"

struct berth {
	char *socket;	    /* of the daemon, or */
	char *host, *port;  /* where it listens, and */
	char *base;	    /* "http://berth" or "http://HOST:PORT" */
	char *key;	    /* NULL: none */
	void (*progress)(void *ctx, uint64_t done, uint64_t all);
	void *progress_ctx;
	void *curl; /* http.c's */
};

enum { CLIENT_REPLY_MAX = 64 * 1024 * 1024 };

/* One request. A status of 400 or more becomes an error from its JSON body. Parts that are not wanted are 0 or -1. */
struct client_call {
	const char *method;
	const char *path; /* with query, encoded already */
	struct span json; /* the body, or */
	int from_fd;	  /* a descriptor to send, -1 */
	int to_fd;	  /* where a good answer goes, -1: into reply */
	struct buf *reply;
	/* Called with each piece of a good answer, when there is one; not 0 ends the call, which is no error then. */
	int (*each)(void *ctx, const void *data, size_t len);
	void *ctx;
	uint64_t *left_out; /* yields what the header X-Berth-Left-Out of the answer says */
	const bool *stopped; /* set by @each when it returned not 0 */
	/* Called while the answer is awaited, about once a second, in place of the handle's own progress. */
	void (*tick)(void *ctx);
};

int client_call(struct berth *b, const struct client_call *c, struct berth_error *e);
/* A call with a JSON answer, which is parsed; @ret NULL: not wanted. Sets the call's reply. */
int client_call_json(struct berth *b, struct client_call *c, struct json **ret, struct berth_error *e);
/* A request with a JSON answer, parsed. @body may be empty. */
int client_json(struct berth *b, const char *method, const char *path, struct span body, struct json **ret,
		struct berth_error *e);
/* The same as text. */
int client_text(struct berth *b, const char *method, const char *path, struct span body, char **ret,
		struct berth_error *e);
/* Turn a connection into a stream: 101, then raw. @body_fd: sent as the body (its size from fstat), -1 none; or @json.
 */
int client_upgrade(struct berth *b, const char *method, const char *path, struct span json, int body_fd, int *ret_fd,
		   struct buf *rest, struct berth_error *e);
/* network.c: a member that is an array of texts. */
void client_put_list(struct json_writer *w, const char *key, const char *const *v);
void client_close(struct berth *b);

/** client_lines() - GET lines, each given to @fn until it returns not 0, which is returned. With @follow an end is an
 * error. */
int client_lines(struct berth *b, const char *path, bool follow, int (*fn)(void *ctx, const char *line), void *ctx,
		 struct berth_error *e);
/* Percent-encode one segment or query value, on the heap. */
char *client_encode(const char *raw);
/** client_bytes() - a string of an answer, or the bytes of it that could not be one ("key_hex"); on the heap. */
char *client_bytes(const struct json *j, const char *key, const char *otherwise);
int client_error(struct berth_error *e, int code, const char *slug, const char *fmt, ...) PRINTF(4, 5);
int client_from_err(struct berth_error *e, const struct err *from, int code);
/* The error that a body of an answer with @status tells. */
int client_refused(int status, struct span body, struct berth_error *e);
/* The error that the agent's ERROR frame tells. */
struct frame;
int client_told(const struct frame *f, struct berth_error *e);

#endif
