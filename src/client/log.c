/* SPDX-License-Identifier: Apache-2.0 */
/* The log of a workspace: who changed what when. */
#include "client/inside.h"

#include "base/str.h"

#include <stdio.h>

enum { WORDS_MAX = 64 * 1024 };

int berth_log_json(struct berth *b, const char *id, const struct berth_log *what,
		   int (*fn)(void *ctx, const char *line), void *ctx, struct berth_error *e)
{
	AUTO(str_free) char *box = client_encode(id);
	AUTO(str_free) char *place = client_encode(what->path ? what->path : "");
	AUTO(str_free) char *path = str_printf("/v1/sandboxes/%s/log?path=%s&follow=%d&since=%llu", box, place,
					       what->follow, (unsigned long long)what->since);

	return client_lines(b, path, what->follow, fn, ctx, e);
}

struct rows {
	int (*fn)(void *ctx, const struct berth_log_row *);
	void *ctx;
};

static void put_command(struct buf *to, const struct json *j)
{
	const struct json *argv = json_get(j, "argv");
	size_t i;

	buf_printf(to, "%s%s", buf_len(to) ? "; " : "", json_get_str(j, "id", ""));
	for (i = 0; i < json_len(argv); i++)
		buf_printf(to, "%s%s", i ? " " : ": ", json_text(json_at(argv, i)));
}

static int parse_row(void *ctx, const char *line)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = NULL;
	AUTO(str_free) char *from = NULL;
	struct rows *rows = ctx;
	struct berth_log_row row;
	const struct json *all;
	struct buf who;
	char end[32];
	size_t i;
	int r;

	if (json_parse(span_str(line), &j, NULL) < 0)
		return 0;
	path = client_bytes(j, "path", NULL);
	from = client_bytes(j, "from", NULL);
	all = json_get(j, "commands");
	buf_init(&who, WORDS_MAX);
	if (json_get(j, "argv"))
		put_command(&who, j);
	for (i = 0; i < json_len(all); i++)
		put_command(&who, json_at(all, i));
	snprintf(end, sizeof(end), "%s %llu", json_get_str(j, "how", ""),
		 (unsigned long long)json_get_u64(j, "code", 0));
	row = (struct berth_log_row){ .seq = json_get_u64(j, "seq", 0),
				      .time_ns = (int64_t)json_get_u64(j, "time_ns", 0),
				      .kind = json_get_str(j, "kind", ""),
				      .type = json_get_str(j, "type", NULL),
				      .path = path,
				      .from = from,
				      .hash = json_get_str(j, "hash", NULL),
				      .size = json_get_u64(j, "size", 0),
				      .by = json_get_str(j, "by", NULL),
				      .command = buf_len(&who) ? buf_str(&who) : NULL,
				      .end = json_get(j, "how") ? end : NULL };
	r = rows->fn(rows->ctx, &row);
	buf_fini(&who);
	return r;
}

int berth_log(struct berth *b, const char *id, const struct berth_log *what,
	      int (*fn)(void *ctx, const struct berth_log_row *), void *ctx, struct berth_error *e)
{
	struct rows rows = { .fn = fn, .ctx = ctx };

	return berth_log_json(b, id, what, parse_row, &rows, e);
}
