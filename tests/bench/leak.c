/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a stream is looked through for a hundred secrets, one JSON line each as bench-seal's. The peer is memchr()
 * of a byte that is not there: what reading the bytes costs at all.
 */
#include "base/clock.h"
#include "leak/leak.h"
#include "seal/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECRETS = 100, MIB = 1024 * 1024, BLOCK = 64 * 1024, TOTAL_MIB = 1024, TIMES = 5 };

static void found(void *ctx, const struct leak_found *f)
{
	(void)f;
	++*(size_t *)ctx;
}

static double since(uint64_t t)
{
	return (double)(clock_now() - t) / 1e9;
}

static double rate(struct leak_scan *s, const uint8_t *text, size_t *n)
{
	uint64_t t = clock_now();
	size_t i;

	for (i = 0; i < (size_t)TOTAL_MIB * MIB; i += BLOCK)
		leak_scan(s, SPAN(text + i % (4 * MIB), BLOCK), found, n);
	return TOTAL_MIB * (double)MIB / since(t) / 1e9;
}

static double rate_of_memchr(const uint8_t *text, size_t *n)
{
	uint64_t t = clock_now();
	size_t i;

	for (i = 0; i < (size_t)TOTAL_MIB * MIB; i += BLOCK)
		*n += memchr(text + i % (4 * MIB), 1, BLOCK) != NULL;
	return TOTAL_MIB * (double)MIB / since(t) / 1e9;
}

static void measure(const char *what, struct leaks *l, uint8_t *text)
{
	double best = 0, peer = 0;
	struct leak_scan s;
	size_t n = 0, i;

	leak_scan_init(&s, l, 0);
	for (i = 0; i < TIMES; i++) {
		double r = rate(&s, text, &n), p = rate_of_memchr(text, &n);

		best = MAX(best, r);
		peer = MAX(peer, p);
	}
	leak_scan_fini(&s);
	printf("{\"name\":\"leak_scan_%s\",\"goal\":\"1\",\"unit\":\"GB/"
	       "s\",\"figure\":%.2f,\"peer\":%.2f,\"ratio\":%.3f,"
	       "\"note\":\"%u secrets of 40 bytes, blocks of 64 KiB, best of %d\"}\n",
	       what, best, peer, best / peer, leaks_count(l), TIMES);
}

int main(void)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	static const char words[] =
		"make: Entering directory '/workspace/build'\n  CC       src/base/buf.o\nwarning: unused ";
	struct leaks *l;
	uint8_t *text = malloc(4 * MIB);
	size_t i, k;

	if (!text || digest_setup() < 0)
		return 1;
	l = leaks_new();
	srand(1);
	for (i = 0; i < SECRETS; i++) {
		char value[41] = "sk-ant-";

		for (k = 7; k < 40; k++)
			value[k] = letters[rand() % 64];
		if (leaks_add(l, "S", SPAN(value, 40)) < 0)
			return 1;
	}
	for (i = 0; i < 4 * MIB; i++)
		text[i] = (uint8_t)words[i % (sizeof(words) - 1)];
	measure("text", l, text);
	for (i = 0; i < 4 * MIB; i++)
		text[i] = (uint8_t)(2 + rand() % 254);
	measure("random", l, text);
	for (i = 0; i < 4 * MIB; i++)
		text[i] = (uint8_t)letters[rand() % 64];
	measure("base64", l, text);
	leaks_unref(&l);
	free(text);
	return 0;
}
