/* SPDX-License-Identifier: Apache-2.0 */
/* The codec: round trips of every message, truncation, limits, hostile payloads, newer and older peers. */
#include "wire-sample.h"

#include <criterion/criterion.h>
#include <errno.h>

/* Encode, decode, encode again: equal bytes. Every truncation must be refused. */
static void round_trip(unsigned type, const void *m, size_t size)
{
	union {
		char room[512];
		uint64_t align;
	} back;
	struct buf one, two;
	struct err e = ERR_NULL;
	size_t cut, step;

	cr_assert_leq(size, sizeof(back));
	buf_init(&one, 4 * 1024 * 1024);
	buf_init(&two, 4 * 1024 * 1024);
	cr_assert_eq(msg_encode(&one, type, m), 0, "%s", msg_name(type));
	cr_assert_eq(msg_decode(type, buf_span(&one), &back, &e), 0, "%s: %s", msg_name(type), e.text);
	cr_assert_eq(msg_encode(&two, type, &back), 0);
	cr_assert(span_eq(buf_span(&one), buf_span(&two)), "%s", msg_name(type));
	step = MAX(buf_len(&one) / 512, (size_t)1);
	for (cut = 0; cut < buf_len(&one); cut += step)
		cr_assert_eq(msg_decode(type, SPAN(buf_span(&one).p, cut), &back, &e), -EBADMSG, "%s cut at %zu",
			     msg_name(type), cut);
	cr_assert_eq(buf_append(&one, "\0", 1), 0);
	cr_assert_eq(msg_decode(type, buf_span(&one), &back, &e), -EBADMSG, "%s with a tail", msg_name(type));
	buf_fini(&one);
	buf_fini(&two);
}

