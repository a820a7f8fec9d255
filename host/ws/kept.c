/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of what is kept (docs/keep.md): written down with the workspace, told to its agent; and what the host may not
 * make, because it would vanish at the moment it appeared. */
#include "base/str.h"
#include "host/ws/op.h"
#include "keep/keep.h"

#include <errno.h>
#include <sys/stat.h>

#define META "keep"

static int take_text(struct ws *ws, struct span text, struct err *e)
{
	int r = keep_parse(text, &ws->rules, e);

	if (r == 0 && text.len)
		ws->rules_text = span_dup(text);
	return r;
}

void kept_load(struct ws *ws)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct span text;

	/* One that cannot be read is none; the agent then tells everything, which is more than was asked for. */
	if (txn_read(ws->db, &t, NULL) == 0 && meta_get(t, META, &text) == 0)
		(void)!take_text(ws, text, NULL);
}

void kept_fini(struct ws *ws)
{
	keep_free(&ws->rules);
	str_free(&ws->rules_text);
}

int ws_set_keep(struct ws *ws, const char *text, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r;

	if (!text || !text[0])
		return 0;
	kept_fini(ws);
	r = take_text(ws, span_str(text), e);
	if (r == 0)
		r = txn_write(ws->db, &t, e);
	if (r)
		return r;
	meta_put(t, META, span_str(text));
	return txn_commit(&t, e);
}

const char *ws_keep(const struct ws *ws)
{
	return ws->rules_text ? ws->rules_text : "";
}

size_t ws_keep_count(const struct ws *ws)
{
	return keep_count(ws->rules);
}

bool ws_is_kept_at(const struct ws *ws, const char *path, bool is_dir)
{
	return keep_path(ws->rules, span_str(path), is_dir) != KEEP_NONE;
}

static bool names_dir(struct txn *t, uint64_t parent, const char *name)
{
	struct node n;
	uint64_t fid;

	return entry_get(t, parent, span_str(name), &fid) == 0 && node_get(t, fid, &n) == 0 && S_ISDIR(n.mode);
}

int kept_allow(const struct op *op, struct txn *t, const char *path, const char *other)
{
	const struct ws *ws = op->ws;
	bool ok = true;

	if (!ws->rules)
		return 0;
	if (op->kind == OP_MAKE || op->kind == OP_LINK)
		ok = ws_is_kept_at(ws, path, op->kind == OP_MAKE && S_ISDIR(op->mode));
	else if (op->kind == OP_RENAME)
		ok = ws_is_kept_at(ws, other, names_dir(t, op->parent, op->name)) &&
		     (!(op->flags & 2) || ws_is_kept_at(ws, path, names_dir(t, op->to_parent, op->to_name)));
	return ok ? 0 : -EPERM;
}
