/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_TELL_H
#define GUEST_TELL_H

/* Batches of changes on the control connection: built, numbered, sent, counted until they are acknowledged. */
#include "guest/node.h"
#include "wire/conn.h"

struct tell {
	struct conn *control; /* borrowed; NULL while there is none */
	bool on;	      /* the host on it asked for changes */
	uint64_t seq, acked;  /* last told, last acknowledged */
	unsigned flags;	      /* WIRE_CHG_* of the batch under construction */
	struct msg_list batch;
};

void tell_init(struct tell *t);
void tell_fini(struct tell *t);
/** tell_attach() - a host asks for changes; what was told and not acknowledged before counts as lost. */
void tell_attach(struct tell *t, struct conn *control);
void tell_detach(struct tell *t);
/** tell_can() - true while another change may be told now. */
bool tell_can(const struct tell *t);
/**
 * tell_entry() - add a change to the batch; a full batch is sent
 * @flags: WIRE_CHG_* of the batch that it must be in
 * @ent:   WIRE_ENT_*
 * @node:  NULL with WIRE_ENT_GONE
 */
void tell_entry(struct tell *t, unsigned flags, unsigned ent, uint64_t parent, struct span name,
		const struct node *node);
/** tell_flush() - send the batch; with @flags it is sent also when it is empty. */
void tell_flush(struct tell *t, unsigned flags);
/** tell_ack() - the host has everything up to @seq. Return: 0; -EPROTO (never told). */
int tell_ack(struct tell *t, uint64_t seq) MUST_CHECK;

#endif
