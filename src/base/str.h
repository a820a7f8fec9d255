/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_STR_H
#define BASE_STR_H

/* Small helpers for C strings and numbers in text. */
#include "base/buf.h"

/** str_printf() - a formatted heap string, or abort. Free with str_free(). */
char *str_printf(const char *fmt, ...) PRINTF(1, 2);
/** str_eq() - equality of two C strings, either may be NULL (NULL equals NULL only). */
bool str_eq(const char *a, const char *b);
/** str_starts() - true when @s begins with @prefix. */
bool str_starts(const char *s, const char *prefix);
/** str_ends() - true when @s ends with @suffix. */
bool str_ends(const char *s, const char *suffix);
/** str_copy() - copy into a fixed field with a NUL. Return: 0, or -ENAMETOOLONG and @to is "". */
int str_copy(char *to, size_t size, const char *from);
/** str_is_id() - 1 to @max characters of [a-z0-9-], not starting or ending with '-': ids of sandboxes and templates. */
bool str_is_id(const char *s, size_t max);
/** str_hex() - @len bytes as 2*@len lower-case digits and a NUL at @to. */
void str_hex(const void *p, size_t len, char *to);
/** str_unhex() - the reverse: exactly 2*@len digits. Return: 0 or -EINVAL. */
int str_unhex(const char *hex, void *to, size_t len);

/** str_base64() - append @data in the standard alphabet, padded; 1 GB/s. It looks up tables, so how long it takes may
 * tell of the bytes: not for secrets (seal/digest.h has base64_put() for these, a tenth as fast). */
void str_base64(struct buf *to, struct span data);

/** strv_free() - destructor for a NULL-terminated array of heap strings. */
void strv_free(char ***slot);
/** strv_len() - entries before the NULL; 0 for NULL. */
size_t strv_len(char *const *v);

/** num_u64() - decimal digits only, whole string, at most @max. Return: 0, -EINVAL, -ERANGE. */
int num_u64(const char *s, uint64_t max, uint64_t *ret);
/** num_i64() - decimal with an optional minus, whole string. Return: 0, -EINVAL, -ERANGE. */
int num_i64(const char *s, int64_t *ret);
/** num_size() - bytes with an optional binary suffix K, M, G or T ("512M"). Return: 0, -EINVAL, -ERANGE. */
int num_size(const char *s, uint64_t *ret);
/** num_duration_ms() - "250ms", "30s", "10m", "2h", "1d", or bare seconds. Return: 0, -EINVAL, -ERANGE. */
int num_duration_ms(const char *s, uint64_t *ret);
/** num_add() - @a + @b into @ret; true when it overflows. */
static inline bool num_add(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_add_overflow(a, b, ret);
}

#endif
