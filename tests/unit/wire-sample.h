/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_WIRE_SAMPLE_H
#define TESTS_UNIT_WIRE_SAMPLE_H

/* Fills any message of msg.def, by its table, with small or with extreme values. */
#include "wire/msg.h"

enum sample { SAMPLE_ZERO, SAMPLE_SMALL, SAMPLE_MAX };

static unsigned char sample_bytes[1048576];
static struct msg_list sample_lists[16];
static unsigned sample_used;

static struct span sample_text(enum sample how, size_t max)
{
	size_t len = how == SAMPLE_ZERO ? 0 : how == SAMPLE_SMALL ? MIN(max, (size_t)3) : max;

	memset(sample_bytes, 'x', sizeof(sample_bytes));
	return SPAN(len ? sample_bytes : NULL, len);
}

static struct msg_list *sample_list(void)
{
	struct msg_list *l = &sample_lists[sample_used++ % ARRAY_LEN(sample_lists)];

	msg_list_fini(l);
	msg_list_init(l, 1024 * 1024);
	return l;
}

static struct span sample_strv(enum sample how, size_t max)
{
	struct msg_list *l = sample_list();
	size_t i, n = how == SAMPLE_ZERO ? 0 : how == SAMPLE_SMALL ? 2 : max;

	for (i = 0; i < n; i++)
		if (msg_list_str(l, span_str(i % 2 ? "PATH=/usr/bin" : "")) < 0)
			abort();
	return msg_list_span(l);
}

static struct span sample_NODE(enum sample how);
static struct span sample_CHANGE(enum sample how);
static struct span sample_DIRENT(enum sample how);
static struct span sample_PROC(enum sample how);
static struct span sample_FILL_ENTRY(enum sample how);
static struct span sample_PLACE_ENTRY(enum sample how);

#define MSG(NAME, type, dir, doc)                                                                     \
	static inline void fill_##NAME(struct msg_##NAME *m, enum sample how)                         \
	{                                                                                             \
		memset(m, 0, sizeof(*m));                                                             \
		(void)how;
#define U64(field, max, doc) m->field = how == SAMPLE_ZERO ? 0 : how == SAMPLE_SMALL ? 1 : (uint64_t)(max);
#define I64(field, doc) m->field = how == SAMPLE_ZERO ? 0 : how == SAMPLE_SMALL ? -1 : INT64_MIN;
#define STR(field, max, doc) m->field = sample_text(how, max);
#define BIN(field, max, doc) m->field = sample_text(how, max);
#define STRV(field, max, doc) m->field = sample_strv(how, max);
#define RECS(field, RECORD, doc) m->field = sample_##RECORD(how);
#define END(NAME) }
#include "wire/msg.def"
#undef MSG
#undef U64
#undef I64
#undef STR
#undef BIN
#undef STRV
#undef RECS
#undef END

#define SAMPLE_RECORD(NAME)                                                                           \
	static inline struct span sample_##NAME(enum sample how)                                      \
	{                                                                                             \
		struct msg_##NAME rec;                                                                \
		struct msg_list *l;                                                                   \
		size_t i;                                                                             \
                                                                                                      \
		fill_##NAME(&rec, how);                                                               \
		l = sample_list();                                                                    \
		for (i = 0; how != SAMPLE_ZERO && i < 3; i++)                                         \
			if (msg_list_rec(l, MSG_##NAME, &rec) < 0)                                    \
				abort();                                                              \
		return msg_list_span(l);                                                              \
	}
SAMPLE_RECORD(NODE)
SAMPLE_RECORD(CHANGE)
SAMPLE_RECORD(DIRENT)
SAMPLE_RECORD(PROC)
SAMPLE_RECORD(FILL_ENTRY)
SAMPLE_RECORD(PLACE_ENTRY)

#endif
