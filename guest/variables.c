/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/variables.h"

#include <errno.h>

void variables_fini(struct variables *v)
{
	msg_list_fini(&v->list);
	v->n = 0;
}

int variables_set(struct variables *v, struct span env, struct err *e)
{
	struct variables made = { .n = 0 };
	struct span one;
	int r = 0;

	msg_list_init(&made.list, VARIABLES_BYTES);
	while (r == 0 && msg_strv_next(&env, &one)) {
		const char *is = one.len ? memchr(one.p, '=', one.len) : NULL;

		r = !is || is == one.p ? -EINVAL : msg_list_str(&made.list, one);
		made.n++;
	}
	if (r < 0) {
		variables_fini(&made);
		return err_set(e, r, "bad-request", "variables are NAME=VALUE, at most %d bytes of them",
			       VARIABLES_BYTES);
	}
	variables_fini(v);
	*v = made;
	return 0;
}

bool variables_same_name(struct span a, struct span b)
{
	const char *is = a.len ? memchr(a.p, '=', a.len) : NULL;
	size_t len = is ? (size_t)(is - (const char *)a.p) + 1 : a.len;

	return b.len >= len && memcmp(a.p, b.p, len) == 0;
}

static bool names(struct span list, struct span pair)
{
	struct span one;

	while (msg_strv_next(&list, &one))
		if (variables_same_name(pair, one))
			return true;
	return false;
}

int variables_merge(const struct variables *v, struct span env, struct msg_list *to)
{
	struct span left, one;
	int r = 0;

	msg_list_init(to, FRAME_MAX);
	for (left = env; r == 0 && msg_strv_next(&left, &one);)
		r = msg_list_str(to, one);
	for (left = msg_list_span(&v->list); r == 0 && v->n && msg_strv_next(&left, &one);)
		if (!names(env, one))
			r = msg_list_str(to, one);
	return r;
}
