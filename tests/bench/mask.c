/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Masking: how fast it is, and whether the time that it takes tells a sandbox how much of a guess is right. Bodies
 * are full of guesses, of which the first 0, 1, 4, 7 … bytes are those of the value, looked at in turns; told is by how
 * many standard errors the mean of each is off that of the wrong guess (Welch's t; beyond 4.5 one would say that it
 * leaks). For each guess there is a second wrong one, which says what such a number is when there is nothing to see.
 * One JSON line for each.
 */
#include "host/broker/mask.h"

#include "base/clock.h"
#include "seal/digest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BODY = 64 * 1024, LEN = 40, WARM = 50, GUESSES = 8 };

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void random_text(char *to, size_t len)
{
	size_t i;

	random_bytes(to, len);
	for (i = 0; i < len; i++)
		to[i] = letters[(unsigned char)to[i] % 64];
}

/* Guesses one behind the other; what is not right of one is different from the value in its first byte. */
static void fill(char *body, const char *value, size_t right)
{
	size_t at, n;

	for (at = 0; at < BODY; at += n) {
		n = MIN((size_t)LEN / 2, (size_t)BODY - at);
		random_text(body + at, n);
		memcpy(body + at, value, MIN(right, n));
		if (right < n && body[at + right] == value[right])
			body[at + right] = value[right] == 'A' ? 'B' : 'A';
	}
}

static double look_ns(struct mask *m, const char *body)
{
	static char copy[BODY];
	uint64_t begun;

	memcpy(copy, body, BODY);
	begun = clock_now();
	if (mask_bytes(m, copy, BODY))
		abort(); /* no guess is whole */
	return (double)(clock_now() - begun);
}

int main(int argc, char **argv)
{
	static const size_t right[GUESSES] = { 0, 0, 1, 1, 4, 7, 8, 16 };
	static char body[GUESSES][BODY];
	double sum[GUESSES] = { 0 }, square[GUESSES] = { 0 }, mean[GUESSES], error[GUESSES], best = 1e18;
	size_t rounds = argc > 1 ? (size_t)atoi(argv[1]) : 3000, i, k;
	char value[LEN];
	struct secret *s;
	struct mask *m;

	if (digest_setup() < 0)
		return 1;
	random_text(value, LEN);
	s = secret_of(SPAN(value, LEN));
	if (!s || mask_new(s, &m) < 0)
		return 1;
	secret_free(&s);
	for (i = 0; i < GUESSES; i++)
		fill(body[i], value, right[i]);
	for (k = 0; k < rounds + WARM; k++) {
		size_t first = k % GUESSES; /* nobody is always behind the same one */

		for (i = 0; i < GUESSES; i++) {
			size_t g = (first + i) % GUESSES;
			double ns = look_ns(m, body[g]);

			if (k < WARM)
				continue;
			best = MIN(best, ns);
			ns = MIN(ns, 4 * best); /* somebody else had the processor */
			sum[g] += ns;
			square[g] += ns * ns;
		}
	}
	for (i = 0; i < GUESSES; i++) {
		double n = (double)rounds;

		mean[i] = sum[i] / n;
		error[i] = (square[i] / n - mean[i] * mean[i]) / n;
		printf("{\"bench\":\"mask\",\"what\":\"64 KiB of guesses, %zu bytes of 40 "
		       "right\",\"us\":%.2f,\"t\":%.1f}\n",
		       right[i], mean[i] / 1e3, i ? (mean[i] - mean[0]) / sqrt(error[i] + error[0]) : 0.0);
	}
	printf("{\"bench\":\"mask\",\"what\":\"one secret of 40 bytes\",\"MB_per_s\":%.0f}\n", BODY * 1e3 / mean[0]);
	mask_free(&m);
	return 0;
}
