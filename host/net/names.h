/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_NAMES_H
#define HOST_NET_NAMES_H

/*
 * Where sandboxes ask for names: a forwarder that asks only for what they may, and passes on only answers that they may
 * have. It has a thread and a loop of its own, so that a privileged process that is busy keeps nobody waiting but them.
 */
#include "host/net/message.h"
#include "host/net/policy.h"

struct names;

enum { NAMES_TTL_MAX = 3600, NAMES_LIFE_MIN = 60 };

struct names_conf {
	int udp, tcp;	 /* sockets, ours from now on, also after a failure */
	uint32_t ranges; /* those who ask have a number below this */
	const char *dns; /* addresses by commas; "": /etc/resolv.conf, as it is when they are needed */
	const char *resolv; /* another file in its place, for tests; may be NULL */
	uint16_t port;	    /* of the resolvers; 0: 53 */
	/** home() - who asks from this address. Return: 0; -ENOENT. */
	int (*home)(const struct priv_prefix *from, uint32_t *ret_range);
	/** judge() - may it ask for @name, which is lower case? */
	enum policy_verdict (*judge)(void *ctx, uint32_t range, const char *name);
	/** learn() - the answer to an allowed name told these: they may be reached for @life_s. Return: 0 or -errno:
	 * the answer is not passed on. */
	int (*learn)(void *ctx, uint32_t range, uint32_t life_s, const struct priv_prefix *v, size_t n);
	/** told() - it was told these addresses of @name, which it may use for @life_s. May be NULL. */
	void (*told)(void *ctx, uint32_t range, const char *name, uint32_t life_s, const struct priv_prefix *v,
		     size_t n);
	/** hides() - an address that no answer may tell it. */
	bool (*hides)(void *ctx, uint32_t range, const struct priv_prefix *p);
	void *ctx;
};

int names_start(const struct names_conf *conf, struct names **ret, struct err *e) MUST_CHECK;
/** names_stop() - nobody is called any more when it returns. */
void names_stop(struct names **names);
/** names_resolvers() - addresses in @text: a list by commas, or lines of resolv.conf. At most @max. */
size_t names_resolvers(const char *text, bool file, struct priv_prefix *v, size_t max);

#endif
