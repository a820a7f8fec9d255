/* SPDX-License-Identifier: Apache-2.0 */
/* Some fences are down: those that the environment names, with commas between. Read before main(), since the
 * environment is cleaned. */
#include "host/priv/weak.h"

#include "base/own.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned down;

static void __attribute__((constructor)) begin(void)
{
	static const char *const names[WEAK_N] = { "exe",   "leak",  "mask",   "net",	 "setuid", "devices",
						   "ids",   "calls", "pids",   "memory", "files",  "score",
						   "nodes", "caps",  "userns", "dev",	 "proc" };
	const char *wanted = getenv("BERTH_WEAK");
	AUTO(str_free) char *copy = must_strdup(wanted ? wanted : "");
	char *rest = copy, *name;
	unsigned n = 0;
	size_t i;

	while ((name = strsep(&rest, ",")) != NULL) {
		n++;
		for (i = 0; i < ARRAY_LEN(names); i++)
			if (str_eq(names[i], name))
				down |= 1U << i;
	}
	if (!down || (unsigned)__builtin_popcount(down) != n) {
		fprintf(stderr, "berthd-weak: for tests: BERTH_WEAK must name fences\n");
		exit(2);
	}
	fprintf(stderr, "berthd-weak: without %s: for tests, nothing else\n", wanted);
}

bool weak(enum weak fence)
{
	return down >> fence & 1;
}
