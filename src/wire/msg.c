/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. msg.def becomes one table of fields per message. Every field of a message struct is a multiple of eight bytes
 * wide and stands in the order of the table, so encoder, decoder and dump walk the table and the struct side by side.
 *
 * A payload is a msgpack array of unsigned, signed, str and bin values. A STRV field is a bin that holds msgpack str
 * values one behind the other, a RECS field is a bin that holds records (arrays like a payload) one behind the other:
 * so every array is flat, a list is skipped by its length and walked without recursion, and a list is built in a buffer
 * and copied once.
 *
 * Reading uses msgpack's push parser with callbacks of ours: it keeps a stack of fixed depth, allocates nothing, and
 * its loops end with the bytes that are there, whatever a peer announces. A record type only contains record types that
 * stand below it in msg.def, which bounds the recursion of decode().
 */
#include "wire/msg.h"

#include <errno.h>
#include <inttypes.h>

#define MSGPACK_EMBED_STACK_SIZE 8
#include <msgpack.h>
#include <msgpack/unpack_define.h>

enum kind { KIND_END, KIND_U64, KIND_I64, KIND_STR, KIND_BIN, KIND_STRV, KIND_RECS };

struct field {
	const char *name;
	enum kind kind;
	unsigned record; /* RECS: type of its records */
	uint64_t max;
};

struct desc {
	const char *name;
	const struct field *fields;
	size_t size;
};

#define MSG(NAME, type, dir, doc) static const struct field fields_##NAME[] = {
#define U64(field, max, doc) { #field, KIND_U64, 0, max },
#define I64(field, doc) { #field, KIND_I64, 0, 0 },
#define STR(field, max, doc) { #field, KIND_STR, 0, max },
#define BIN(field, max, doc) { #field, KIND_BIN, 0, max },
#define STRV(field, max, doc) { #field, KIND_STRV, 0, max },
#define RECS(field, RECORD, doc) { #field, KIND_RECS, MSG_##RECORD, 0 },
#define END(NAME) { NULL, KIND_END, 0, 0 } };
#include "wire/msg.def"
#undef MSG
#undef U64
#undef I64
#undef STR
#undef BIN
#undef STRV
#undef RECS
#undef END

enum { TYPE_MAX = 0x85, RECORD_MIN = 0x80 };

static const struct desc descs[TYPE_MAX + 1] = {
#define MSG(NAME, type, dir, doc) [type] = { #NAME, fields_##NAME, sizeof(struct msg_##NAME) },
#define U64(field, max, doc)
#define I64(field, doc)
#define STR(field, max, doc)
#define BIN(field, max, doc)
#define STRV(field, max, doc)
#define RECS(field, RECORD, doc)
#define END(NAME)
#include "wire/msg.def"
};

union any_message {
#undef MSG
#define MSG(NAME, type, dir, doc) struct msg_##NAME NAME;
#include "wire/msg.def"
};
#undef MSG
#undef U64
#undef I64
#undef STR
#undef BIN
#undef STRV
#undef RECS
#undef END

static const struct desc *desc_of(unsigned type)
{
	return type <= TYPE_MAX && descs[type].name ? &descs[type] : NULL;
}

const char *msg_name(unsigned type)
{
	const struct desc *d = desc_of(type);

	return d ? d->name : NULL;
}

uint64_t msg_bytes_max(unsigned type)
{
	const struct desc *d = desc_of(type);

	return d && d->fields[0].kind == KIND_BIN && d->fields[1].kind == KIND_END ? d->fields[0].max : 0;
}

static size_t width(enum kind kind)
{
	return kind == KIND_U64 || kind == KIND_I64 ? sizeof(uint64_t) : sizeof(struct span);
}

/* --- reading: the parser's values and what we do with them ------------------------------------------------------- */

enum value_kind { VALUE_OTHER, VALUE_UINT, VALUE_INT, VALUE_STR, VALUE_BIN, VALUE_ARRAY, VALUE_PAYLOAD };

struct value {
	enum value_kind kind;
	uint64_t num;
	struct span bytes;
};

struct reader {
	const struct field *field; /* next one to fill, NULL when only the shape matters */
	char *at;		   /* where in the struct */
	size_t left;		   /* bytes of input: no array can have more elements */
	bool begun;
	const char *bad; /* field that broke a rule */
	struct value *ret;
};

