/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_VEC_H
#define BASE_VEC_H

/*
 * A growing array of one type:
 *	VEC(struct point) points = { 0 };
 *	vec_push(&points, ((struct point){ 1, 2 }));
 *	for (i = 0; i < points.len; i++) use(points.v[i]);
 *	vec_fini(&points);
 * Growth aborts when memory is out: bound what a peer can push before you push it.
 */
#include "base/own.h"

#include <string.h>

#define VEC(type)       \
	struct {        \
		type *v; \
		size_t len, cap; \
	}

/** vec_grow() - used by vec_push(): room for one more element of @size bytes. */
void *vec_grow(void *v, size_t *cap, size_t len, size_t size);

#define vec_push(vec, ...)                                                                  \
	do {                                                                                \
		__typeof__(vec) v_ = (vec);                                                 \
		if (v_->len == v_->cap)                                                     \
			v_->v = vec_grow(v_->v, &v_->cap, v_->len, sizeof(*v_->v));         \
		v_->v[v_->len++] = (__VA_ARGS__);                                           \
	} while (0)
#define vec_fini(vec)                          \
	do {                                   \
		free((vec)->v);                \
		(vec)->v = NULL;               \
		(vec)->len = (vec)->cap = 0;   \
	} while (0)

#endif
