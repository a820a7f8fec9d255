/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened in a sandbox, as their clients ask for logs: the beginnings and ends of commands, which the journal of
 * its workspace has (docs/workspace.md). What commands print is not in it.
 */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/store/store.h"
#include "host/ws/ws.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>

enum { LIMIT = 1000, ROWS_MAX = 100000, LINE_MAX = 4096 };

struct entry {
	int64_t ns;
	bool is_error, is_note;
	char *message, *command;
	int64_t code; /* -1: none */
};

typedef VEC(struct entry) entries;

struct wish {
	int64_t from_ns, to_ns;
	uint64_t limit;
	bool backward, errors_only;
	const char *search;
};

static void entries_free(entries *all)
{
	size_t i;

	for (i = 0; i < all->len; i++) {
		str_free(&all->v[i].message);
		str_free(&all->v[i].command);
	}
	vec_fini(all);
}

/* The words behind the id, with a blank between. */
static char *words_of(struct span text)
{
	size_t id = strnlen(text.p, text.len), i;
	char *words =
		id < text.len ? span_dup(SPAN((const char *)text.p + id + 1, text.len - id - 1)) : must_strdup("");

	for (i = 0; id + 1 + i < text.len; i++)
		if (!words[i])
			words[i] = ' ';
	return words;
}

static void add(entries *all, const struct journal_row *row)
{
	static const char *const how[] = { "exited with status", "ended by signal", "ran out of time:", "was lost:",
					   "ran out of memory:" };
	struct entry one = { .ns = row->wall_ns, .code = -1, .command = words_of(row->name) };
	unsigned kind = MIN(row->mode >> 8, (uint32_t)WIRE_OOM);

	if (row->kind == JOURNAL_BEGAN) {
		one.message = must_strdup("process started");
	} else {
		one.code = row->mode & 255;
		one.is_error = kind != WIRE_EXITED || one.code != 0;
		one.message = str_printf("process %s %d", how[kind], (int)one.code);
	}
	vec_push(all, one);
}

static bool is_wanted(const struct entry *one, const struct wish *wish)
{
	return one->ns >= wish->from_ns && one->ns <= wish->to_ns && (!wish->errors_only || one->is_error) &&
	       (!wish->search || strstr(one->message, wish->search) || strstr(one->command, wish->search));
}

struct notes {
	entries *all;
	int64_t ns;
};

static void add_note(void *ctx, const char *line)
{
	struct notes *n = ctx;
	struct entry one = { .ns = n->ns, .is_note = true, .code = -1, .command = must_strdup("") };

	one.message = must_strdup(line);
	vec_push(n->all, one);
}

/* The first that are wanted, from the oldest on or from the newest back. */
static int collect(struct e2b *e2b, const struct hub_info *info, struct ws *ws, const struct wish *wish, entries *ret)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct journal_row row = { .seq = 0 };
	uint64_t seq, last;
	entries all = { 0 };
	struct notes notes = { &all, info->created_ns };
	size_t i;
	int r = txn_read(ws_db(ws), &t, NULL);

	if (r < 0)
		return r;
	e2b_tell_rules(e2b, info->id, add_note, &notes); /* what would be looked for where it is not */
	last = journal_last(t);
	seq = last > ROWS_MAX ? last - ROWS_MAX : 0;
	while (journal_next(t, seq, &row) == 0) {
		seq = row.seq;
		if (row.kind == JOURNAL_BEGAN || row.kind == JOURNAL_ENDED)
			add(&all, &row);
	}
	for (i = 0; i < all.len && ret->len < wish->limit; i++) {
		struct entry *one = &all.v[wish->backward ? all.len - 1 - i : i];

		if (!is_wanted(one, wish))
			continue;
		vec_push(ret, *one);
		one->message = one->command = NULL;
	}
	entries_free(&all);
	return 0;
}

