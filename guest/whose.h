/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_WHOSE_H
#define GUEST_WHOSE_H

/*
 * From which command a connection comes. It is what we see from here: root inside can make us see something else.
 */
#include <stdint.h>
#include <sys/types.h>

enum { WHOSE_RECENT = 8 };

struct whose {
	pid_t recent[WHOSE_RECENT]; /* who was found; looked at first */
	unsigned next;
	uint64_t again; /* clock_now() from which all others are looked at again */
};

/** whose_tag() - the mark (guest/kill.h) of a process that has the other end of @fd, a connection that was accepted. It
 * looks at no more processes and descriptors than take some milliseconds. Return: 0: it was not met. */
uint64_t whose_tag(struct whose *w, int fd);

#endif