static int decode(unsigned type, struct span in, size_t *ret_used, void *ret, const char **ret_bad);
static bool strv_check(struct span list, uint64_t max);
static bool recs_check(struct span list, unsigned type, const char **ret_bad);

static bool value_fits(const struct field *f, const struct value *v, const char **ret_bad)
{
	switch (f->kind) {
	case KIND_U64:
		return v->kind == VALUE_UINT && v->num <= f->max;
	case KIND_I64:
		return v->kind == VALUE_INT || (v->kind == VALUE_UINT && v->num <= INT64_MAX);
	case KIND_STR:
		return v->kind == VALUE_STR && v->bytes.len <= f->max && !span_has_nul(v->bytes);
	case KIND_BIN:
		return v->kind == VALUE_BIN && v->bytes.len <= f->max;
	case KIND_STRV:
		return v->kind == VALUE_BIN && strv_check(v->bytes, f->max);
	case KIND_RECS:
		return v->kind == VALUE_BIN && recs_check(v->bytes, f->record, ret_bad);
	case KIND_END:
		break;
	}
	return false;
}

static int value_store(struct reader *r, const struct value *v)
{
	const struct field *f = r->field;

	if (!f || f->kind == KIND_END)
		return 0; /* a newer peer's field */
	if (!value_fits(f, v, &r->bad)) {
		if (!r->bad)
			r->bad = f->name;
		return -1;
	}
	if (f->kind == KIND_U64 || f->kind == KIND_I64)
		memcpy(r->at, &v->num, sizeof(v->num));
	else
		memcpy(r->at, &v->bytes, sizeof(v->bytes));
	r->at += width(f->kind);
	r->field++;
	return 0;
}

#define msgpack_unpack_struct(name) struct parse##name
#define msgpack_unpack_func(ret, name) static inline ret parse##name
#define msgpack_unpack_callback(name) on##name
#define msgpack_unpack_object struct value
#define msgpack_unpack_user struct reader

struct parse_context;
static void parse_init(struct parse_context *ctx);
static struct value parse_data(struct parse_context *ctx);
static int parse_execute(struct parse_context *ctx, const char *data, size_t len, size_t *off);

static inline struct value on_root(struct reader *r)
{
	(void)r;
	return (struct value){ .kind = VALUE_OTHER };
}

static inline int set_uint(struct value *v, uint64_t n)
{
	*v = (struct value){ .kind = VALUE_UINT, .num = n };
	return 0;
}

static inline int set_int(struct value *v, int64_t n)
{
	*v = (struct value){ .kind = n < 0 ? VALUE_INT : VALUE_UINT, .num = (uint64_t)n };
	return 0;
}

static inline int set_bytes(struct value *v, enum value_kind kind, const char *p, unsigned len)
{
	*v = (struct value){ .kind = kind, .bytes = SPAN(len ? p : NULL, len) };
	return 0;
}

#define ON_NUMBER(name, ctype, set)                                        \
	static inline int on_##name(struct reader *r, ctype n, struct value *v) \
	{                                                                  \
		(void)r;                                                   \
		return set(v, n);                                          \
	}
ON_NUMBER(uint8, uint8_t, set_uint)
ON_NUMBER(uint16, uint16_t, set_uint)
ON_NUMBER(uint32, uint32_t, set_uint)
ON_NUMBER(uint64, uint64_t, set_uint)
ON_NUMBER(int8, int8_t, set_int)
ON_NUMBER(int16, int16_t, set_int)
ON_NUMBER(int32, int32_t, set_int)
ON_NUMBER(int64, int64_t, set_int)

static inline int set_other(struct value *v)
{
	*v = (struct value){ .kind = VALUE_OTHER };
	return 0;
}

static inline int on_float(struct reader *r, float n, struct value *v)
{
	(void)r, (void)n;
	return set_other(v);
}

static inline int on_double(struct reader *r, double n, struct value *v)
{
	(void)r, (void)n;
	return set_other(v);
}

static inline int on_nil(struct reader *r, struct value *v)
{
	(void)r;
	return set_other(v);
}

