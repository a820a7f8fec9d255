/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_FS_GATE_H
#define HOST_FS_GATE_H

/* How many threads wait for the kernel's requests at once. */
#include <semaphore.h>
#include <stdbool.h>
#include <sys/types.h>

struct gate {
	sem_t call;	   /* those that wait outside wait for it */
	unsigned inside;   /* atomic, as all of these: threads that wait for a request */
	unsigned wanted;   /* how many may */
	unsigned outside;  /* threads that wait here */
	unsigned pressed, calm; /* requests of others that waited when a thread came; that did not, since */
	unsigned last;	   /* who asked last */
	unsigned taken;	   /* requests, ever */
	bool is_watched;   /* somebody outside looks every GATE_LOOK_MS whether nobody is inside */
};

enum { GATE_LOOK_MS = 2 };

/** gate_init() / gate_fini() - nobody may be in it any more. */
void gate_init(struct gate *g);
void gate_fini(struct gate *g);
/** gate_read() - read(2) of the next request, when it is this thread's turn. A thread may be cancelled in here.
 * @ret_waited: it was there already. */
ssize_t gate_read(struct gate *g, int fd, void *to, size_t size, bool *ret_waited);
/** gate_feel() - then: who asks for it (a thread of somebody), and whether one asks for several at once. */
void gate_feel(struct gate *g, bool waited, unsigned who, bool several);

#endif
