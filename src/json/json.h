/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JSON_JSON_H
#define JSON_JSON_H

/*
 * JSON: reading (jansson's only home) and writing (ours, into a buf). Texts of guests may hold any bytes: what is no
 * valid UTF-8 is written as U+FFFD, so that the output is always JSON.
 */
#include "base/buf.h"
#include "base/err.h"

struct json;

/** json_wipes() - for a program that reads what nobody else may see, before its first: what is given back is zeroed.
 * Not for a library, whose program may have a jansson of its own mind. */
void json_wipes(void);
/** json_parse() - one value and nothing behind it; at most 64 levels deep. Return: 0; -EINVAL slug "bad-json" with the
 * line and what is wrong. */
int json_parse(struct span text, struct json **ret, struct err *e) MUST_CHECK;
void json_free(struct json **j);

/* Members of an object; NULL or @otherwise when it is absent. Wrong types are found with json_check(). Borrowed. */
const char *json_get_str(const struct json *j, const char *key, const char *otherwise);
uint64_t json_get_u64(const struct json *j, const char *key, uint64_t otherwise);
int64_t json_get_i64(const struct json *j, const char *key, int64_t otherwise);
bool json_get_bool(const struct json *j, const char *key, bool otherwise);
const struct json *json_get(const struct json *j, const char *key);
/** json_len() / json_at() - of an array; 0 / NULL for anything else. */
size_t json_len(const struct json *j);
const struct json *json_at(const struct json *j, size_t i);
/** json_is_empty() - nothing, null, an empty object or array. */
bool json_is_empty(const struct json *j);
/** json_object_b() - how long an object is, written without blanks; 0: it is none. */
size_t json_object_b(const struct json *j);
/** json_text() - the string that a value is, NULL when it is none. */
const char *json_text(const struct json *j);
/** json_number() - the number that a value is, when it is a whole one that is not negative; else @otherwise. */
uint64_t json_number(const struct json *j, uint64_t otherwise);
/** json_each() - members of an object in order of keys; stops when @fn returns non-zero and returns that. */
int json_each(const struct json *j, int (*fn)(void *ctx, const char *key, const struct json *value), void *ctx);

/**
 * json_check() - hold an object against a list of what may be in it
 * @spec: "name:s size:u argv:as env:os flag:b": s string, u unsigned, b boolean, as array of strings, os object of
 * strings, ao array of objects. Unknown members and wrong types are errors that name the member.
 * Return: 0; -EINVAL slug "bad-request".
 */
int json_check(const struct json *j, const char *spec, struct err *e) MUST_CHECK;

/* Writing: values one after the other; commas are put by themselves. Errors stick in the buf. */
struct json_writer {
	struct buf *b;
	bool comma;
};

void jw_open(struct json_writer *w, char bracket);	 /* '{' or '[' */
void jw_close(struct json_writer *w, char bracket);	 /* '}' or ']' */
void jw_key(struct json_writer *w, const char *key);
void jw_str(struct json_writer *w, struct span s);
void jw_u64(struct json_writer *w, uint64_t v);
void jw_i64(struct json_writer *w, int64_t v);
void jw_bool(struct json_writer *w, bool v);
/** jw_raw() - a value that is JSON already. */
void jw_raw(struct json_writer *w, struct span json);
/** json_is_text() - whether bytes are valid UTF-8, so that jw_str() writes them as they are. */
bool json_is_text(struct span s);
/** jw_khex() - a member "@key_hex" with bytes as hexadecimal digits, when they are no text; else nothing. */
void jw_khex(struct json_writer *w, const char *key, struct span s);
static inline void jw_kstr(struct json_writer *w, const char *key, const char *s)
{
	jw_key(w, key);
	jw_str(w, span_str(s));
}
static inline void jw_ku64(struct json_writer *w, const char *key, uint64_t v)
{
	jw_key(w, key);
	jw_u64(w, v);
}

#endif
