/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_SOCKS_H
#define HOST_NET_SOCKS_H

/*
 * What a client says to a SOCKS5 proxy (RFC 1928; a username and a password as RFC 1929 has it) until it is connected,
 * and nothing else: no descriptor, no clock. Never more is read than belongs to the proxy's words, so that the first
 * byte behind them is the destination's.
 */
#include "base/buf.h"
#include "base/err.h"
#include "host/net/policy.h"

/* Where to. */
struct socks_to {
	char name[POLICY_NAME_MAX + 1]; /* "": by @address */
	struct priv_prefix address;
	uint16_t port;
};

enum { SOCKS_OUT_MAX = 4 + 3 + 2 * POLICY_PROXY_MAX + 7 + POLICY_NAME_MAX, SOCKS_IN_MAX = 4 + 1 + 255 + 2 };

struct socks {
	const struct policy_proxy *proxy; /* borrowed, as the next */
	const struct socks_to *to;
	int state;
	uint8_t in[SOCKS_IN_MAX];
	size_t have, want;
};

/** socks_begin() - append what is said first to @out. */
void socks_begin(struct socks *s, const struct policy_proxy *proxy, const struct socks_to *to, struct buf *out);
/** socks_room() - where the proxy's next bytes go, and how many at most: never 0. */
void *socks_room(struct socks *s, size_t *ret_len);
enum { SOCKS_E_MORE = 1 };
/** socks_read() - @n bytes (not more than there was room for) have been put there; what is to be said is appended to
 * @out. Return: 0: connected; SOCKS_E_MORE; -EPROTO: it does not speak SOCKS5; -EACCES: it wants other credentials, or
 * says no to these; -ECONNREFUSED: it does not connect, @e has its reason. */
int socks_read(struct socks *s, size_t n, struct buf *out, struct err *e) MUST_CHECK;

#endif
