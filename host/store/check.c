/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck, the content environment's half: every object has the name that its bytes ask for, and whatever it refers to is
 * there. With that, a reference from a workspace is sound when its root is there, and no tree has to be walked.
 *
 * Order matters when a daemon writes meanwhile: a workspace's state is opened before the state of the contents that it
 * is compared with (check-ws.c begins a new content transaction for each), since contents are durable before they are
 * named.
 */
#include "host/store/check.h"
#include "host/store/layer.h"

#include "base/str.h"
#include "host/store/tree-node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static PRINTF(2, 0) void tell(struct check *c, const char *fmt, va_list ap)
{
	char words[512];
	int n = snprintf(words, sizeof(words), "%s: ", c->where);

	vsnprintf(words + n, sizeof(words) - (size_t)n, fmt, ap);
	if (c->say)
		c->say(c->ctx, words);
}

void check_say(struct check *c, const char *fmt, ...)
{
	va_list ap;

	c->stats.problems++;
	va_start(ap, fmt);
	tell(c, fmt, ap);
	va_end(ap);
}

void check_note(struct check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(c, fmt, ap);
	va_end(ap);
}

int check_has(struct check *c, enum content_table table, const struct digest *d)
{
	struct span v;
	int r = db_get(c->content, table, digest_span(d), &v);

	return r < 0 ? r : r == 0;
}

/* The object whose references are being checked. */
struct object {
	struct check *c;
	const char *kind;
	char hex[2 * DIGEST_LEN + 1];
};

static int want(struct object *o, enum content_table table, const struct digest *d)
{
	char hex[2 * DIGEST_LEN + 1];
	int r = check_has(o->c, table, d);

	if (r)
		return r < 0 ? r : 0;
	str_hex(d->b, DIGEST_LEN, hex);
	check_say(o->c, "%s %s refers to %s %s, which is missing", o->kind, o->hex, content_tables[table], hex);
	return 0;
}

static int check_list(struct object *o, struct span v)
{
	uint32_t level = list_level(v), count, i;
	int r = 0;

	if (level < 1 || level >= CONTENT_DEPTH_MAX || list_check(v, level, &count)) {
		check_say(o->c, "list %s has a form that is unknown", o->hex);
		return 0;
	}
	for (i = 0; i < count && r == 0; i++) {
		struct digest d = list_slot(v, i);
		struct span below;

		if (digest_is_zero(&d))
			continue;
		r = want(o, level == 1 ? CT_CHUNK : CT_LIST, &d);
		if (r == 0 && level > 1 && db_get(o->c->content, CT_LIST, digest_span(&d), &below) == 0 &&
		    list_level(below) != level - 1)
			check_say(o->c, "list %s refers to a list of the wrong level", o->hex);
	}
	return r;
}

static int tree_ref(void *ctx, const struct digest *tree, const struct content *content)
{
	struct object *o = ctx;

	if (tree)
		return want(o, CT_TREE, tree);
	if (content->depth == 0 || content_is_elsewhere(content))
		return 0;
	return want(o, content->depth == 1 ? CT_CHUNK : CT_LIST, &content->root);
}

static int check_object(struct check *c, enum content_table table, struct span key, struct span v)
{
	struct object o = { .c = c, .kind = content_tables[table] };
	struct digest is = object_digest(table, v);
	int r = 0;

	c->stats.bytes += v.len;
	if (key.len != DIGEST_LEN) {
		check_say(c, "a %s has a name of %zu bytes", o.kind, key.len);
		return 0;
	}
	str_hex(key.p, DIGEST_LEN, o.hex);
	if (memcmp(is.b, key.p, DIGEST_LEN) != 0) {
		check_say(c, "%s %s is damaged: its bytes have another hash", o.kind, o.hex);
		return 0;
	}
	if (table == CT_CHUNK) {
		c->stats.chunks++;
		if (v.len == 0 || v.len > CHUNK_LEN)
			check_say(c, "chunk %s has %zu bytes", o.hex, v.len);
	} else if (table == CT_LIST) {
		r = check_list(&o, v);
	} else {
		r = tree_each_ref(v, tree_ref, &o);
		if (r == -EIO) {
			check_say(c, "tree %s has a form that is unknown", o.hex);
			r = 0;
		}
	}
	return r;
}

static int check_table(struct check *c, enum content_table table)
{
	struct span key = SPAN_NULL, v;
	enum db_step step = DB_AT_LEAST;
	int r = 0;

	/* Looking up references uses no cursor, so the walk stands where it was. */
	while (r == 0 && (r = db_walk(c->content, table, step, SPAN_NULL, &key, &v)) == 0) {
		r = check_object(c, table, key, v);
		step = DB_NEXT;
	}
	return r < 0 ? r : 0;
}

static int check_access(struct check *c)
{
	struct span key, v;
	struct access_key k;
	enum db_step step = DB_AT_LEAST;
	int r = 0;

	while (r == 0 && (r = db_walk(c->content, CT_META, step, span_str(access_prefix), &key, &v)) == 0) {
		if (key.len < ACCESS_PREFIX || memcmp(key.p, access_prefix, ACCESS_PREFIX) != 0)
			return 0;
		if (access_unpack(key, v, &k) < 0)
			check_say(c, "the row %.*s of an API key has a form that is unknown",
				  (int)MIN(key.len, (size_t)40), (const char *)key.p);
		step = DB_NEXT;
	}
	return r < 0 ? r : 0;
}

