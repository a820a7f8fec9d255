/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_AHEAD_H
#define GUEST_AHEAD_H

/*
 * Small files that the kernel has dropped from memory before they were shipped: a burst is larger than what a sandbox
 * may hold. Read one by one each costs the disk's latency; so once a read would have waited, the next files are asked
 * for ahead, until nothing has waited for some time.
 */
#include <stdbool.h>
#include <sys/types.h>

enum { AHEAD_FILES = 64, AHEAD_LEN = 64 * 1024 };

struct ahead {
	unsigned n;    /* files that were asked for ahead and are still to be read */
	unsigned cold; /* so many more files are taken for dropped ones */
	bool blind;    /* the kernel does not tell */
};

/** ahead_read() - pread(2), and note whether the disk was waited for. */
ssize_t ahead_read(struct ahead *a, int fd, void *to, size_t len, off_t at);
/** ahead_due() - called for each file before it is read. Return: true when the next AHEAD_FILES are to be asked for. */
bool ahead_due(struct ahead *a);
/** ahead_of() - ask for the first bytes of a file, and do not wait for them. */
void ahead_of(int dirfd, const char *name);

#endif
