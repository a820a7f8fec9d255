/* SPDX-License-Identifier: Apache-2.0 */
/* The one place where running out of memory ends the program. */
#include "base/own.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

static NORETURN void out_of_memory(void)
{
	static const char words[] = "berth: out of memory\n";

	(void)!fwrite(words, 1, sizeof(words) - 1, stderr);
	abort();
}

void *must_calloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

char *must_strdup(const char *s)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		out_of_memory();
	return copy;
}

void *must_memdup(const void *p, size_t len)
{
	void *copy = malloc(len ? len : 1);

	if (!copy)
		out_of_memory();
	if (len)
		memcpy(copy, p, len);
	return copy;
}

void free_wiped(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

void *realloc_wiped(void *p, size_t size)
{
	size_t was = p ? malloc_usable_size(p) : 0;
	void *q = malloc(size ? size : 1);

	if (!q)
		return NULL;
	if (was)
		memcpy(q, p, was < size ? was : size);
	free_wiped(p);
	return q;
}

void mem_free(void *slot)
{
	void *p = NULL;

	memcpy(&p, slot, sizeof(p));
	free(p);
	p = NULL;
	memcpy(slot, &p, sizeof(p));
}

void str_free(char **slot)
{
	free(*slot);
	*slot = NULL;
}
