/* SPDX-License-Identifier: Apache-2.0 */
/* One fence is down: the one that the environment names. Read before main(), since the environment is cleaned. */
#include "host/priv/weak.h"

#include "base/own.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

static enum weak down = WEAK_N;

static void __attribute__((constructor)) begin(void)
{
	static const char *const names[WEAK_N] = {"exe",     "leak", "mask",  "net",   "setuid",
						  "devices", "ids",  "calls", "limits"};
	const char *name = getenv("BERTH_WEAK");
	size_t i;

	for (i = 0; name && i < ARRAY_LEN(names); i++)
		if (str_eq(names[i], name))
			down = (enum weak)i;
	if (down == WEAK_N) {
		fprintf(stderr, "berthd-weak: for tests: BERTH_WEAK must name a fence\n");
		exit(2);
	}
	fprintf(stderr, "berthd-weak: without the fence %s: for tests, nothing else\n", name);
}

bool weak(enum weak fence)
{
	return fence == down;
}
