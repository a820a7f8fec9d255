/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that run in a live workspace, as its journal tells them: a row when one begins, one when it ended and
 * what it changed was told. Whoever reads the journal knows from them during which commands a change happened.
 *
 * Within a pass the rows of changes come last, so an end that was told behind changes waits for them. A beginning does
 * not: what changed in the same pass before it may be taken for its work. A command that follows another one in the
 * same hands is never in the same pass as the changes of the one before.
 *
 * When the agent was away it begins with a list of all that it knows. What ran and is not in it, or has ended, ends
 * behind the scan, which tells what it changed.
 */
#include "host/ws/state.h"

#include "base/clock.h"
#include "base/str.h"
#include "wire/wire.h"

#include <errno.h>

enum { WORDS_MAX = 1024, END_MS = 10000 };

/* A command of which nothing more is known. */
#define HOW_UNKNOWN ((uint32_t)WIRE_LOST << 8)

void commands_forget(struct ws *ws)
{
	size_t i;

	for (i = 0; i < ws->commands.v.len; i++)
		free(ws->commands.v.v[i].text);
	ws->commands.v.len = 0;
	ws->commands.is_loaded = ws->commands.is_changed = ws->commands.in_list = false;
}

static int load(struct ws_pass *p)
{
	struct ws *ws = p->ws;
	struct running one;
	size_t at = 0;
	int r = STORE_E_NONE;

	if (ws->commands.is_loaded)
		return 0;
	while (ws->commands.v.len < RUNNING_MAX && (r = running_next(p->txn, &at, &one)) == 0) {
		struct ws_command c = { .seq = one.seq, .len = one.text.len };

		c.text = must_calloc(1, one.text.len + 1);
		memcpy(c.text, one.text.p, one.text.len);
		vec_push(&ws->commands.v, c);
	}
	ws->commands.is_loaded = true;
	return r == -EIO ? 0 : MIN(r, 0);
}

static struct ws_command *find(struct ws *ws, struct span id)
{
	size_t i;

	for (i = 0; i < ws->commands.v.len; i++)
		if (span_eq(span_str(ws->commands.v.v[i].text), id))
			return &ws->commands.v.v[i];
	return NULL;
}

static void row(struct ws_pass *p, struct ws_command *c, enum journal_kind kind)
{
	struct journal_row r = { .kind = kind, .by = JOURNAL_BY_INSIDE, .wall_ns = clock_wall() };

	r.name = SPAN(c->text, c->len);
	if (kind == JOURNAL_ENDED) {
		r.parent = c->seq;
		r.mode = c->how;
	}
	journal_append(p->txn, &r);
	if (kind == JOURNAL_BEGAN)
		c->seq = r.seq;
	p->ws->commands.is_changed = true;
}

/* "id", and a NUL and a word each. */
static void began(struct ws_pass *p, const struct msg_PROC *m)
{
	struct ws *ws = p->ws;
	struct ws_command c = { .len = m->id.len };
	struct span list = m->argv, word;
	size_t left = WORDS_MAX;

	if (ws->commands.v.len >= RUNNING_MAX)
		return;
	c.text = must_calloc(1, m->id.len + WORDS_MAX + 1);
	memcpy(c.text, m->id.p, m->id.len);
	while (left > 1 && msg_strv_next(&list, &word)) {
		word.len = MIN(word.len, left - 1);
		memcpy(c.text + c.len + 1, word.p, word.len);
		c.len += word.len + 1;
		left -= word.len + 1;
		if (ws->conf.log_commands == WS_LOG_NAME)
			break;
	}
	row(p, &c, JOURNAL_BEGAN);
	vec_push(&ws->commands.v, c);
}

static void ended(struct ws_pass *p, struct ws_command *c, uint32_t how)
{
	struct ws *ws = p->ws;
	size_t at = (size_t)(c - ws->commands.v.v);

	c->how = how;
	row(p, c, JOURNAL_ENDED);
	free(c->text);
	ws->commands.v.v[at] = ws->commands.v.v[--ws->commands.v.len];
}

static void end_is_told(struct ws_pass *p, const struct msg_PROC *m, bool in_list)
{
	struct ws_command *c = find(p->ws, m->id);
	uint32_t how = (uint32_t)(m->how << 8 | m->code);
	struct ws_ended later = { .how = how };

	/* Of a list: one that is over and was written down. Else it began and ended while we were away. */
	if (!c && !in_list)
		began(p, m);
	if (!c)
		c = find(p->ws, m->id);
	if (!c)
		return;
	if (in_list) {
		c->is_unseen = false;
		c->is_over = true;
		c->how = how;
	} else if (p->has_changes) {
		memcpy(later.id, m->id.p, m->id.len);
		vec_push(&p->ended, later);
	} else {
		ended(p, c, how);
	}
}

