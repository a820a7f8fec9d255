/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of guest/fill-wait.c: an agent that lays files out slowly, until somebody inside is in a hurry. */
#include "guest/fill.h"

#include <time.h>
#include <unistd.h>

void fill_wait(void)
{
	if (access("/tmp/hurry", F_OK) < 0)
		nanosleep(&(struct timespec){ .tv_nsec = 250000000 }, NULL);
}
