/* SPDX-License-Identifier: Apache-2.0 */
/* Events as lines of JSON, one after the other for as long as the client listens. It holds no thread. */
#include "host/api/v1/v1.h"

static ssize_t next_piece(void *ctx, uint64_t at, void *to, size_t max)
{
	(void)at;
	return follower_read(ctx, to, max);
}

static void over(void *ctx)
{
	struct follower *r = ctx;

	follower_free(&r);
}

void v1_follow(struct http_res *res, struct follower *reader)
{
	res->type = "application/x-ndjson";
	res->size = HTTP_SIZE_UNKNOWN;
	res->read = next_piece;
	res->read_end = over;
	res->ctx = reader;
}

int v1_events(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct follow_waiter waiter = { http_suspend, http_resume, http_connection(req) };
	uint64_t since, follow;
	int r = v1_query_u64(req, "follow", 0, &follow, e);

	if (r == 0)
		r = v1_query_u64(req, "since", follow ? events_last(api->events) : 0, &since, e);
	if (r < 0)
		return r;
	v1_follow(res, events_follow(api->events, since, follow != 0, &waiter));
	return 0;
}
