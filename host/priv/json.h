/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_JSON_H
#define HOST_PRIV_JSON_H

/* Writing JSON for the runtime, and nothing else: commas and quotes. Failures stay in the buffer (buf.failed). */
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct json {
	struct buf *b; /* borrowed */
	bool comma;    /* something stands before in this object or array */
};

/* @key is NULL inside an array. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);
void json_str(struct json *j, const char *key, const char *value);
void json_num(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, bool value);
/** json_words() - an array of the words of @list, which are separated by single spaces. */
void json_words(struct json *j, const char *key, const char *list);

#endif