static inline int on_true(struct reader *r, struct value *v)
{
	(void)r;
	return set_other(v);
}

static inline int on_false(struct reader *r, struct value *v)
{
	(void)r;
	return set_other(v);
}

static inline int on_str(struct reader *r, const char *base, const char *p, unsigned len, struct value *v)
{
	(void)r, (void)base;
	return set_bytes(v, VALUE_STR, p, len);
}

static inline int on_bin(struct reader *r, const char *base, const char *p, unsigned len, struct value *v)
{
	(void)r, (void)base;
	return set_bytes(v, VALUE_BIN, p, len);
}

/* The length that the parser hands over for an extension may have wrapped: nothing of it is looked at. */
static inline int on_ext(struct reader *r, const char *base, const char *p, unsigned len, struct value *v)
{
	(void)r, (void)base, (void)p, (void)len, (void)v;
	return -1;
}

static inline int on_array(struct reader *r, unsigned n, struct value *v)
{
	if (n > r->left)
		return -1;
	*v = (struct value){ .kind = r->begun ? VALUE_ARRAY : VALUE_PAYLOAD };
	r->begun = true;
	return 0;
}

static inline int on_array_item(struct reader *r, struct value *array, struct value item)
{
	return array->kind == VALUE_PAYLOAD ? value_store(r, &item) : 0;
}

static inline int on_map(struct reader *r, unsigned n, struct value *v)
{
	if (n > r->left)
		return -1;
	r->begun = true;
	return set_other(v);
}

static inline int on_map_item(struct reader *r, struct value *map, struct value key, struct value value)
{
	(void)r, (void)map, (void)key, (void)value;
	return 0;
}

#include <msgpack/unpack_template.h>

/* One value at the start of @in. Return: true, and @ret and @ret_used are set. */
static bool parse_value(struct reader *r, struct span in, struct value *ret, size_t *ret_used)
{
	struct parse_context ctx;
	size_t off = 0;

	ctx.user = *r;
	ctx.user.left = in.len;
	parse_init(&ctx);
	if (in.len == 0)
		return false;
	if (parse_execute(&ctx, in.p, in.len, &off) <= 0) {
		*r = ctx.user;
		return false;
	}
	*r = ctx.user;
	*ret = parse_data(&ctx);
	*ret_used = off;
	return true;
}

static bool str_first(struct span list, struct span *ret, size_t *ret_used)
{
	struct reader r = { .field = NULL };
	struct value v;

	if (!parse_value(&r, list, &v, ret_used) || v.kind != VALUE_STR)
		return false;
	*ret = v.bytes;
	return true;
}

static struct span span_after(struct span s, size_t used)
{
	return SPAN((const char *)s.p + used, s.len - used);
}

/* How long the head of an array of at least one value is; 0: it is none. */
static size_t array_head(struct span in)
{
	uint8_t first = in.len ? *(const uint8_t *)in.p : 0;

	if (first > 0x90 && first <= 0x9f)
		return 1;
	return first == 0xdc ? 3 : first == 0xdd ? 5 : 0;
}

int msg_number(struct span payload, uint64_t *ret)
{
	struct reader r = { .field = NULL };
	size_t head = array_head(payload), used;
	struct value v;

	if (!head || head >= payload.len || !parse_value(&r, span_after(payload, head), &v, &used) ||
	    v.kind != VALUE_UINT)
		return -EBADMSG;
	*ret = v.num;
	return 0;
}

static bool strv_check(struct span list, uint64_t max)
{
	uint64_t n = 0;
	struct span s;
	size_t used;

	for (; list.len; list = span_after(list, used))
		if (++n > max || !str_first(list, &s, &used) || span_has_nul(s))
			return false;
	return true;
}

static bool recs_check(struct span list, unsigned type, const char **ret_bad)
{
	union any_message scratch;
	size_t used;

	for (; list.len; list = span_after(list, used))
		if (decode(type, list, &used, &scratch, ret_bad) < 0)
			return false;
	return true;
}

