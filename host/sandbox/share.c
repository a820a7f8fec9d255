/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sandbox/share.h"

#include "base/str.h"

#include <assert.h>

enum { TIMES = 3 };

struct part {
	size_t n; /* never 0 while it is in the map */
};

void share_init(struct share *s, size_t all)
{
	*s = (struct share){ .all = all };
	lock_init(&s->lock, "share", LOCK_LEAF);
}

void share_fini(struct share *s)
{
	struct part *p;

	while ((p = map_take_any(&s->by_owner)))
		mem_free(&p);
	map_fini(&s->by_owner);
	lock_fini(&s->lock);
}

bool share_take(struct share *s, const char *owner)
{
	struct part *p;
	bool may;

	lock_take(&s->lock);
	p = map_get(&s->by_owner, span_str(owner));
	may = s->used < s->all && (p ? p->n : 0) < TIMES * (s->all - s->used);
	if (may && !p) {
		p = NEW(struct part);
		map_put(&s->by_owner, span_str(owner), p);
	}
	if (may) {
		p->n++;
		s->used++;
	}
	lock_drop(&s->lock);
	return may;
}

void share_leave(struct share *s, const char *owner)
{
	struct part *p;

	lock_take(&s->lock);
	p = map_get(&s->by_owner, span_str(owner));
	assert(p && s->used);
	s->used--;
	if (!--p->n) {
		map_remove(&s->by_owner, span_str(owner));
		mem_free(&p);
	}
	lock_drop(&s->lock);
}
