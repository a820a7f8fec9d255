/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SANDBOX_SHARE_H
#define HOST_SANDBOX_SHARE_H

/*
 * So many of something for all, of which no owner gets all: one more only as long as what he has is less than three
 * times what is free. Alone he has three quarters; whoever comes after finds something, and as much as others have when
 * they give back. Any thread.
 */
#include "base/lock.h"
#include "base/map.h"

struct share {
	struct lock lock; /* guards all below */
	struct map by_owner;
	size_t used, all;
};

void share_init(struct share *s, size_t all);
void share_fini(struct share *s);
/** share_take() - one for this owner. Return: whether there is one for him; share_leave(). */
bool share_take(struct share *s, const char *owner);
void share_leave(struct share *s, const char *owner);

#endif
