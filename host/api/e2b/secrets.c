/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets that a key makes for itself. The value comes in clear text, is sealed to our own key before anything else is
 * done, and goes out again by the broker alone (network.rules). What is told of one is kept beside it as a line of
 * JSON: its id, when it was made, and the caller's own words.
 */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/str.h"
#include "host/secret/secret.h"
#include "seal/digest.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

enum { META_MAX = 32, META_KEY_MAX = 128, META_VALUE_MAX = 1024, META_ALL_MAX = 8192, ID_BYTES = 10 };

#define ID_PREFIX "sec_"

/* One that was found: copies. */
struct found {
	char word[SECRETS_WORD_MAX + 1];
	uint32_t number;
	int64_t added_ns;
	struct json *note;
};

static void found_fini(struct found *f)
{
	json_free(&f->note);
}

static int no_secret(const char *what, struct err *e)
{
	return err_set(e, -ENOENT, "no-such-secret", "secret '%.80s' not found", what);
}

static int put_text(void *ctx, const char *key, const struct json *value)
{
	jw_kstr(ctx, key, json_text(value));
	return 0;
}

static void put_secret(struct json_writer *w, const struct found *f)
{
	jw_open(w, '{');
	jw_kstr(w, "secretID", json_get_str(f->note, "id", ""));
	jw_kstr(w, "name", f->word);
	jw_ku64(w, "currentVersion", f->number);
	jw_key(w, "metadata");
	jw_open(w, '{');
	(void)json_each(json_get(f->note, "metadata"), put_text, w);
	jw_close(w, '}');
	e2b_time(w, "createdAt", json_get_i64(f->note, "created", f->added_ns));
	e2b_time(w, "updatedAt", f->added_ns);
	jw_close(w, '}');
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

struct search {
	const char *owner, *what; /* a name or an id; NULL: all of them */
	uint64_t from, limit, n;  /* a page, and how many there are */
	struct found *v;	  /* at most limit */
	size_t len;
};

static int look(void *ctx, const struct secrets_info *info)
{
	const char *name = info->policy->name, *word = secrets_own_word(name);
	struct search *s = ctx;
	struct found f = { .number = info->number, .added_ns = info->added_ns };

	if (!word || !secrets_own_may(name, s->owner) || json_parse(span_str(info->note), &f.note, NULL) < 0)
		return 0;
	snprintf(f.word, sizeof(f.word), "%s", word);
	if ((s->what && !str_eq(s->what, word) && !str_eq(s->what, json_get_str(f.note, "id", ""))) ||
	    s->n++ < s->from || s->len == s->limit) {
		found_fini(&f);
		return 0;
	}
	s->v[s->len++] = f;
	return 0;
}

static int find(struct e2b *e2b, const char *owner, const char *what, struct found *ret, struct err *e)
{
	AUTO(str_free) char *small = must_strdup(what);
	struct search s = { .owner = owner, .what = small, .limit = 1, .v = ret };
	char *p;

	for (p = small; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	secrets_each(e2b->secrets, look, &s);
	return s.len ? 0 : no_secret(what, e);
}

/* --- what comes --------------------------------------------------------------------------------------------------- */

struct words {
	struct json_writer *w;
	size_t n, all;
};

static int put_word(void *ctx, const char *key, const struct json *value)
{
	const char *text = json_text(value);
	struct words *x = ctx;

	if (!text || ++x->n > META_MAX || strlen(key) > META_KEY_MAX || strlen(text) > META_VALUE_MAX)
		return -EINVAL;
	x->all += strlen(key) + strlen(text);
	jw_kstr(x->w, key, text);
	return x->all > META_ALL_MAX ? -EINVAL : 0;
}

/* What is told of it. @old: of the version before, NULL: there is none. */
static int write_note(const struct json *body, const struct json *old, struct buf *to, struct err *e)
{
	const struct json *meta = json_get(body, "metadata");
	struct json_writer w = { .b = to };
	struct words words = { .w = &w };
	char id[sizeof(ID_PREFIX) + 2 * (size_t)ID_BYTES] = ID_PREFIX;
	uint8_t raw[ID_BYTES];

	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), id + strlen(ID_PREFIX));
	jw_open(&w, '{');
	jw_kstr(&w, "id", json_get_str(old, "id", id));
	jw_key(&w, "created");
	jw_i64(&w, json_get_i64(old, "created", clock_wall()));
	jw_key(&w, "metadata");
	jw_open(&w, '{');
	if (json_each(meta ? meta : json_get(old, "metadata"), put_word, &words) || to->failed)
		return err_set(e, -EINVAL, "bad-request",
			       "metadata is an object of at most %d strings, its names of %d bytes, its values of %d, "
			       "%d in all",
			       META_MAX, META_KEY_MAX, META_VALUE_MAX, META_ALL_MAX);
	jw_close(&w, '}');
	jw_close(&w, '}');
	return 0;
}

