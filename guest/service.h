/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SERVICE_H
#define GUEST_SERVICE_H

/*
 * Sockets inside on which we listen for the host: each connection to one of them is announced by an ASK and waits, for
 * a short while and among few, to be taken by a tunnel. To a path, one too many is closed; to a port, it waits in the
 * kernel's queue.
 */
#include "base/list.h"
#include "guest/whose.h"
#include "loop/loop.h"
#include "wire/conn.h"

struct agent;
struct proc_name;

struct services {
	struct agent *agent; /* borrowed: parent */
	struct loop *loop;   /* borrowed */
	const char *hosts;   /* /etc/hosts */
	struct list listeners, asks;
	size_t n_listeners, n_asks;
	bool is_full; /* as many wait as may: nobody is accepted on a port until there are fewer */
	uint64_t last_ask;
	struct whose whose;
};

void services_init(struct services *s, struct agent *agent, struct loop *loop);
void services_fini(struct services *s);
/** services_listen() - Return: 0 (also when it is there already); -errno with words. */
int services_listen(struct services *s, const struct msg_LISTEN *m, struct err *e) MUST_CHECK;
/** services_listen_at() - the same on a port; the name of its address is in /etc/hosts then. */
int services_listen_at(struct services *s, const struct msg_LISTEN_AT *m, struct err *e) MUST_CHECK;
void services_unlisten(struct services *s, struct span name);
/** services_take() - the connection of an ask, and who asked. Return: 0 and the descriptor, yours; -ESRCH. */
int services_take(struct services *s, uint64_t ask, int *ret_fd, struct proc_name *ret, struct err *e) MUST_CHECK;
void services_refuse(struct services *s, uint64_t ask);

#endif
