/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens in a workspace, as lines of JSON. The journal of the store is the ring: it is bounded, it survives us,
 * and a reader that is too slow finds its oldest rows gone. docs/workspace.md, "What is watched".
 */
#include "host/api/v1/log.h"
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "json/json.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/stat.h>

enum { LINES_MAX = 64, ROWS_MAX = 2048, LINES_MAX_B = 1024 * 1024, CATCH_UP_MS = 2000 };

struct watch {
	struct ws *ws;
	char *path; /* "" or with a slash at the end */
	bool deep;
	struct log_runs *runs; /* of the log: the commands that run at the row that is next; NULL: changes alone */
};

static void watch_free(void *ctx)
{
	struct watch *w = ctx;

	ws_unref(&w->ws);
	str_free(&w->path);
	log_runs_free(&w->runs);
	free(w);
}

/* Is it the watched directory, in it, or (deep) anywhere below? */
static bool is_seen(const struct watch *w, struct span path)
{
	size_t len = strlen(w->path);

	if (len && path.len + 1 == len && memcmp(path.p, w->path, path.len) == 0)
		return true;
	if (path.len < len || memcmp(path.p, w->path, len) != 0)
		return false;
	return w->deep || !memchr((const char *)path.p + len, '/', path.len - len);
}

static void put_path(struct json_writer *j, const char *key, struct span path)
{
	jw_key(j, key);
	jw_str(j, path);
	jw_khex(j, key, path);
}

static void put_head(struct json_writer *j, uint64_t seq, int64_t ns, const char *kind)
{
	jw_open(j, '{');
	jw_ku64(j, "seq", seq);
	jw_key(j, "time_ns");
	jw_i64(j, ns);
	jw_kstr(j, "kind", kind);
}

static void put_lost(struct buf *b, uint64_t seq, int64_t ns)
{
	struct json_writer j = { .b = b };

	put_head(&j, seq, ns, "lost");
	jw_kstr(&j, "path", "");
	jw_close(&j, '}');
	buf_append(b, "\n", 1);
}

static const char *kind_of(uint32_t kind)
{
	static const char *const kinds[] = { "create", "remove", "rename", "write", "chmod" };

	return kind == JOURNAL_CONTENT ? "content" : kinds[kind - JOURNAL_CREATE];
}

/* Return: whether a line was written. */
static bool put_row(const struct watch *w, struct txn *t, struct buf *b, const struct journal_row *row)
{
	struct json_writer j = { .b = b };
	struct span path = row->name, from = SPAN_NULL;
	AUTO(str_free) char *now = NULL;
	const char *nul;

	if (row->kind == JOURNAL_LOST) {
		put_lost(b, row->seq, row->wall_ns);
		return true;
	}
	if (w->runs && log_command(w->runs, b, row, !*w->path))
		return !*w->path;
	if (w->runs && row->kind == JOURNAL_CONTENT && node_path(t, row->fid, &now) == 0)
		path = span_str(now);
	else if (row->kind < JOURNAL_CREATE || row->kind > JOURNAL_CHMOD)
		return false;
	nul = row->kind == JOURNAL_RENAME && path.len ? memchr(path.p, '\0', path.len) : NULL;
	if (nul) {
		path = SPAN(row->name.p, (size_t)(nul - (const char *)row->name.p));
		from = SPAN(nul + 1, row->name.len - path.len - 1);
	}
	if (!is_seen(w, path) && !(nul && is_seen(w, from)))
		return false;
	put_head(&j, row->seq, row->wall_ns, kind_of(row->kind));
	jw_kstr(&j, "type", row->kind == JOURNAL_CONTENT ? "file" : v1_type_of(row->mode));
	put_path(&j, "path", path);
	if (nul)
		put_path(&j, "from", from);
	jw_ku64(&j, "mode", row->mode & 07777);
	jw_ku64(&j, "size", S_ISDIR(row->mode) ? 0 : row->size);
	if (w->runs)
		log_put(w->runs, &j, row);
	jw_close(&j, '}');
	buf_append(b, "\n", 1);
	return true;
}

