/* SPDX-License-Identifier: Apache-2.0 */
/* A ring: what is looked for is compared with each, which is less than a connection through a proxy costs. */
#include "host/net/heard.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

struct heard_entry {
	struct priv_prefix at;
	char *name;
	uint64_t until;
};

void heard_fini(struct heard *t)
{
	size_t i;

	for (i = 0; i < t->n; i++)
		free(t->v[i].name);
	free(t->v);
	*t = HEARD_NULL;
}

static struct heard_entry *find(const struct heard *t, const struct priv_prefix *at)
{
	size_t i;

	for (i = 0; i < t->n; i++)
		if (memcmp(&t->v[i].at, at, sizeof(*at)) == 0)
			return &t->v[i];
	return NULL;
}

void heard_add(struct heard *t, const struct priv_prefix *at, const char *name, uint64_t until)
{
	struct heard_entry *x = find(t, at);

	if (!t->v)
		t->v = must_calloc(HEARD_ENTRIES_MAX, sizeof(*t->v));
	if (!x) {
		x = &t->v[t->next];
		t->next = (t->next + 1) % HEARD_ENTRIES_MAX;
		t->n = MAX(t->n, t->next ? t->next : (size_t)HEARD_ENTRIES_MAX);
		x->at = *at;
	}
	free(x->name);
	x->name = must_strdup(name);
	x->until = until;
}

const char *heard_find(const struct heard *t, const struct priv_prefix *at)
{
	const struct heard_entry *x = find(t, at);

	return x && clock_now() < x->until ? x->name : NULL;
}
