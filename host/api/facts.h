/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_FACTS_H
#define HOST_API_FACTS_H

/* What the machine has, looked at once, before privileges go: the confined daemon could neither run crun nor open
 * /dev/kvm. */
#include <stdbool.h>

struct facts {
	char crun[48];	  /* its version, "" when it is not there or does not run */
	int landlock;	  /* version of the interface, 0: none */
	int kvm;	  /* version of the interface; 0: no /dev/kvm, negative: -errno of using it */
	bool vhost_vsock; /* /dev/vhost-vsock is there */
	bool user_namespaces; /* may be made */
	/* Where each can be limited: "v1", "v2", "" nowhere. */
	char memory[4], cpu[4], pids[4];
};

/** facts_look() - as root, with one thread. Takes some milliseconds: it runs crun --version. */
void facts_look(struct facts *ret);

#endif
