/* SPDX-License-Identifier: Apache-2.0 */
/* What sandboxes used (docs/usage.md): rows of the store by hour and sandbox, added up as is asked for. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/store/store.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>

enum { HOUR_S = 3600, ROWS_MAX = 100000 };
enum by { BY_SANDBOX, BY_KEY, BY_HOUR };

struct sums {
	VEC(struct usage_row) rows; /* a sum each */
	struct map at;		    /* key -> 1 + index */
	enum by by;
	uint32_t until;	   /* hours before this one */
	const char *owner; /* of this key alone; NULL: all */
	bool is_full;
};

static int add(void *ctx, const struct usage_row *row)
{
	struct sums *s = ctx;
	char key[STORE_ID_MAX + 16];
	struct usage_row *to;
	uintptr_t at;

	if (row->hour >= s->until)
		return 1;
	if (s->owner && !str_eq(s->owner, row->owner))
		return 0;
	if (s->by == BY_HOUR)
		snprintf(key, sizeof(key), "%08x/%s", row->hour, row->sandbox);
	else
		snprintf(key, sizeof(key), "%s",
			 s->by == BY_KEY ? row->owner[0] ? row->owner : "socket" : row->sandbox);
	at = (uintptr_t)map_get(&s->at, span_str(key));
	if (!at) {
		if (s->rows.len == ROWS_MAX) {
			s->is_full = true;
			return 1;
		}
		vec_push(&s->rows, ((struct usage_row){ .hour = row->hour }));
		at = s->rows.len;
		map_put(&s->at, span_str(key), (void *)at);
	}
	to = &s->rows.v[at - 1];
	memcpy(to->sandbox, row->sandbox, sizeof(to->sandbox));
	memcpy(to->owner, row->owner, sizeof(to->owner));
	to->run_ms += row->run_ms;
	to->paused_ms += row->paused_ms;
	to->cpu_ns += row->cpu_ns;
	to->memory_mib_ms += row->memory_mib_ms;
	to->moved_b += row->moved_b;
	to->stored_b = s->by == BY_KEY ? MAX(to->stored_b, row->stored_b) : row->stored_b;
	return 0;
}

static void put_sum(struct json_writer *w, const struct sums *s, const struct usage_row *row)
{
	jw_open(w, '{');
	if (s->by == BY_HOUR)
		jw_ku64(w, "hour", (uint64_t)row->hour * HOUR_S);
	if (s->by != BY_KEY)
		jw_kstr(w, "sandbox", row->sandbox);
	jw_kstr(w, "key", row->owner[0] ? row->owner : "socket");
	jw_ku64(w, "run_ms", row->run_ms);
	jw_ku64(w, "paused_ms", row->paused_ms);
	jw_ku64(w, "cpu_ms", row->cpu_ns / 1000000);
	jw_ku64(w, "memory_mib_s", row->memory_mib_ms / 1000);
	if (s->by != BY_KEY)
		jw_ku64(w, "stored_b", row->stored_b);
	jw_ku64(w, "moved_b", row->moved_b);
	jw_close(w, '}');
}

static int hour_of(struct http_req *req, const char *name, uint64_t otherwise, uint32_t *ret, struct err *e)
{
	const char *text = http_query(req, name);
	uint64_t s = otherwise;

	if (text && num_u64(text, (uint64_t)UINT32_MAX * HOUR_S, &s) < 0)
		return err_set(e, -EINVAL, "bad-request", "%s must be seconds since 1970", name);
	*ret = (uint32_t)(s / HOUR_S);
	return 0;
}

int v1_usage(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	const char *by = http_query(req, "by"), *until = http_query(req, "until");
	struct sums s = { .by = BY_SANDBOX, .until = UINT32_MAX };
	struct json_writer w = { .b = &res->body };
	uint32_t from;
	size_t i;
	int r = hour_of(req, "since", 0, &from, e);

	if (r == 0 && until)
		r = hour_of(req, "until", 0, &s.until, e);
	if (r == 0 && by && !str_eq(by, "sandbox") && !str_eq(by, "key") && !str_eq(by, "hour"))
		r = err_set(e, -EINVAL, "bad-request", "by is sandbox, key or hour");
	if (r < 0)
		return r;
	s.by = str_eq(by, "key") ? BY_KEY : str_eq(by, "hour") ? BY_HOUR : BY_SANDBOX;
	s.owner = v1_sees_all(req) ? http_query(req, "key") : http_who(req)->id;
	r = hub_used(api->hub, from, add, &s, e);
	if (r < 0)
		err_sys(e, r, "reading what sandboxes used");
	else if (s.is_full)
		r = err_set(e, -E2BIG, "too-many-rows", "more than %d rows; ask for less time, or by key", ROWS_MAX);
	else
		r = 0;
	if (r == 0) {
		jw_open(&w, '[');
		for (i = 0; i < s.rows.len; i++)
			put_sum(&w, &s, &s.rows.v[i]);
		jw_close(&w, ']');
		buf_append(&res->body, "\n", 1);
	}
	vec_fini(&s.rows);
	map_fini(&s.at);
	return r;
}
