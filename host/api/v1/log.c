/* SPDX-License-Identifier: Apache-2.0 */
/*
 * During which commands something changed. The journal has a row where a command began and one where it ended; who
 * reads from its beginning to its end knows who ran at each row. A reader that begins in between finds them from the
 * other side: they run still, or their end is behind that row and says where they began.
 */
#include "host/api/v1/log.h"

#include "base/str.h"
#include "base/vec.h"
#include "wire/wire.h"

enum { COMMANDS_SHOWN = 16 };

struct run {
	uint64_t seq;
	char *text; /* id, and a NUL and a word each */
	size_t len;
};

struct log_runs {
	VEC(struct run) v;
};

static void add(struct log_runs *runs, uint64_t seq, struct span text)
{
	struct run r = { .seq = seq, .len = text.len };

	if (runs->v.len >= RUNNING_MAX)
		return;
	r.text = must_calloc(1, text.len + 1);
	memcpy(r.text, text.p, text.len);
	vec_push(&runs->v, r);
}

static void clear(struct log_runs *runs)
{
	while (runs->v.len)
		free(runs->v.v[--runs->v.len].text);
}

void log_runs_at(struct log_runs *runs, struct txn *t, uint64_t at)
{
	struct journal_row row = { .seq = at - 1 };
	struct running one;
	size_t pos = 0;

	clear(runs);
	while (running_next(t, &pos, &one) == 0)
		if (one.seq < at)
			add(runs, one.seq, one.text);
	while (journal_next(t, row.seq, &row) == 0)
		if (row.kind == JOURNAL_ENDED && row.parent < at)
			add(runs, row.parent, row.name);
}

struct log_runs *log_runs_new(struct ws *ws, uint64_t at)
{
	struct log_runs *runs = NEW(struct log_runs);
	AUTO(txn_abort) struct txn *t = NULL;

	if (txn_read(ws_db(ws), &t, NULL) == 0)
		log_runs_at(runs, t, at);
	return runs;
}

void log_runs_free(struct log_runs **slot)
{
	struct log_runs *runs = take(slot);

	if (!runs)
		return;
	clear(runs);
	vec_fini(&runs->v);
	free(runs);
}

static void put_command(struct json_writer *j, struct span text)
{
	struct span id = SPAN(text.p, strnlen(text.p, text.len));
	size_t at, len;

	jw_key(j, "id");
	jw_str(j, id);
	jw_key(j, "argv");
	jw_open(j, '[');
	for (at = id.len; at < text.len; at += 1 + len) {
		const char *word = (const char *)text.p + at + 1;

		len = strnlen(word, text.len - at - 1);
		jw_str(j, SPAN(word, len));
	}
	jw_close(j, ']');
}

static void forget(struct log_runs *runs, uint64_t began)
{
	size_t i;

	for (i = 0; i < runs->v.len; i++) {
		if (runs->v.v[i].seq != began)
			continue;
		free(runs->v.v[i].text);
		memmove(&runs->v.v[i], &runs->v.v[i + 1], (runs->v.len - i - 1) * sizeof(runs->v.v[i]));
		runs->v.len--;
		return;
	}
}

bool log_command(struct log_runs *runs, struct buf *b, const struct journal_row *row, bool show)
{
	static const char *const how[] = { "exit", "signal", "timeout", "lost", "memory" };
	struct json_writer j = { .b = b };

	if (row->kind == JOURNAL_BEGAN)
		add(runs, row->seq, row->name);
	else if (row->kind == JOURNAL_ENDED)
		forget(runs, row->parent);
	else
		return false;
	if (!show)
		return true;
	jw_open(&j, '{');
	jw_ku64(&j, "seq", row->seq);
	jw_key(&j, "time_ns");
	jw_i64(&j, row->wall_ns);
	jw_kstr(&j, "kind", row->kind == JOURNAL_BEGAN ? "began" : "ended");
	put_command(&j, row->name);
	if (row->kind == JOURNAL_ENDED) {
		jw_kstr(&j, "how", how[MIN(row->mode >> 8, (uint32_t)WIRE_OOM)]);
		jw_ku64(&j, "code", row->mode & 255);
	}
	jw_close(&j, '}');
	buf_append(b, "\n", 1);
	return true;
}

void log_put(const struct log_runs *runs, struct json_writer *j, const struct journal_row *row)
{
	char hash[2 * DIGEST_LEN + 1];
	bool inside = row->by == JOURNAL_BY_INSIDE || row->by == JOURNAL_BY_SCAN;
	size_t i;

	if (!digest_is_zero(&row->root)) {
		str_hex(row->root.b, DIGEST_LEN, hash);
		jw_kstr(j, "hash", hash);
	}
	if (row->kind == JOURNAL_CONTENT)
		return; /* it arrived; who wrote it is told by the change */
	jw_kstr(j, "by",
		row->by == JOURNAL_BY_HOST	  ? "host"
		: inside && runs->v.len		  ? "command"
		: row->by == JOURNAL_BY_INSIDE ? "background"
						  : "unknown");
	jw_key(j, "commands");
	jw_open(j, '[');
	for (i = 0; inside && i < runs->v.len && i < COMMANDS_SHOWN; i++) {
		jw_open(j, '{');
		put_command(j, SPAN(runs->v.v[i].text, runs->v.v[i].len));
		jw_close(j, '}');
	}
	jw_close(j, ']');
	if (i < runs->v.len && inside)
		jw_ku64(j, "more_commands", runs->v.len - i);
}