Test(msg, every_message_survives_a_round_trip)
{
	enum sample how;

	for (how = SAMPLE_ZERO; how <= SAMPLE_MAX; how++) {
#define MSG(NAME, type, dir, doc)                                     \
	{                                                             \
		struct msg_##NAME m;                                  \
		fill_##NAME(&m, how);                                 \
		round_trip(MSG_##NAME, &m, sizeof(m));                \
	}
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
	}
}

static int decode_ping(const char *bytes, size_t len, struct msg_PING *m)
{
	return msg_decode(MSG_PING, SPAN(bytes, len), m, NULL);
}

Test(msg, newer_and_older_peers)
{
	struct msg_PING m = { .call = 9 };

	cr_assert_eq(decode_ping("\x90", 1, &m), 0); /* no field at all */
	cr_assert_eq(m.call, 0);
	cr_assert_eq(decode_ping("\x94\x07\xa1x\x92\xc0\xc3\x81\xa1k\x05", 11, &m), 0); /* three more fields */
	cr_assert_eq(m.call, 7);
	cr_assert_eq(decode_ping("\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 10, &m), 0);
	cr_assert_eq(m.call, UINT64_MAX);
	cr_assert_eq(decode_ping("\x91\xd0\x05", 3, &m), 0); /* a positive number in a signed coat */
	cr_assert_eq(m.call, 5);
}

Test(msg, hostile_payloads)
{
	static const struct {
		const char *p;
		size_t len;
	} bad[] = {
		{ "", 0 },
		{ "\x01", 1 },				     /* no array */
		{ "\x91\xff", 2 },			     /* negative */
		{ "\x91\xa1x", 3 },			     /* a string */
		{ "\x91\xc0", 2 },			     /* nil */
		{ "\x91\xca\0\0\0\0", 6 },		     /* a float */
		{ "\x91\x91\x01", 3 },			     /* an array */
		{ "\xdd\xff\xff\xff\xff\x01", 6 },	     /* four thousand million elements */
		{ "\xdf\xff\xff\xff\xff\x01\x01", 7 },	     /* as a map */
		{ "\x81\x91\x05\x91\x05", 5 },		     /* an array inside a map */
		{ "\x92\x01\xdb\xff\xff\xff\xff", 7 },	     /* a huge string behind */
		{ "\x92\x01\xc6\xff\xff\xff\xff", 7 },	     /* huge bytes */
		{ "\x92\x01\xc9\xff\xff\xff\xff\x01", 8 },   /* an extension whose length wraps */
		{ "\x92\x01\xc7\x00\x01", 5 },		     /* an extension */
		{ "\x92\x01\xc1", 3 },			     /* a byte that msgpack never uses */
		{ "\x91\x01\x01", 3 },			     /* two values */
	};
	char deep[4096];
	struct msg_PING m;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(decode_ping(bad[i].p, bad[i].len, &m), -EBADMSG, "%zu", i);
	memset(deep, 0x91, sizeof(deep));
	deep[sizeof(deep) - 1] = 1;
	deep[0] = (char)0x92;
	deep[1] = 1;
	cr_assert_eq(decode_ping(deep, sizeof(deep), &m), -EBADMSG);
}

Test(msg, limits_hold_in_both_directions)
{
	struct msg_SIGNAL sig = { .signal = 65 };
	struct msg_KILL kill = { .call = 1, .id = SPAN("a\0b", 3) };
	struct msg_STDIN in = { .data = SPAN(sample_bytes, 65537) };
	struct msg_EXEC x = { .id = span_str("a") };
	struct msg_CHANGES c = { .records = SPAN("\x91\x01", 2) };
	struct msg_SIGNAL got;
	struct buf b;

	buf_init(&b, 1024 * 1024);
	cr_assert_eq(msg_encode(&b, MSG_SIGNAL, &sig), -EINVAL);
	cr_assert_eq(msg_encode(&b, MSG_KILL, &kill), -EINVAL);
	cr_assert_eq(msg_encode(&b, MSG_STDIN, &in), -EINVAL);
	x.argv = sample_strv(SAMPLE_MAX, 1025);
	cr_assert_eq(msg_encode(&b, MSG_EXEC, &x), -EINVAL);
	x.argv = SPAN("\xa5" "abc", 4); /* a list that is cut */
	cr_assert_eq(msg_encode(&b, MSG_EXEC, &x), -EINVAL);
	x.argv = SPAN("\xa3" "a\0b", 4); /* NUL inside */
	cr_assert_eq(msg_encode(&b, MSG_EXEC, &x), -EINVAL);
	c.records = SPAN("\x91\xff", 2); /* a record with a wrong field */
	cr_assert_eq(msg_encode(&b, MSG_CHANGES, &c), -EINVAL);
	cr_assert_eq(buf_len(&b), 0);
	cr_assert_eq(msg_decode(MSG_SIGNAL, SPAN("\x91\x41", 2), &got, NULL), -EBADMSG);
	cr_assert_eq(msg_decode(MSG_SIGNAL, SPAN("\x91\x40", 2), &got, NULL), 0);
	buf_fini(&b);
}

Test(msg, lists_are_walked)
{
	struct msg_CHANGES m, back;
	struct msg_CHANGE rec;
	struct msg_NODE node;
	struct span list, nodes;
	struct buf b;
	size_t n = 0, k = 0;

	buf_init(&b, 1024 * 1024);
	fill_CHANGES(&m, SAMPLE_SMALL);
	cr_assert_eq(msg_encode(&b, MSG_CHANGES, &m), 0);
	cr_assert_eq(msg_decode(MSG_CHANGES, buf_span(&b), &back, NULL), 0);
	for (list = back.records; msg_rec_next(&list, MSG_CHANGE, &rec); n++)
		for (nodes = rec.node; msg_rec_next(&nodes, MSG_NODE, &node); k++)
			cr_assert_eq(node.mtime_ns, -1);
	cr_assert_eq(n, 3);
	cr_assert_eq(k, 9);
	cr_assert_eq(msg_strv_len(sample_strv(SAMPLE_MAX, 1024)), 1024);
	buf_fini(&b);
}

Test(msg, dump_is_safe_and_hides_the_token)
{
	struct msg_HELLO h = { .generation = 1, .token = span_str("sesame-sesame"), .id = span_str("a\n\"b") };
	struct buf b, line;

	buf_init(&b, 0);
	buf_init(&line, 0);
	cr_assert_eq(msg_encode(&b, MSG_HELLO, &h), 0);
	msg_dump(&line, MSG_HELLO, buf_span(&b));
	cr_assert_str_eq(buf_str(&line),
			 "HELLO generation=1 kind=0 token=(13) id=\"a\\x0a\\x22b\" boot=0 wall_ns=0 disk=0");
	buf_fini(&line);
	msg_dump(&line, MSG_HELLO, SPAN("\xff", 1));
	cr_assert(strstr(buf_str(&line), "undecodable"));
	buf_fini(&line);
	msg_dump(&line, 0x7f, SPAN_NULL);
	cr_assert(strstr(buf_str(&line), "unknown type"));
	buf_fini(&line);
	buf_fini(&b);
}

Test(msg, the_first_number_alone)
{
	static const uint64_t numbers[] = { 0, 127, 128, 255, 65535, 65536, UINT32_MAX, UINT64_MAX };
	static const struct span bad[] = { SPAN("", 0), SPAN("\x90", 1), SPAN("\x91", 1), SPAN("\xdc\x00", 2),
					   SPAN("\xdc\x00\x01", 3), SPAN("\x91\xff", 2), SPAN("\x91\xa1x", 3),
					   SPAN("\x91\xcf\x01", 3), SPAN("\x05", 1) };
	uint64_t got;
	size_t i;

	for (i = 0; i < ARRAY_LEN(numbers); i++) {
		struct msg_CHANGES m = { .seq = numbers[i] };
		struct buf b;

		buf_init(&b, 4096);
		cr_assert_eq(msg_encode(&b, MSG_CHANGES, &m), 0);
		cr_assert_eq(msg_number(buf_span(&b), &got), 0);
		cr_assert_eq(got, numbers[i]);
		buf_fini(&b);
	}
	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(msg_number(bad[i], &got), -EBADMSG, "%zu", i);
	cr_assert_eq(msg_number(SPAN("\xdd\x00\x00\x00\x01\x07", 6), &got), 0);
	cr_assert_eq(got, 7);
}