static int decode(unsigned type, struct span in, size_t *ret_used, void *ret, const char **ret_bad)
{
	const struct desc *d = desc_of(type);
	union any_message m;
	struct reader r;
	struct value v;

	if (!d)
		return -EBADMSG;
	memset(&m, 0, sizeof(m));
	r = (struct reader){ .field = d->fields, .at = (char *)&m };
	if (!parse_value(&r, in, &v, ret_used) || v.kind != VALUE_PAYLOAD) {
		*ret_bad = r.bad;
		return -EBADMSG;
	}
	memcpy(ret, &m, d->size);
	return 0;
}

int msg_decode(enum msg_type type, struct span payload, void *ret, struct err *e)
{
	const char *bad = NULL;
	union any_message m;
	size_t used;

	if (!desc_of(type))
		return err_set(e, -EBADMSG, "bad-message", "there is no message of type %u", (unsigned)type);
	if (decode(type, payload, &used, &m, &bad) < 0)
		return err_set(e, -EBADMSG, "bad-message", "%s: %s%s", msg_name(type),
			       bad ? "wrong value of " : "not a whole array of plain values", bad ? bad : "");
	if (used != payload.len)
		return err_set(e, -EBADMSG, "bad-message", "%s: bytes behind the message", msg_name(type));
	memcpy(ret, &m, descs[type].size);
	return 0;
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

static int pack_write(void *to, const char *p, size_t len)
{
	return buf_append(to, p, len);
}

static int pack_bytes(msgpack_packer *pk, enum kind kind, struct span s)
{
	int r = kind == KIND_STR ? msgpack_pack_str(pk, s.len) : msgpack_pack_bin(pk, s.len);

	if (r == 0 && s.len)
		r = kind == KIND_STR ? msgpack_pack_str_body(pk, s.p, s.len) : msgpack_pack_bin_body(pk, s.p, s.len);
	return r;
}

static int field_encode(msgpack_packer *pk, const struct field *f, const char *at)
{
	const char *bad = NULL;
	struct value v = { .kind = VALUE_BIN };

	if (f->kind == KIND_U64 || f->kind == KIND_I64) {
		memcpy(&v.num, at, sizeof(v.num));
		if (f->kind == KIND_I64)
			return msgpack_pack_int64(pk, (int64_t)v.num);
		return v.num > f->max ? -EINVAL : msgpack_pack_uint64(pk, v.num);
	}
	memcpy(&v.bytes, at, sizeof(v.bytes));
	if (f->kind == KIND_STR)
		v.kind = VALUE_STR;
	if (v.bytes.len > UINT32_MAX || !value_fits(f, &v, &bad))
		return -EINVAL;
	return pack_bytes(pk, f->kind, v.bytes);
}

int msg_encode(struct buf *b, enum msg_type type, const void *m)
{
	const struct desc *d = desc_of(type);
	size_t before = buf_len(b), n = 0;
	bool failed = b->failed;
	const struct field *f;
	const char *at = m;
	msgpack_packer pk;
	int r;

	if (!d)
		return -EINVAL;
	while (d->fields[n].kind != KIND_END)
		n++;
	msgpack_packer_init(&pk, b, pack_write);
	r = msgpack_pack_array(&pk, n);
	for (f = d->fields; r == 0 && f->kind != KIND_END; f++) {
		r = field_encode(&pk, f, at);
		at += width(f->kind);
	}
	if (r < 0) { /* leave it as it was */
		b->end = b->start + before;
		b->failed = failed;
	}
	return r;
}

/* --- lists ------------------------------------------------------------------------------------------------------- */

void msg_list_init(struct msg_list *l, size_t limit)
{
	buf_init(&l->b, limit);
	l->n = 0;
}

void msg_list_fini(struct msg_list *l)
{
	buf_fini(&l->b);
	l->n = 0;
}

int msg_list_str(struct msg_list *l, struct span s)
{
	size_t before = buf_len(&l->b);
	msgpack_packer pk;
	int r;

	if (s.len > UINT32_MAX || span_has_nul(s))
		return -EINVAL;
	msgpack_packer_init(&pk, &l->b, pack_write);
	r = pack_bytes(&pk, KIND_STR, s);
	if (r < 0)
		l->b.end = l->b.start + before;
	else
		l->n++;
	return r;
}

int msg_list_rec(struct msg_list *l, enum msg_type type, const void *rec)
{
	int r = (unsigned)type < RECORD_MIN ? -EINVAL : msg_encode(&l->b, type, rec);

	if (r == 0)
		l->n++;
	return r;
}

struct span msg_list_span(const struct msg_list *l)
{
	return buf_span(&l->b);
}

bool msg_strv_next(struct span *list, struct span *ret)
{
	size_t used;

	if (!list->len || !str_first(*list, ret, &used))
		return false;
	*list = span_after(*list, used);
	return true;
}

size_t msg_strv_len(struct span list)
{
	struct span s;
	size_t n = 0;

	while (msg_strv_next(&list, &s))
		n++;
	return n;
}

bool msg_rec_next(struct span *list, enum msg_type type, void *ret)
{
	const char *bad = NULL;
	size_t used;

	if (!list->len || decode(type, *list, &used, ret, &bad) < 0)
		return false;
	*list = span_after(*list, used);
	return true;
}

/* --- for people -------------------------------------------------------------------------------------------------- */

enum { DUMP_DATA_MAX = 64, DUMP_LIST_MAX = 16 };

static void dump_bytes(struct buf *b, struct span s)
{
	const unsigned char *p = s.p;
	size_t i;

	(void)buf_append(b, "\"", 1);
	for (i = 0; i < s.len && i < DUMP_DATA_MAX; i++) {
		if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\')
			(void)buf_append(b, &p[i], 1);
		else
			(void)buf_printf(b, "\\x%02x", p[i]);
	}
	(void)buf_append(b, "\"", 1);
	if (s.len > DUMP_DATA_MAX)
		(void)buf_printf(b, "…(%zu)", s.len);
}

static void dump_fields(struct buf *b, const struct desc *d, const void *m);

static void dump_list(struct buf *b, const struct field *f, struct span list)
{
	union any_message rec;
	struct span s;
	size_t n = 0;

	(void)buf_append(b, "[", 1);
	for (; list.len; n++) {
		if (f->kind == KIND_STRV ? !msg_strv_next(&list, &s) : !msg_rec_next(&list, f->record, &rec))
			break;
		if (n >= DUMP_LIST_MAX)
			continue;
		(void)buf_append(b, ",", n ? 1 : 0);
		if (f->kind == KIND_STRV) {
			dump_bytes(b, s);
			continue;
		}
		(void)buf_append(b, "{", 1);
		dump_fields(b, &descs[f->record], &rec);
		(void)buf_append(b, "}", 1);
	}
	(void)buf_append(b, "]", 1);
	if (n > DUMP_LIST_MAX)
		(void)buf_printf(b, "(%zu)", n);
}

static void dump_fields(struct buf *b, const struct desc *d, const void *m)
{
	const struct field *f;
	const char *at = m;
	struct value v = { .kind = VALUE_OTHER };

	for (f = d->fields; f->kind != KIND_END; at += width(f->kind), f++) {
		(void)buf_printf(b, "%s%s=", f == d->fields ? "" : " ", f->name);
		if (f->kind == KIND_U64 || f->kind == KIND_I64)
			memcpy(&v.num, at, sizeof(v.num));
		else
			memcpy(&v.bytes, at, sizeof(v.bytes));
		if (f->kind == KIND_U64)
			(void)buf_printf(b, "%" PRIu64, v.num);
		else if (f->kind == KIND_I64)
			(void)buf_printf(b, "%" PRId64, (int64_t)v.num);
		else if (f->kind == KIND_STRV || f->kind == KIND_RECS)
			dump_list(b, f, v.bytes);
		else if (strcmp(f->name, "token") == 0)
			(void)buf_printf(b, "(%zu)", v.bytes.len);
		else
			dump_bytes(b, v.bytes);
	}
}

void msg_dump(struct buf *b, unsigned type, struct span payload)
{
	const struct desc *d = desc_of(type);
	struct err e = ERR_NULL;
	union any_message m;

	if (!d || msg_decode(type, payload, &m, &e) < 0) {
		(void)buf_printf(b, "%s undecodable (%zu bytes): %s", d ? d->name : "?", payload.len,
				 d ? e.text : "unknown type");
		return;
	}
	(void)buf_append(b, d->name, strlen(d->name));
	if (d->fields[0].kind != KIND_END)
		(void)buf_append(b, " ", 1);
	dump_fields(b, d, &m);
}
