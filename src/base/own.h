/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_OWN_H
#define BASE_OWN_H

/*
 * Ownership at the declaration. Every destructor of the house takes the address of the slot, accepts NULL and
 * half-built objects, and nulls the slot; so one function serves AUTO() and explicit calls:
 *
 *	AUTO(buf_free) struct buf *b = NULL;
 *	...
 *	*ret = take(&b);
 *
 * Small allocations of fixed size abort when memory is out: there is nothing sensible to do then, and a daemon that
 * limps is worse than one that restarts. Whatever has a size that came from outside goes through buf with a limit.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define AUTO(destroy) __attribute__((cleanup(destroy)))
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))
#define NORETURN __attribute__((noreturn))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/** take() - hand an owned pointer over: yields its value and nulls the slot. */
#define take(slot)                          \
	__extension__({                     \
		__typeof__(slot) s_ = slot; \
		__typeof__(*s_) v_ = *s_;   \
		*s_ = NULL;                 \
		v_;                         \
	})

/** must_calloc() - zeroed memory for @n objects of @size bytes, or abort. For sizes we choose ourselves only. */
void *must_calloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
/** must_strdup() - a copy of @s, or abort; NULL gives NULL. Free with str_free(). */
char *must_strdup(const char *s);
/** must_memdup() - a copy of @len bytes (at least one byte is allocated), or abort. Free with mem_free(). */
void *must_memdup(const void *p, size_t len) __attribute__((returns_nonnull));

#define NEW(type) ((type *)must_calloc(1, sizeof(type)))

/** free_wiped() / realloc_wiped() - in the place of free() and realloc(), for libraries that read what nobody else may
 * see: what is given back is zeroed. */
void free_wiped(void *p);
void *realloc_wiped(void *p, size_t size);

/** mem_free() - destructor for any pointer slot that malloc filled: mem_free(&p). */
void mem_free(void *slot);
/** str_free() - destructor for a char * slot. */
void str_free(char **slot);

#endif
