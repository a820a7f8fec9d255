/* SPDX-License-Identifier: Apache-2.0 */
/* Lists, in pages: sandboxes. The mark of a page is the number of the entry that comes next. */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/http/parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAGE = 100 };

int e2b_page_of(struct http_req *req, struct e2b_page *ret, struct err *e)
{
	const char *limit = http_query(req, "limit"), *next = http_query(req, "nextToken");

	*ret = (struct e2b_page){ .limit = PAGE };
	if ((limit && (num_u64(limit, PAGE, &ret->limit) < 0 || !ret->limit)) ||
	    (next && *next && num_u64(next, UINT32_MAX, &ret->from) < 0))
		return err_set(e, -EINVAL, "bad-request", "limit is 1 to %d, nextToken what an answer said", PAGE);
	return 0;
}

void e2b_page_more(struct http_res *res, const struct e2b_page *p, size_t n)
{
	char number[24];

	if (p->from + p->limit >= n)
		return;
	snprintf(number, sizeof(number), "%llu", (unsigned long long)(p->from + p->limit));
	http_answer_header(res, "x-next-token", number);
}

/* --- sandboxes ---------------------------------------------------------------------------------------------------- */

struct query {
	struct http_req *req;
	struct e2b *e2b;
	bool running, paused;
	const char *template_;
	int64_t after_ns;
	char **pairs; /* key, value, ..., NULL */
	VEC(struct hub_info) found;
};

static int has_pair(void *ctx, const char *key, const struct json *value)
{
	char **pair = ctx;

	return str_eq(key, pair[0]) && str_eq(json_text(value), pair[1]);
}

static bool has_pairs(const struct query *q, const char *id)
{
	AUTO(json_free) struct json *j = NULL;
	struct buf text;
	char **pair;
	bool yes;

	if (!q->pairs)
		return true;
	buf_init(&text, HUB_META_MAX + 1);
	yes = hub_meta(q->e2b->hub, id, &text, NULL) == 0 &&
	      json_parse(buf_len(&text) ? buf_span(&text) : span_str("{}"), &j, NULL) == 0;
	for (pair = q->pairs; yes && pair[0]; pair += 2)
		yes = json_each(j, has_pair, pair) != 0;
	buf_fini(&text);
	return yes;
}

static bool has_template(const struct query *q, const struct hub_info *i)
{
	AUTO(json_free) struct json *j = NULL;

	if (!q->template_ || str_eq(i->template_, q->template_))
		return true;
	return e2b_memory(q->e2b, i->id, &j, NULL) == 0 && (str_eq(json_get_str(j, "template", ""), q->template_) ||
							   str_eq(json_get_str(j, "alias", ""), q->template_));
}

static int look(void *ctx, const struct hub_info *i)
{
	struct query *q = ctx;
	bool runs = i->state == SANDBOX_RUNNING || i->state == SANDBOX_RESUMING;
	bool is_paused = i->state == SANDBOX_PAUSED || i->state == SANDBOX_PAUSING;

	if (((runs && q->running) || (is_paused && q->paused)) && e2b_is_ours(q->req, i) &&
	    i->created_ns > q->after_ns && has_template(q, i) && has_pairs(q, i->id))
		vec_push(&q->found, *i);
	return 0;
}

/* A form whose names and values are encoded once more in themselves. */
static int pairs_of(const char *form, char ***ret, struct err *e)
{
	VEC(char *) all = { 0 };
	int r = 0;

	while (r == 0 && *form) {
		size_t len = strcspn(form, "&"), eq = strcspn(form, "=&");
		AUTO(str_free) char *key = span_dup(SPAN(form, eq));
		AUTO(str_free) char *value = span_dup(SPAN(form + eq + (eq < len), len - eq - (eq < len)));
		char *texts[] = { key, value };
		size_t i;

		for (i = 0; i < 2; i++) {
			AUTO(str_free) char *once = parse_decode(span_str(texts[i]));
			char *twice = once ? parse_decode(span_str(once)) : NULL;

			if (!twice)
				r = err_set(e, -EINVAL, "bad-request", "metadata is not encoded as it should be");
			else
				vec_push(&all, twice);
		}
		form += len + (form[len] == '&');
	}
	vec_push(&all, NULL);
	*ret = all.v;
	if (r < 0)
		strv_free(ret);
	return r;
}

static int when(const char *text, int64_t *ret_ns, struct err *e)
{
	struct tm tm = { .tm_isdst = 0 };
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	double part = 0;

	*ret_ns = INT64_MIN;
	if (!text)
		return 0;
	if (!rest)
		return err_set(e, -EINVAL, "bad-request", "startedAfter is a time as in RFC 3339");
	if (*rest == '.')
		part = strtod(rest, NULL);
	*ret_ns = (int64_t)timegm(&tm) * (int64_t)CLOCK_S + (int64_t)(part * (double)CLOCK_S);
	return 0;
}

static int new_first(const void *a, const void *b)
{
	const struct hub_info *x = a, *y = b;

	return x->created_ns < y->created_ns ? 1 : x->created_ns > y->created_ns ? -1 : strcmp(x->id, y->id);
}

int e2b_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct query q = { .req = req, .e2b = ctx, .template_ = http_query(req, "template") };
	const char *state = http_query(req, "state"), *order = http_query(req, "order"),
		   *form = http_query(req, "metadata");
	AUTO(strv_free) char **pairs = NULL;
	bool old = str_eq(http_path(req), "/sandboxes"), rising = str_eq(order, "asc");
	struct json_writer w = { .b = &res->body };
	struct e2b_page p;
	size_t i;
	int r = e2b_page_of(req, &p, e);

	q.running = old || !state || strstr(state, "running");
	q.paused = !old && (!state || strstr(state, "paused"));
	if (r == 0)
		r = when(http_query(req, "startedAfter"), &q.after_ns, e);
	if (r == 0 && form && *form)
		r = pairs_of(form, &pairs, e);
	if (r < 0)
		return r;
	q.pairs = pairs;
	(void)hub_each(q.e2b->hub, false, look, &q);
	if (q.found.len)
		qsort(q.found.v, q.found.len, sizeof(q.found.v[0]), new_first);
	jw_open(&w, '[');
	for (i = p.from; i < q.found.len && i < p.from + p.limit; i++)
		e2b_put_listed(q.e2b, &w, &q.found.v[rising ? q.found.len - 1 - i : i]);
	jw_close(&w, ']');
	e2b_page_more(res, &p, q.found.len);
	vec_fini(&q.found);
	return 0;
}

/* --- teams -------------------------------------------------------------------------------------------------------- */

/* There is one: whoever asks. */
int e2b_teams(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	const struct http_who *who = http_who(req);
	struct json_writer w = { .b = &res->body };

	(void)ctx;
	(void)e;
	jw_open(&w, '[');
	jw_open(&w, '{');
	jw_kstr(&w, "teamID", who->id[0] ? who->id : "local");
	jw_kstr(&w, "name", who->id[0] ? who->name : "local");
	jw_kstr(&w, "apiKey", "");
	jw_key(&w, "isDefault");
	jw_bool(&w, true);
	jw_close(&w, '}');
	jw_close(&w, ']');
	return 0;
}
