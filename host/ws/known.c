/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the mount has asked for the kernel knows when it hears the answer: which name it made or took away, what a file
 * was written or set to. It needs not be told, and would only ask for all of it anew: each file of an archive would
 * cost four notifications and one more request.
 *
 * One thing it does not know. An answer with attributes (a stat, a listing) may be on its way to it that was read from
 * the state before; applied behind the change, it would be believed without end. The kernel numbers what it changes
 * itself in a file that is written, cut or set, and drops such an answer; but not in a directory whose names change,
 * nor in an inode that got or lost one. So these are told once more a moment later, each once however often it changed:
 * when the changes have become durable, which takes a tenth of a second (host/store/late.c).
 */
#include "host/ws/op.h"

#include "base/str.h"

static bool is_name(const struct ws_change *c, uint64_t parent, const char *name)
{
	return c->parent == parent && name && str_eq(c->name, name);
}

/* Is it what the kernel makes of the answer? */
static bool is_known(const struct op *op, const struct ws_change *c)
{
	switch (op->kind) {
	case OP_MAKE:
	case OP_LINK:
		return is_name(c, op->parent, op->name) && c->fid == op->node.fid;
	case OP_REMOVE:
		return is_name(c, op->parent, op->name) && !c->fid;
	case OP_RENAME:
		return is_name(c, op->parent, op->name) || (is_name(c, op->to_parent, op->to_name) && c->fid);
	case OP_SETATTR:
	case OP_WRITE:
		return !c->parent && c->fid == op->fid;
	case OP_XATTR:
	case OP_ALLOC:
	case OP_RESTORE:
	case OP_GRAFT:
		break;
	}
	return false;
}

/* Before the commit: whoever dies now has it written down. */
static void tell_later(struct ws *ws, uint64_t fid)
{
	struct ws_change c = { .fid = fid };

	if (map_get_u64(&ws->once_more.fids, fid))
		return;
	map_put_u64(&ws->once_more.fids, fid, ws);
	ws_announce(ws, &c, 1);
	vec_push(&ws->once_more.list, c);
	__atomic_store_n(&ws->once_more.any, true, __ATOMIC_RELEASE);
}

size_t known_part(struct ws_pass *p, const struct op *op)
{
	const struct ws_listener *l = p->ws->listener;
	struct ws_change *v = p->changes.v;
	size_t i, n = 0;

	if (!op->is_own || !l)
		return p->changes.len;
	for (i = 0; i < p->changes.len; i++) {
		bool known = !v[i].data && is_known(op, &v[i]);

		if (!known && !v[i].data && !v[i].parent) {
			tell_later(p->ws, v[i].fid);
			known = true;
		}
		if (!known) {
			struct ws_change c = v[i];

			v[i] = v[n];
			v[n++] = c;
		}
	}
	if (l->known && n < p->changes.len)
		l->known(p->ws->listener_ctx, p->ws, v + n, p->changes.len - n);
	return n;
}

void known_drop(ws_changes *list, size_t n)
{
	while (list->len > n)
		str_free(&list->v[--list->len].name);
}

static void tell(void *ctx)
{
	struct ws *ws = ctx;

	__atomic_store_n(&ws->once_more.any, false, __ATOMIC_RELEASE);
	map_fini(&ws->once_more.fids);
	if (ws->once_more.list.len)
		ws_tell(ws, &ws->once_more.list, NULL, NULL);
}

void known_settled(void *ctx)
{
	struct ws *ws = ctx;

	if (__atomic_load_n(&ws->once_more.any, __ATOMIC_ACQUIRE))
		strand_run(ws->work, tell, ws);
}

void known_fini(struct ws *ws)
{
	size_t i;

	for (i = 0; i < ws->once_more.list.len; i++)
		ws_retract(ws, &ws->once_more.list.v[i], 1);
	vec_fini(&ws->once_more.list);
	map_fini(&ws->once_more.fids);
}
