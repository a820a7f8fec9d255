/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_HTTP_INSIDE_H
#define HOST_HTTP_INSIDE_H

/* What the files of this room share. Not for other rooms. */
#include "base/list.h"
#include "base/lock.h"
#include "host/http/http.h"
#include "host/http/parse.h"

struct MHD_Connection;
struct MHD_Daemon;

enum { HTTP_RES_BODY_MAX = 64 * 1024 * 1024, HTTP_ALLOW_MAX = 64 };

/* One of the doors. */
struct http_door {
	struct http *http;
	struct MHD_Daemon *mhd;
	bool keyed;
};

/* strangers.c: addresses that failed to show a key. Each has a bucket of failures that empties by a minute's worth in a
 * minute; while it is full those without a valid key are refused with another word. A bounded table: he who was quiet
 * longest makes room. */
enum { STRANGERS_MAX = 1024 };

struct stranger {
	uint8_t address[16]; /* IPv6 or mapped; of IPv6 the first 64 bits, which one person has */
	uint64_t failures_m; /* thousandths */
	uint64_t at; /* clock_now() of the last change; 0: a free place */
};

struct strangers {
	unsigned per_minute; /* 0: no limit */
	struct lock lock;
	struct stranger *v; /* STRANGERS_MAX, made with the first failure */
};

struct sockaddr;
/* A request showed no valid key, as @e says. @sa: of the client; NULL is nobody. Return: true, and @e says so instead,
 * when this address has failed too often; then this one is not counted. */
bool strangers_failed(struct strangers *s, const struct sockaddr *sa, struct err *e);

/* A connection, from accept to close. What is not said otherwise is guarded by http.lock. */
struct http_conn {
	struct list node;
	int fd;
	bool busy;	/* a request is worked on or answered: nothing is expected of the client */
	uint64_t since; /* when it began to owe us a request, or brought the last piece of one */
	struct http_who who;
};

struct http {
	struct http_conf conf;
	char *spool_dir;
	struct http_front front[HTTP_FRONTS_MAX];
	size_t fronts, nroutes; /* of all fronts */
	struct http_door door[HTTP_DOORS_MAX];
	uint64_t next_id; /* atomic */
	struct lock lock;
	pthread_cond_t cond;
	unsigned running; /* guarded by lock */
	unsigned sending; /* answered, but not sent to the end; guarded by lock */
	struct list conns, upgraded; /* guarded by lock */
	struct http_stat *stats;     /* one for each route and one for none; guarded by lock */
	struct strangers strangers;
	struct loop_timer *sweeper;  /* the loop's */
	bool ending;
};

enum req_state { REQ_BODY, REQ_RUNNING, REQ_ANSWERED };

struct http_req {
	struct http *http;
	struct MHD_Connection *conn;
	struct http_conn *on;
	enum req_state state;
	bool is_counted; /* in http.sending */
	char id[24];
	char *method, *path, *raw_query; /* the last one when it was asked for */
	uint64_t began;
	const struct http_front *front;
	const struct http_route *route;
	char allow[HTTP_ALLOW_MAX]; /* the methods that the resource takes, when it does not take this one */
	struct http_who who;
	struct parse_segments segments;
	struct parse_kept kept; /* decoded query values */
	struct buf body;
	int spool_fd;
	uint64_t body_b, body_told;
	struct err e; /* a failure before the handler */
	struct http_res res;
};

/* request.c: libmicrohttpd's callbacks; door is a struct http_door. */
struct http_req *http_req_new(struct http_door *door, struct MHD_Connection *conn, const char *url, const char *method);
void http_req_free(struct http_req *req);
/* A part of the body. */
void http_req_take(struct http_req *req, const char *data, size_t len);
/* Everything is here, or it failed. Return: true when req.res is to be sent now, false when a thread works on it. */
bool http_req_start(struct http_req *req);

/* stat.c */
void http_stat_add(struct http *http, const struct http_route *route, int status, uint64_t ns);

/* server.c */
void http_req_resume(struct http_req *req);

#endif
