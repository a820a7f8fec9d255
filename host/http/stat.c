/* SPDX-License-Identifier: Apache-2.0 */
/* Counting answers. A row per route and a fixed set of statuses: nobody outside can make it grow. */
#include "host/http/inside.h"

/* The last one has no end. */
const uint64_t http_bucket_us[HTTP_BUCKETS] = { 500,	1000,	 2500,	  5000,	   10000,   25000,
						100000, 250000, 1000000, 5000000, 30000000, UINT64_MAX };

void http_stat_add(struct http *http, const struct http_route *route, int status, uint64_t ns)
{
	uint64_t us = ns / 1000;
	struct http_stat *s = http->stats;
	size_t i;

	while (s->route && s->route != route) /* some dozens; the last is for what none takes */
		s++;
	lock_take(&http->lock);
	for (i = 0; i < HTTP_STATUSES - 1 && s->by_status[i].n && s->by_status[i].status != status;)
		i++;
	s->by_status[i].status = status;
	s->by_status[i].n++;
	for (i = 0; us > http_bucket_us[i];)
		i++;
	s->bucket[i]++;
	s->n++;
	s->sum_us += us;
	lock_drop(&http->lock);
}

static unsigned count(const struct list *l)
{
	const struct list *pos;
	unsigned n = 0;

	list_each(pos, l)
		n++;
	return n;
}

struct http_stat *http_stats(struct http *http, size_t *ret_n, struct http_load *ret)
{
	struct http_stat *all;

	lock_take(&http->lock);
	*ret_n = http->nroutes + 1;
	all = must_memdup(http->stats, *ret_n * sizeof(*all));
	*ret = (struct http_load){ .connections = count(&http->conns),
				   .streams = count(&http->upgraded),
				   .running = http->running };
	lock_drop(&http->lock);
	return all;
}
