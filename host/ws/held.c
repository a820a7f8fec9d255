/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files without a name that somebody on the host has open. Whoever removed the last name, the guest or the host: such a
 * file is kept as it is here, an inode with no links, until it is closed, and what is done to it is done in the store
 * alone. Inside nobody can reach it any more, but for a process that has it open, too: from then on these are two.
 *
 * Their identities are in the meta "held", so that a crash leaves none for ever. It has room for a bounded number; one
 * more is not kept, then its reader goes on with the content that it opened, and its writer hears ENOENT.
 */
#include "host/ws/state.h"

#include <errno.h>
#include <sys/stat.h>

enum { HELD_MAX = 500 };

struct held {
	uint64_t fid[HELD_MAX];
	size_t n;
};

static void held_get(struct txn *t, struct held *ret)
{
	struct span v;

	ret->n = 0;
	if (meta_get(t, "held", &v) != 0)
		return;
	ret->n = MIN(v.len / sizeof(uint64_t), (size_t)HELD_MAX);
	memcpy(ret->fid, v.p, ret->n * sizeof(uint64_t));
}

static void held_put(struct txn *t, const struct held *h)
{
	meta_put(t, "held", SPAN(h->fid, h->n * sizeof(uint64_t)));
}

/* Nothing of it was ever here: to keep it would be to show an empty file. */
static bool never_came(const struct node *n)
{
	return (n->flags & NODE_PENDING) && n->content.size == 0;
}

bool held_keep(struct ws_pass *p, struct node *n)
{
	const struct ws_listener *l = p->ws->listener;
	struct held h;
	size_t i;

	if (!S_ISREG(n->mode) || content_is_elsewhere(&n->content) || never_came(n) || !l || !l->is_open ||
	    !l->is_open(p->ws->listener_ctx, p->ws, n->fid))
		return false;
	held_get(p->txn, &h);
	for (i = 0; i < h.n && h.fid[i] != n->fid; i++)
		;
	if (i == HELD_MAX)
		return false;
	h.fid[i] = n->fid;
	h.n = MAX(h.n, i + 1);
	held_put(p->txn, &h);
	if (n->flags & NODE_PENDING) { /* nothing will come any more */
		n->flags &= ~(uint32_t)NODE_PENDING;
		n->size = n->content.size;
	}
	n->nlink = 0;
	node_put(p->txn, n);
	changes_add(&p->changes, 0, SPAN_NULL, n->fid, false, false);
	return true;
}

bool held_is(struct ws *ws, uint64_t fid)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct node n;

	return txn_read(ws->db, &t, NULL) == 0 && node_get(t, fid, &n) == 0 && S_ISREG(n.mode) && n.nlink == 0;
}

/* Give up what nobody has open, and what has a name again. Return: whether there was anything. */
static bool sweep(struct ws *ws, struct txn *t, bool look_only)
{
	const struct ws_listener *l = ws->listener;
	struct span name;
	struct node n;
	uint64_t parent;
	struct held h;
	size_t i = 0;
	bool any = false;

	held_get(t, &h);
	while (i < h.n) {
		bool named = entry_of(t, h.fid[i], 0, SPAN_NULL, &parent, &name) == 0;

		if (!named && l && l->is_open && l->is_open(ws->listener_ctx, ws, h.fid[i])) {
			i++;
			continue;
		}
		any = true;
		if (!look_only && !named && node_get(t, h.fid[i], &n) == 0)
			node_del(t, h.fid[i]);
		h.fid[i] = h.fid[--h.n];
	}
	if (any && !look_only)
		held_put(t, &h);
	return any;
}

struct letting {
	struct ws *ws; /* a reference */
};

static void give_up(void *ctx)
{
	struct letting *l = ctx;

	ws_unref(&l->ws);
	free(l);
}

static void let_go(void *ctx)
{
	struct letting *l = ctx;
	AUTO(txn_abort) struct txn *t = NULL;
	bool any = txn_read(l->ws->db, &t, NULL) == 0 && sweep(l->ws, t, true);

	txn_abort(&t);
	if (any && txn_write(l->ws->db, &t, NULL) == 0) {
		sweep(l->ws, t, false);
		(void)!txn_commit(&t, NULL); /* else it is done when the next one goes, or at a start */
	}
	pool_run(l->ws->conf.work, give_up, l);
}

void ws_let_go(struct ws *ws)
{
	struct letting *l = NEW(struct letting);

	l->ws = ws_ref(ws);
	strand_run(ws->work, let_go, l);
}