static void put_fields(struct json_writer *w, const struct entry *one)
{
	jw_kstr(w, "cmd", one->command);
	if (one->code >= 0)
		jw_ku64(w, "exit_code", (uint64_t)one->code);
}

static void put_entry(struct json_writer *w, const struct entry *one)
{
	char code[24];

	jw_open(w, '{');
	e2b_time(w, "timestamp", one->ns);
	jw_kstr(w, "level", one->is_error ? "error" : "info");
	jw_kstr(w, "message", one->message);
	jw_key(w, "fields"); /* of texts alone */
	jw_open(w, '{');
	jw_kstr(w, "cmd", one->command);
	if (one->code >= 0) {
		snprintf(code, sizeof(code), "%d", (int)one->code);
		jw_kstr(w, "exit_code", code);
	}
	jw_close(w, '}');
	jw_close(w, '}');
}

static void put_line(struct json_writer *w, const struct entry *one)
{
	struct json_writer line;
	struct buf b;

	buf_init(&b, 65536);
	line = (struct json_writer){ .b = &b };
	jw_open(&line, '{');
	jw_kstr(&line, "level", one->is_error ? "error" : "info");
	jw_kstr(&line, "logger", one->is_note ? "network" : "process");
	jw_kstr(&line, "message", one->message);
	put_fields(&line, one);
	jw_close(&line, '}');
	jw_open(w, '{');
	e2b_time(w, "timestamp", one->ns);
	jw_key(w, "line");
	jw_str(w, buf_span(&b));
	jw_close(w, '}');
	buf_fini(&b);
}

static int number(struct http_req *req, const char *name, uint64_t otherwise, uint64_t *ret, struct err *e)
{
	const char *text = http_query(req, name);

	*ret = otherwise;
	return text && num_u64(text, INT64_MAX / (int64_t)CLOCK_MS, ret) < 0
		       ? err_set(e, -EINVAL, "bad-request", "%s must be a number", name)
		       : 0;
}

int e2b_logs(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	bool v2 = str_starts(http_path(req), "/v2/");
	const char *level = http_query(req, "level");
	struct wish wish = { .to_ns = INT64_MAX, .search = http_query(req, "search") };
	struct json_writer w = { .b = &res->body };
	AUTO(ws_unref) struct ws *ws = NULL;
	entries found = { 0 };
	struct hub_info i;
	uint64_t ms = 0;
	size_t k;
	int r = e2b_find(e2b, req, &i, e);

	wish.backward = v2 && str_eq(http_query(req, "direction"), "backward");
	wish.errors_only = str_eq(level, "error") || str_eq(level, "warn");
	if (r == 0)
		r = number(req, v2 ? "cursor" : "start", wish.backward ? INT64_MAX / (int64_t)CLOCK_MS : 0, &ms, e);
	if (r == 0)
		r = number(req, "limit", LIMIT, &wish.limit, e);
	if (r == 0)
		r = hub_ws(e2b->hub, i.id, &ws, e);
	if (r < 0)
		return r;
	*(wish.backward ? &wish.to_ns : &wish.from_ns) = (int64_t)(ms * CLOCK_MS);
	wish.limit = MIN(wish.limit, (uint64_t)LIMIT);
	r = collect(e2b, &i, ws, &wish, &found);
	if (r < 0)
		return err_sys(e, r, "reading the log");
	jw_open(&w, '{');
	jw_key(&w, "logs");
	jw_open(&w, '[');
	for (k = 0; k < found.len; k++) {
		if (v2)
			put_entry(&w, &found.v[k]);
		else
			put_line(&w, &found.v[k]);
	}
	jw_close(&w, ']');
	if (!v2) {
		jw_key(&w, "logEntries");
		jw_open(&w, '[');
		for (k = 0; k < found.len; k++)
			put_entry(&w, &found.v[k]);
		jw_close(&w, ']');
	}
	jw_close(&w, '}');
	entries_free(&found);
	return 0;
}