/* A few rows; an empty line when none of many is to be seen. */
static char *next_lines(void *ctx, uint64_t *at)
{
	struct watch *w = ctx;
	AUTO(txn_abort) struct txn *t = NULL;
	struct journal_row row;
	int rows, lines = 0;
	char *text = NULL;
	struct buf b;

	if (txn_read(ws_db(w->ws), &t, NULL) < 0)
		return NULL;
	buf_init(&b, LINES_MAX_B);
	for (rows = 0; rows < ROWS_MAX && lines < LINES_MAX && buf_len(&b) < LINES_MAX_B / 2; rows++) {
		if (journal_next(t, *at - 1, &row) != 0)
			break;
		if (row.seq > *at) {
			put_lost(&b, row.seq - 1, row.wall_ns);
			lines++;
			if (w->runs)
				log_runs_at(w->runs, t, row.seq);
		}
		*at = row.seq + 1;
		lines += put_row(w, t, &b, &row);
	}
	if (rows)
		text = lines ? span_dup(buf_span(&b)) : must_strdup("\n");
	buf_fini(&b);
	return text;
}

/* The number of the last row, and of the first one that a reader behind @since gets. */
static int first_row(struct ws *ws, const char *since, bool follow, uint64_t asked, uint64_t *ret, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct journal_row row;
	uint64_t last;
	int r = txn_read(ws_db(ws), &t, e);

	if (r < 0)
		return r;
	last = journal_last(t);
	if (since && asked)
		*ret = MIN(asked, last) + 1;
	else if (!since && follow)
		*ret = last + 1;
	else
		*ret = journal_next(t, 0, &row) == 0 ? row.seq : last + 1;
	return 0;
}

/* What the agent knows is in the journal, a command's end too that its caller has just been told. */
static void catch_up(struct ws *ws)
{
	uint64_t until = clock_after_ms(CATCH_UP_MS);
	struct msg_PING ping = { .call = 0 };
	struct link *link = ws_link(ws);

	if (link && link_wait(link, MSG_PING, &ping, until, NULL, NULL, NULL) == 0)
		ws_flush(ws, until);
}

static int journal(struct api *api, struct http_req *req, struct http_res *res, bool log, struct err *e)
{
	struct follow_waiter waiter = { http_suspend, http_resume, http_connection(req) };
	AUTO(ws_unref) struct ws *ws = NULL, *again = NULL;
	AUTO(str_free) char *path = NULL;
	const char *typed = http_query(req, "path"), *since = http_query(req, "since");
	struct follow_source source = { .next = next_lines, .end = watch_free };
	struct follower *reader;
	struct watch *w;
	uint64_t follow, deep, asked, at = 1;
	int r = v1_query_u64(req, "follow", 0, &follow, e);

	if (r == 0)
		r = v1_query_u64(req, "recursive", log, &deep, e);
	if (r == 0)
		r = v1_query_u64(req, "since", 0, &asked, e);
	if (r == 0 && path_normalise(typed ? typed : "", "/workspace", &path) < 0)
		r = err_set(e, -EINVAL, "bad-path", "a path below /workspace is needed, without \"..\"");
	if (r == 0)
		r = hub_ws(api->hub, http_segment(req, 0), &ws, e);
	if (r == 0 && log)
		catch_up(ws);
	if (r == 0)
		r = first_row(ws, since, follow && !log, asked, &at, e);
	if (r < 0)
		return r;
	w = NEW(struct watch);
	w->ws = ws_ref(ws);
	w->path = *path ? str_printf("%s/", path) : must_strdup("");
	w->deep = deep != 0;
	w->runs = log ? log_runs_new(ws, at) : NULL;
	source.topic = ws_id(ws);
	source.ctx = w;
	reader = follower_new(api->watchers, &source, at, follow != 0, &waiter);
	/* Was it removed before it could end us? */
	r = hub_ws(api->hub, http_segment(req, 0), &again, e);
	if (r < 0)
		follower_free(&reader);
	else
		v1_follow(res, reader);
	return r;
}

int v1_watch(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return journal(ctx, req, res, false, e);
}

int v1_log(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return journal(ctx, req, res, true, e);
}
