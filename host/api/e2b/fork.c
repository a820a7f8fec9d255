/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of a running sandbox: made from one moment of it, one after the other, each with an answer of its own. */
#include "host/api/e2b/e2b.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

enum { FORKS_MAX = 100 };

struct forking {
	struct e2b *e2b;
	struct json_writer w;
	struct hub_create what;
	struct json *door;
};

static void put_error(struct json_writer *w, const struct err *e)
{
	jw_key(w, "error");
	jw_open(w, '{');
	jw_ku64(w, "code", (uint64_t)(e->code == -EAGAIN ? 429 : http_status_of(e->code)));
	jw_kstr(w, "message", e->text);
	jw_close(w, '}');
}

static void fork_one(struct forking *f)
{
	struct err e = ERR_NULL;
	struct hub_info i;

	jw_open(&f->w, '{');
	if (hub_create(f->e2b->hub, &f->what, &i, &e) < 0) {
		put_error(&f->w, &e);
	} else {
		const char *name = json_get_str(f->door, "template", i.template_);

		jw_key(&f->w, "sandbox");
		e2b_put_sandbox(f->e2b, &f->w, &i, name, json_get_str(f->door, "alias", name));
	}
	jw_close(&f->w, '}');
}

int e2b_fork(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(hub_moment_free) struct hub_moment *moment = NULL;
	struct forking f = { .e2b = ctx, .w = { .b = &res->body } };
	AUTO(json_free) struct json *j = NULL, *door = NULL;
	struct hub_info i;
	uint64_t n = 0, k;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = e2b_read_timeout(j, &f.what.timeout_ms, e);
	if (r == 0) {
		n = json_get_u64(j, "count", 1);
		if (!n || n > FORKS_MAX)
			r = err_set(e, -EINVAL, "bad-request", "count is 1 to %d", FORKS_MAX);
	}
	if (r == 0)
		r = e2b_find(f.e2b, req, &i, e);
	if (r == 0)
		r = e2b_memory(f.e2b, i.id, &door, e);
	if (r == 0)
		r = hub_moment_take(f.e2b->hub, i.id, &moment, e);
	if (r < 0)
		return r;
	f.door = door;
	f.what.moment = moment;
	snprintf(f.what.owner, sizeof(f.what.owner), "%s", i.owner);
	if (i.owner[0])
		f.what.owner_max = keys_sandboxes(f.e2b->keys, i.owner);
	jw_open(&f.w, '[');
	for (k = 0; k < n; k++)
		fork_one(&f);
	jw_close(&f.w, ']');
	res->status = 201;
	return 0;
}
