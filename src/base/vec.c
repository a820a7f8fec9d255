/* SPDX-License-Identifier: Apache-2.0 */
/* The growing half of vec.h: doubling, from eight. */
#include "base/vec.h"

void *vec_grow(void *v, size_t *cap, size_t len, size_t size)
{
	size_t want = *cap ? *cap * 2 : 8;
	void *p = must_calloc(want, size);

	if (len)
		memcpy(p, v, len * size);
	free(v);
	*cap = want;
	return p;
}
