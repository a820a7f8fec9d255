/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_VARIABLES_H
#define GUEST_VARIABLES_H

/* Variables that the host gives to every command of this sandbox; a command's own of the same name win. */
#include "base/err.h"
#include "wire/frame.h"
#include "wire/msg.h"

enum { VARIABLES_BYTES = 64 * 1024 };

struct variables {
	struct msg_list list;
	size_t n;
};

/** variables_set() - @env takes the place of what is there. Return: 0; -EINVAL, -E2BIG with words: nothing changed. */
int variables_set(struct variables *v, struct span env, struct err *e) MUST_CHECK;
/** variables_merge() - a command's own and, behind them, those that it does not name, into @to: msg_list_fini(). */
int variables_merge(const struct variables *v, struct span env, struct msg_list *to) MUST_CHECK;
/** variables_same_name() - "A=..." and "A=...". */
bool variables_same_name(struct span a, struct span b);
void variables_fini(struct variables *v);

#endif
