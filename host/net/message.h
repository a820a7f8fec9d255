/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_MESSAGE_H
#define HOST_NET_MESSAGE_H

/* Messages of the domain name system (RFC 1035), as much as a forwarder has to understand. */
#include "base/buf.h"
#include "host/priv/priv.h"

enum { MESSAGE_MAX = 65535, MESSAGE_HEAD = 12, MESSAGE_NAME_MAX = 255 };
enum { MESSAGE_SERVFAIL = 2, MESSAGE_NXDOMAIN = 3 };

struct question {
	char name[4 * MESSAGE_NAME_MAX + 1]; /* lower case, no dot at the end; odd bytes as \DDD */
	uint16_t type, class_;
	size_t end; /* of the question in the message */
};

/** message_question() - of a query or an answer with exactly one. Return: 0; -EINVAL. */
int message_question(struct span m, bool answer, struct question *ret) MUST_CHECK;
/** message_answers() - of an answer whose records are all well-formed: call @fn for every address in it, lower its
 * times to live to @ttl_max. Return: the longest of them (at least 0), -EINVAL. */
int message_answers(uint8_t *m, size_t len, uint32_t ttl_max, void (*fn)(void *ctx, const struct priv_prefix *p),
		    void *ctx) MUST_CHECK;
/** message_refuse() - make the query @m an answer without records that says @code. Return: its length. */
size_t message_refuse(uint8_t *m, size_t question_end, unsigned code);
enum { MESSAGE_A = 1, MESSAGE_AAAA = 28 };
/** message_ask() - a query for the addresses of @name, which policy_name_ok() lets pass. @m has room for
 * MESSAGE_ASK_MAX. Return: its length. */
enum { MESSAGE_ASK_MAX = MESSAGE_HEAD + MESSAGE_NAME_MAX + 4 };
size_t message_ask(uint8_t *m, uint16_t id, const char *name, uint16_t type);
uint16_t message_id(const uint8_t *m);
void message_set_id(uint8_t *m, uint16_t id);

#endif