static int check_rules(struct check *c)
{
	enum db_step step = DB_AT_LEAST;
	struct span key, v;
	int r = 0;

	while (r == 0 && (r = db_walk(c->content, CT_META, step, span_str(rules_prefix), &key, &v)) == 0) {
		if (key.len < RULES_PREFIX || memcmp(key.p, rules_prefix, RULES_PREFIX) != 0)
			return 0;
		if (!rules_row_ok(key, v))
			check_say(c, "the row %.*s holds no rules", (int)MIN(key.len, (size_t)80), (const char *)key.p);
		step = DB_NEXT;
	}
	return r < 0 ? r : 0;
}

static int check_secrets(struct check *c)
{
	enum db_step step = DB_AT_LEAST;
	struct span key, v;
	int r = 0;

	while (r == 0 && (r = db_walk(c->content, CT_META, step, span_str(secret_prefix), &key, &v)) == 0) {
		if (key.len < SECRET_PREFIX || memcmp(key.p, secret_prefix, SECRET_PREFIX) != 0)
			return 0;
		if (!secret_row_ok(key, v))
			check_say(c, "the row %.*s holds no secret", (int)MIN(key.len, (size_t)150),
				  (const char *)key.p);
		step = DB_NEXT;
	}
	return r < 0 ? r : 0;
}

/* Numbered without gaps, each chained to the one before; that of the oldest is gone. */
static int check_audit(struct check *c)
{
	enum db_step step = DB_AT_LEAST;
	struct digest before = { .b = { 0 } }, is;
	struct audit_row row;
	uint64_t last = 0;
	struct span key, v;
	int r = 0;

	while (r == 0 && (r = db_walk(c->content, CT_META, step, span_str(audit_prefix), &key, &v)) == 0) {
		if (key.len < AUDIT_PREFIX || memcmp(key.p, audit_prefix, AUDIT_PREFIX) != 0)
			return 0;
		step = DB_NEXT;
		if (audit_unpack(key, v, &row) < 0) {
			check_say(c, "the row %.*s of the audit has a form that is unknown",
				  (int)MIN(key.len, (size_t)40), (const char *)key.p);
			continue;
		}
		is = audit_link(&before, &row);
		if (last && row.seq != last + 1)
			check_say(c, "the audit lacks row %llu", (unsigned long long)last + 1);
		else if ((last || row.seq == 1) && !digest_eq(&is, &row.link))
			check_say(c, "row %llu of the audit is not what was chained", (unsigned long long)row.seq);
		before = row.link;
		last = row.seq;
	}
	return r < 0 ? r : 0;
}

static int check_usage(struct check *c)
{
	enum db_step step = DB_AT_LEAST;
	struct usage_row row;
	struct span key, v;
	int r = 0;

	while (r == 0 && (r = db_walk(c->content, CT_META, step, span_str(usage_prefix), &key, &v)) == 0) {
		if (key.len < USAGE_PREFIX || memcmp(key.p, usage_prefix, USAGE_PREFIX) != 0)
			return 0;
		if (usage_unpack(key, v, &row) < 0)
			check_say(c, "the row %.*s of what was used has a form that is unknown",
				  (int)MIN(key.len, (size_t)90), (const char *)key.p);
		step = DB_NEXT;
	}
	return r < 0 ? r : 0;
}

static int check_content(struct check *c)
{
	int r = store_format_check(c->content, CT_META);

	c->where = "content";
	if (r == -EPROTO) {
		check_say(c, "the format is missing or unknown");
		r = 0;
	}
	if (r == 0)
		r = check_table(c, CT_CHUNK);
	if (r == 0)
		r = check_table(c, CT_LIST);
	if (r == 0)
		r = check_table(c, CT_TREE);
	if (r == 0)
		r = check_access(c);
	if (r == 0)
		r = check_rules(c);
	if (r == 0)
		r = check_secrets(c);
	if (r == 0)
		r = check_audit(c);
	if (r == 0)
		r = check_usage(c);
	return r;
}

static int each_ws(void *ctx, const char *id)
{
	struct check *c = ctx;

	c->stats.workspaces++;
	c->where = id;
	return check_ws(c, id);
}

int store_fsck(struct store *store, void (*say)(void *ctx, const char *words), void *ctx, struct fsck_stats *ret,
	       struct err *e)
{
	return store_fsck_with(store, NULL, say, ctx, ret, e);
}

int store_fsck_with(struct store *store, const struct store_layers *layers, void (*say)(void *ctx, const char *words),
		    void *ctx, struct fsck_stats *ret, struct err *e)
{
	struct check c = { .store = store, .layers = layers, .say = say, .ctx = ctx };
	void *counted;
	int r;

	store_gc_inhibit(store); /* what a workspace refers to is looked up when its state is an old one already */
	r = db_begin(store->content, false, &c.content, e);
	if (r == 0)
		r = check_content(&c);
	db_abort(&c.content);
	if (r == 0)
		r = store_each_ws(store, each_ws, &c);
	store_gc_allow(store);
	while ((counted = map_take_any(&c.counted)))
		free(counted);
	map_fini(&c.counted);
	if (r)
		return err_sys(e, r, "check the store %s", store->dir);
	*ret = c.stats;
	return 0;
}
