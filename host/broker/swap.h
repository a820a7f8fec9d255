/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_SWAP_H
#define HOST_BROKER_SWAP_H

/* Texts that are replaced in a body as it passes: addresses of a service become ours. */
#include "host/broker/service.h"

struct swap {
	const struct service *service; /* borrowed; NULL: nothing is replaced */
	struct buf held;	       /* what may be the beginning of one */
};

void swap_init(struct swap *s, const struct service *service);
void swap_fini(struct swap *s);
/** swap_feed() - append what can go on to @to; @is_last: all of it. Return: 0; what buf_append() says. */
int swap_feed(struct swap *s, struct span in, bool is_last, struct buf *to) MUST_CHECK;

#endif
