/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_SAY_H
#define HOST_BROKER_SAY_H

/*
 * What the daemon and the broker say to each other, docs/broker.md. Both are of the same build, so there are no
 * versions and no byte order. Each trusts the other with what it is for and with nothing else, so that strings must end
 * inside of their fields and lengths are those of the datagram.
 *
 * First pair: the daemon asks (struct say_ask, then the bytes of a sealed file), the broker answers (struct say_answer,
 * then bytes). Second pair: the broker tells (struct say_tell), and is answered (struct say_heard) where it wants to
 * be.
 *
 * The memory file has a byte for each connection: what whoever speaks HTTP on it is owed. When the broker is dead the
 * daemon says a last word to those who wait for an answer.
 */
#include "base/err.h"
#include "seal/policy.h"

#include <stdbool.h>
#include <stdint.h>

enum { SAY_MAGIC = 0x62726b72, SAY_WORD = 65, SAY_NAMES = 513, SAY_TAIL_MAX = 96 * 1024, SAY_SLOTS = 2048 };
enum { SAY_FD_ASK = 3, SAY_FD_TELL = 4, SAY_FD_SLOTS = 5, SAY_FD_KEY = 6 };
enum { SAY_IDLE = 0, SAY_ASKED = 1, SAY_ANSWERING = 2 }; /* of a slot */

enum say_op { SAY_PUB = 1, SAY_OPEN, SAY_CHECK, SAY_KEEP, SAY_DROP, SAY_SERVICES, SAY_TAKE, SAY_RULES };

struct say_who {
	char sandbox[SAY_WORD], template_[SAY_WORD], key[SAY_WORD];
	char exec[SAY_WORD], command[129]; /* of a connection, as the sandbox says it: for the audit */
	char secrets[SAY_NAMES];
};

struct say_ask {
	uint32_t magic, op;
	uint32_t slot; /* TAKE */
	char name[SEAL_NAME_MAX + 1]; /* KEEP, DROP */
	struct say_who who; /* SERVICES, TAKE; RULES: the sandbox */
};

struct say_answer {
	struct err err; /* code 0: done; bytes follow */
};

enum say_kind { SAY_FIRST = 1, SAY_USED, SAY_REFUSED, SAY_GONE };

/* FIRST is answered: nothing leaves before. GONE: a connection has ended, only slot counts. */
struct say_tell {
	uint32_t magic, kind;
	uint64_t id;
	uint32_t slot, status, count;
	uint64_t up_b, down_b;
	struct say_who who; /* without secrets */
	char secret[SEAL_NAME_MAX + 1], service[SAY_WORD], method[17], host[128], path[193], rule[SAY_WORD];
};

struct say_heard {
	uint64_t id;
	int32_t code; /* 0 or -errno */
};

/** say_clean() - words of others, as they may stand in a row of the audit: as much of them as fits into @to. */
static inline void say_clean(char *to, size_t size, struct span s)
{
	size_t i, n = MIN(s.len, size - 1);

	for (i = 0; i < n; i++) {
		unsigned char x = ((const unsigned char *)s.p)[i];

		to[i] = x < 0x20 || x >= 0x7f || x == '"' || x == '\\' ? '?' : (char)x;
	}
	to[n] = '\0';
}

#define SAY_FIELD_OK(field) (memchr(field, '\0', sizeof(field)) != NULL)

#endif