static void unseen(struct ws *ws, bool first)
{
	size_t i;

	for (i = 0; i < ws->commands.v.len; i++) {
		struct ws_command *c = &ws->commands.v.v[i];

		if (first) {
			c->is_unseen = true;
			c->is_over = false;
		} else if (c->is_unseen) {
			c->is_over = true;
			c->how = HOW_UNKNOWN;
		}
	}
}

static bool is_id(struct span id)
{
	char word[RUNNING_ID_MAX + 1] = "";

	if (id.len > RUNNING_ID_MAX)
		return false;
	memcpy(word, id.p, id.len);
	return strlen(word) == id.len && str_is_id(word, RUNNING_ID_MAX);
}

int commands_frame(struct ws_pass *p, struct span payload, struct err *e)
{
	struct ws *ws = p->ws;
	struct msg_COMMANDS m;
	struct msg_PROC proc;
	struct ws_command *c;
	int r = msg_decode(MSG_COMMANDS, payload, &m, e);

	if (r == 0)
		r = load(p);
	if (r < 0)
		return r;
	if (m.flags & WIRE_CMD_FIRST) {
		unseen(ws, true);
		ws->commands.in_list = true;
	}
	while (msg_rec_next(&m.procs, MSG_PROC, &proc)) {
		if (!is_id(proc.id))
			return err_set(e, -EBADMSG, "bad-message", "a command without a proper id");
		c = find(ws, proc.id);
		if (proc.state)
			end_is_told(p, &proc, ws->commands.in_list);
		else if (c)
			c->is_unseen = false;
		else
			began(p, &proc);
	}
	if (m.flags & WIRE_CMD_LAST) {
		unseen(ws, false);
		ws->commands.in_list = false;
	}
	return 0;
}

void commands_finish(struct ws_pass *p)
{
	struct ws *ws = p->ws;
	struct ws_command *c;
	size_t i;

	for (i = 0; i < p->ended.len; i++) {
		c = find(ws, span_str(p->ended.v[i].id));
		if (c)
			ended(p, c, p->ended.v[i].how);
	}
	for (i = ws->commands.v.len; p->scan_done && i-- > 0;) {
		c = &ws->commands.v.v[i];
		if (c->is_over)
			ended(p, c, c->how);
	}
	if (ws->commands.is_changed) {
		struct running *all = must_calloc(ws->commands.v.len + 1, sizeof(*all));

		for (i = 0; i < ws->commands.v.len; i++)
			all[i] = (struct running){ .seq = ws->commands.v.v[i].seq,
						   .text = SPAN(ws->commands.v.v[i].text, ws->commands.v.v[i].len) };
		running_put(p->txn, all, ws->commands.v.len);
		free(all);
		ws->commands.is_changed = false;
	}
}

struct flush {
	struct ws *ws;
	bool done, is_left; /* guarded by ws.lock; whoever comes second frees it */
};

static void flushed(void *ctx)
{
	struct flush *f = ctx;
	struct ws *ws = f->ws;
	bool left;

	lock_take(&ws->lock);
	f->done = true;
	left = f->is_left;
	pthread_cond_broadcast(&ws->cond);
	lock_drop(&ws->lock);
	if (left)
		free(f);
}

void ws_flush(struct ws *ws, uint64_t until)
{
	struct flush *f = NEW(struct flush);
	bool done;
	int r = 0;

	f->ws = ws;
	lock_take(&ws->lock);
	ws_schedule(ws);
	strand_run(ws->work, flushed, f);
	while (r == 0 && !f->done)
		r = lock_wait(&ws->lock, &ws->cond, until);
	f->is_left = true;
	done = f->done;
	lock_drop(&ws->lock);
	if (done)
		free(f);
}

/* On the strand. */
static void end_all(void *ctx)
{
	struct ws *ws = ctx;
	struct ws_pass p = { .ws = ws };
	struct err e = ERR_NULL;
	int r = txn_read(ws->db, &p.txn, &e);
	bool any;

	commands_forget(ws);
	if (r == 0)
		r = load(&p);
	txn_abort(&p.txn);
	any = ws->commands.v.len > 0;
	if (r == 0 && any)
		r = txn_write(ws->db, &p.txn, &e);
	while (r == 0 && ws->commands.v.len)
		ended(&p, &ws->commands.v.v[0], HOW_UNKNOWN);
	if (r == 0 && any) {
		commands_finish(&p);
		r = txn_commit(&p.txn, &e);
	}
	txn_abort(&p.txn);
	commands_forget(ws);
	if (r == 0 && any)
		follow_publish(ws->conf.watchers, ws->id);
}

void ws_commands_end(struct ws *ws)
{
	strand_run(ws->work, end_all, ws);
	ws_flush(ws, clock_after_ms(END_MS));
}
