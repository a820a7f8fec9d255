/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_RESOLVERS_H
#define HOST_NET_RESOLVERS_H

/* Who is asked for names: of the configuration, or the host's own as /etc/resolv.conf has them when they are needed. */
#include "host/priv/priv.h"

enum { RESOLVERS_MAX = 3 };

struct resolvers {
	const char *dns;  /* borrowed: addresses by commas; "" or NULL: of the file */
	const char *file; /* borrowed: in the place of /etc/resolv.conf; NULL: that */
	uint16_t port;	  /* 0: 53 */
	struct priv_prefix v[RESOLVERS_MAX];
	size_t n;
	uint64_t looked; /* when the file was read last */
};

/** resolvers_look() - what there is now in @r->v. */
void resolvers_look(struct resolvers *r);
/** resolvers_dial() - a socket of @type (SOCK_DGRAM, SOCK_STREAM) that is, or is about to be, connected to one. Return:
 * 0 or -errno. */
int resolvers_dial(const struct resolvers *r, const struct priv_prefix *at, int type, int *ret) MUST_CHECK;

#endif
