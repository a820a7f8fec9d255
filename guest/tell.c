/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Numbers of batches go on over reconnects, so an acknowledgement always means one batch. A batch that could
 * not be sent because the connection died is counted as told: the next host starts with a full scan anyway.
 */
#include "guest/tell.h"

#include "base/xattr.h"
#include "wire/wire.h"

#include <errno.h>

enum { BATCH_SEND = 240 * 1024, BATCH_MAX = 512 * 1024 }; /* one record has up to 70 KiB */

void tell_init(struct tell *t)
{
	*t = (struct tell){ .control = NULL };
	msg_list_init(&t->batch, BATCH_MAX);
}

void tell_fini(struct tell *t)
{
	msg_list_fini(&t->batch);
}

void tell_attach(struct tell *t, struct conn *control)
{
	msg_list_fini(&t->batch);
	t->flags = 0;
	t->acked = t->seq;
	t->control = control;
	t->on = true;
}

void tell_detach(struct tell *t)
{
	msg_list_fini(&t->batch);
	t->control = NULL;
	t->on = false;
}

bool tell_can(const struct tell *t)
{
	return t->on && t->seq - t->acked < WIRE_CHANGES_UNACKED && conn_room(t->control);
}

void tell_flush(struct tell *t, unsigned flags)
{
	struct msg_CHANGES m;

	if (!t->on || (!t->batch.n && !flags))
		return;
	m = (struct msg_CHANGES){ .seq = ++t->seq, .flags = t->flags | flags, .records = msg_list_span(&t->batch) };
	if (conn_send(t->control, MSG_CHANGES, &m) < 0)
		conn_finish(t->control); /* what is lost comes with the next connection's scan */
	msg_list_fini(&t->batch);
	t->flags = 0;
}

void tell_entry(struct tell *t, unsigned flags, unsigned ent, uint64_t parent, struct span name,
		const struct node *node)
{
	struct msg_CHANGE m = { .flags = ent, .parent = parent, .name = name };
	struct msg_NODE rec;
	uint8_t room[sizeof(struct msg_NODE) + NODE_TARGET_MAX + 64];
	struct buf b = { .p = room, .cap = sizeof(room), .limit = sizeof(room) };
	AUTO(buf_fini) struct buf large;

	if (t->batch.n && t->flags != flags)
		tell_flush(t, 0);
	t->flags = flags;
	buf_init(&large, sizeof(room) + XATTR_PACKED_LEN);
	if (node) {
		struct buf *to = node->xattrs.len ? &large : &b;

		rec = node_wire(node);
		if (msg_encode(to, MSG_NODE, &rec) < 0)
			return;
		m.node = buf_span(to);
	}
	if (msg_list_rec(&t->batch, MSG_CHANGE, &m) < 0)
		return;
	if (buf_len(&t->batch.b) >= BATCH_SEND)
		tell_flush(t, 0);
}

int tell_ack(struct tell *t, uint64_t seq)
{
	if (seq > t->seq)
		return -EPROTO;
	if (seq > t->acked)
		t->acked = seq;
	return 0;
}