/* The body, and the value out of it, which is then nowhere else than in the body. */
static int read_body(struct http_req *req, struct json **ret, struct secret **ret_value, struct err *e)
{
	const char *text;
	int r = e2b_body(req, ret, e);

	if (r < 0 && r != -E2BIG) {
		*e = ERR_NULL; /* it quotes */
		return err_set(e, -EINVAL, "bad-json", "the body is no JSON");
	}
	if (r < 0)
		return r;
	text = json_get_str(*ret, "value", NULL);
	if (!text)
		return err_set(e, -EINVAL, "bad-request", "value must be a string");
	*ret_value = secret_of(span_str(text));
	return *ret_value ? 0 : err_sys(e, -ENOMEM, "memory");
}

static int put(struct e2b *e2b, const char *owner, const char *word, const struct json *body, const struct json *old,
	       struct secret *value, struct err *e)
{
	AUTO(buf_fini) struct buf note;
	struct secrets_own o = { .owner = owner, .word = word, .value = value };
	int r;

	buf_init(&note, SECRETS_NOTE_MAX);
	r = write_note(body, old, &note, e);
	if (r < 0)
		return r;
	o.note = buf_str(&note);
	/* What is told of the one before says where it may go, too, when nothing new does. */
	o.hosts = json_get_str(json_get(body, "metadata") ? json_get(body, "metadata") : json_get(old, "metadata"),
			       "hosts", NULL);
	return secrets_own_put(e2b->secrets, &o, !old, e);
}

static int answer(struct e2b *e2b, const char *owner, const char *what, struct http_res *res, struct err *e)
{
	struct json_writer w = { .b = &res->body };
	struct found f = { .note = NULL };
	int r = find(e2b, owner, what, &f, e);

	if (r == 0)
		put_secret(&w, &f);
	found_fini(&f);
	return r;
}

/* --- the routes --------------------------------------------------------------------------------------------------- */

int e2b_secret_create(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	const char *owner = http_who(req)->id, *name;
	AUTO(secret_free) struct secret *value = NULL;
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *small = NULL;
	struct e2b *e2b = ctx;
	char *p;
	int r = read_body(req, &j, &value, e);

	if (r < 0)
		return r;
	name = json_get_str(j, "name", "");
	small = must_strdup(name);
	for (p = small; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (str_starts(small, ID_PREFIX))
		return err_set(e, -EINVAL, "bad-request", "names that begin with " ID_PREFIX " are those of ids");
	r = put(e2b, owner, small, j, NULL, value, e);
	if (r == -EEXIST) {
		*e = ERR_NULL;
		return err_set(e, -EEXIST, "secret-exists", "secret '%.80s' already exists", small);
	}
	if (r == 0)
		r = answer(e2b, owner, small, res, e);
	if (r == 0)
		res->status = 201;
	return r;
}

int e2b_secret_update(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	const char *owner = http_who(req)->id;
	AUTO(secret_free) struct secret *value = NULL;
	AUTO(json_free) struct json *j = NULL;
	AUTO(found_fini) struct found f = { .note = NULL };
	struct e2b *e2b = ctx;
	int r = read_body(req, &j, &value, e);

	if (r == 0)
		r = find(e2b, owner, http_segment(req, 0), &f, e);
	if (r == 0)
		r = put(e2b, owner, f.word, j, f.note, value, e);
	return r < 0 ? r : answer(e2b, owner, f.word, res, e);
}

int e2b_secret_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return answer(ctx, http_who(req)->id, http_segment(req, 0), res, e);
}

int e2b_secret_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct search s = { .owner = http_who(req)->id };
	struct json_writer w = { .b = &res->body };
	struct e2b *e2b = ctx;
	struct e2b_page p;
	size_t i;
	int r = e2b_page_of(req, &p, e);

	if (r < 0)
		return r;
	s.from = p.from;
	s.limit = p.limit;
	s.v = must_calloc(p.limit, sizeof(s.v[0]));
	secrets_each(e2b->secrets, look, &s);
	jw_open(&w, '[');
	for (i = 0; i < s.len; i++) {
		put_secret(&w, &s.v[i]);
		found_fini(&s.v[i]);
	}
	jw_close(&w, ']');
	free(s.v);
	e2b_page_more(res, &p, s.n);
	return 0;
}

int e2b_secret_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	const char *owner = http_who(req)->id;
	AUTO(found_fini) struct found f = { .note = NULL };
	char name[SEAL_NAME_MAX + 1];
	struct e2b *e2b = ctx;
	int r = find(e2b, owner, http_segment(req, 0), &f, e);

	if (r == 0)
		r = secrets_own_name(owner, f.word, name);
	if (r == 0)
		r = secrets_remove(e2b->secrets, name, owner, e);
	if (r == 0)
		res->status = 204;
	return r;
}
