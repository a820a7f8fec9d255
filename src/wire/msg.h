/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_MSG_H
#define WIRE_MSG_H

/*
 * Messages as structs. msg.def makes `struct msg_exec` from MSG(EXEC, …) and so on; the members have the names of the
 * fields: uint64_t for U64, int64_t for I64, struct span for STR, BIN, STRV and RECS. Spans of a decoded message point
 * into the payload and live as long as it.
 *
 * STRV and RECS are spans over encoded elements: walk them with msg_strv_next() and msg_rec_next(), make them with
 * struct msg_list.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

/* msg_* struct names are lower case in C; the preprocessor cannot fold case, so the table's names are used as they are:
 * struct msg_HELLO, MSG_HELLO. */
#define MSG(NAME, type, dir, doc) struct msg_##NAME {
#define U64(field, max, doc) uint64_t field;
#define I64(field, doc) int64_t field;
#define STR(field, max, doc) struct span field;
#define BIN(field, max, doc) struct span field;
#define STRV(field, max, doc) struct span field;
#define RECS(field, RECORD, doc) struct span field;
#define END(NAME) uint8_t reserved_; };
#include "wire/msg.def"
#undef MSG
#undef U64
#undef I64
#undef STR
#undef BIN
#undef STRV
#undef RECS
#undef END

enum msg_type {
#define MSG(NAME, type, dir, doc) MSG_##NAME = type,
#define U64(field, max, doc)
#define I64(field, doc)
#define STR(field, max, doc)
#define BIN(field, max, doc)
#define STRV(field, max, doc)
#define RECS(field, RECORD, doc)
#define END(NAME)
#include "wire/msg.def"
#undef MSG
#undef U64
#undef I64
#undef STR
#undef BIN
#undef STRV
#undef RECS
#undef END
};

/** msg_name() - "EXEC" for MSG_EXEC; NULL for a type that msg.def does not have. Static. */
const char *msg_name(unsigned type);
/** msg_bytes_max() - how many bytes fit into a message of this type that has one field, of bytes; 0: it is another. */
uint64_t msg_bytes_max(unsigned type);

/**
 * msg_encode() - append the payload of one message to @b
 * @m: the struct of that type; its limits are checked like a peer's
 * Return: 0; -EINVAL (a field breaks its limit); -E2BIG, -ENOMEM of @b.
 */
int msg_encode(struct buf *b, enum msg_type type, const void *m) MUST_CHECK;

/**
 * msg_decode() - check a payload completely and fill the struct of that type
 * @payload: one msgpack array and nothing behind it; from a hostile peer
 * @ret:     the struct; its spans borrow from @payload
 * Nothing is allocated by announced sizes; nested lists and records are checked here too, so walking them cannot fail.
 * Return: 0; -EBADMSG with a slug "bad-message" and what is wrong.
 */
int msg_decode(enum msg_type type, struct span payload, void *ret, struct err *e) MUST_CHECK;
/** msg_number() - the first field of a payload, an unsigned one, without a look at the rest. Return: 0; -EBADMSG. */
int msg_number(struct span payload, uint64_t *ret) MUST_CHECK;

/* A list under construction, for a STRV or RECS field: put its span() into the struct before msg_encode(). */
struct msg_list {
	struct buf b;
	size_t n;
};

void msg_list_init(struct msg_list *l, size_t limit);
void msg_list_fini(struct msg_list *l);
/** msg_list_str() - add a string. Return: 0, -E2BIG, -ENOMEM. */
int msg_list_str(struct msg_list *l, struct span s);
/** msg_list_rec() - add a record (type >= 0x80) given as its struct. Return: as msg_encode(). */
int msg_list_rec(struct msg_list *l, enum msg_type type, const void *rec);
/** msg_list_span() - the list as the value of a field; borrows until the next change. */
struct span msg_list_span(const struct msg_list *l);

/** msg_strv_next() - take the first string off a decoded STRV field; false at its end. */
bool msg_strv_next(struct span *list, struct span *ret);
/** msg_strv_len() - how many strings are in it. */
size_t msg_strv_len(struct span list);
/** msg_rec_next() - take the first record off a decoded RECS field into its struct; false at its end. */
bool msg_rec_next(struct span *list, enum msg_type type, void *ret);

/** msg_dump() - append a message as one line of text ("EXEC id=\"x\" argv=[\"ls\",\"-l\"] …") for people; data is cut
 * at 64 bytes, unprintable bytes are escaped, a token is never printed. A payload that does not decode is said so. */
void msg_dump(struct buf *b, unsigned type, struct span payload);

#endif
