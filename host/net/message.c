/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is followed that points elsewhere: names of records are only stepped over, the question's has no pointers. */
#include "host/net/message.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

enum { TYPE_A = MESSAGE_A, TYPE_AAAA = MESSAGE_AAAA, TYPE_OPT = 41, CLASS_IN = 1, POINTER = 0xc0, QR = 0x80 };

static uint16_t u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t u32(const uint8_t *p)
{
	return (uint32_t)u16(p) << 16 | u16(p + 2);
}

uint16_t message_id(const uint8_t *m)
{
	return u16(m);
}

void message_set_id(uint8_t *m, uint16_t id)
{
	m[0] = (uint8_t)(id >> 8);
	m[1] = (uint8_t)id;
}

static void put_byte(char **to, uint8_t c)
{
	if (isalnum(c) || c == '-' || c == '_')
		*(*to)++ = (char)tolower(c);
	else
		*to += snprintf(*to, 5, "\\%03u", c);
}

int message_question(struct span m, bool answer, struct question *ret)
{
	const uint8_t *p = m.p;
	char *to = ret->name;
	size_t at = MESSAGE_HEAD;

	if (m.len < MESSAGE_HEAD || ((p[2] & QR) != 0) != answer || (p[2] & 0x78) != 0 || u16(p + 4) != 1)
		return -EINVAL;
	for (;;) {
		size_t len, i;

		if (at >= m.len)
			return -EINVAL;
		len = p[at++];
		if (len == 0)
			break;
		if (len > 63 || at + len > m.len || at + len - MESSAGE_HEAD > MESSAGE_NAME_MAX)
			return -EINVAL;
		if (to != ret->name)
			*to++ = '.';
		for (i = 0; i < len; i++)
			put_byte(&to, p[at + i]);
		at += len;
	}
	*to = '\0';
	if (at + 4 > m.len)
		return -EINVAL;
	ret->type = u16(p + at);
	ret->class_ = u16(p + at + 2);
	ret->end = at + 4;
	return 0;
}

/* Return: where the name ends, 0 when it does not. */
static size_t skip_name(const uint8_t *m, size_t len, size_t at)
{
	while (at < len) {
		if ((m[at] & POINTER) == POINTER)
			return at + 2 <= len ? at + 2 : 0;
		if (m[at] & POINTER)
			return 0;
		if (m[at] == 0)
			return at + 1;
		at += 1U + m[at];
	}
	return 0;
}

int message_answers(uint8_t *m, size_t len, uint32_t ttl_max, void (*fn)(void *ctx, const struct priv_prefix *p),
		    void *ctx)
{
	unsigned n = len < MESSAGE_HEAD ? 0U : 0U + u16(m + 6) + u16(m + 8) + u16(m + 10);
	size_t at = MESSAGE_HEAD;
	uint32_t longest = 0;

	if (len < MESSAGE_HEAD || u16(m + 4) != 1)
		return -EINVAL;
	at = skip_name(m, len, at);
	if (!at || at + 4 > len)
		return -EINVAL;
	for (at += 4; n > 0; n--) {
		struct priv_prefix p = { .family = AF_INET, .len = 32 };
		uint16_t type, size;
		uint32_t ttl;

		at = skip_name(m, len, at);
		if (!at || at + 10 > len)
			return -EINVAL;
		type = u16(m + at);
		ttl = u32(m + at + 4);
		size = u16(m + at + 8);
		if (type != TYPE_OPT) { /* there it is something else */
			ttl = ttl & 0x80000000U ? 0 : MIN(ttl, ttl_max);
			longest = MAX(longest, ttl);
			m[at + 4] = (uint8_t)(ttl >> 24);
			m[at + 5] = (uint8_t)(ttl >> 16);
			m[at + 6] = (uint8_t)(ttl >> 8);
			m[at + 7] = (uint8_t)ttl;
		}
		at += 10;
		if (at + size > len)
			return -EINVAL;
		if (type == TYPE_AAAA)
			p = (struct priv_prefix){ .family = AF_INET6, .len = 128 };
		if ((type == TYPE_A && size == 4) || (type == TYPE_AAAA && size == 16)) {
			memcpy(p.addr, m + at, size);
			fn(ctx, &p);
		} else if (type == TYPE_A || type == TYPE_AAAA) {
			return -EINVAL;
		}
		at += size;
	}
	return (int)longest;
}

size_t message_refuse(uint8_t *m, size_t question_end, unsigned code)
{
	m[2] = (uint8_t)((m[2] & 0x79) | QR); /* what was asked, and whether recursion was wanted */
	m[3] = (uint8_t)(0x80 | code);
	memset(m + 6, 0, 6);
	return question_end;
}

size_t message_ask(uint8_t *m, uint16_t id, const char *name, uint16_t type)
{
	static const uint8_t head[MESSAGE_HEAD] = { [2] = 1, [5] = 1 }; /* recursion is wanted, one question */
	size_t at = MESSAGE_HEAD;

	memcpy(m, head, sizeof(head));
	message_set_id(m, id);
	while (*name) {
		size_t len = strcspn(name, ".");

		m[at++] = (uint8_t)len;
		memcpy(m + at, name, len);
		at += len;
		name += len + (name[len] == '.');
	}
	m[at++] = 0;
	m[at++] = (uint8_t)(type >> 8);
	m[at++] = (uint8_t)type;
	m[at++] = 0;
	m[at++] = CLASS_IN;
	return at;
}
