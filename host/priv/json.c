/* SPDX-License-Identifier: Apache-2.0 */
/* A writer without a tree: the nesting is that of the calls. Strings may hold any bytes; the runtime reads UTF-8. */
#include "host/priv/json.h"

static void put(struct json *j, const char *text)
{
	(void)!buf_append(j->b, text, strlen(text));
}

static void quote(struct json *j, const char *s)
{
	put(j, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			put(j, "\\");
		if ((unsigned char)*s < 0x20)
			(void)!buf_printf(j->b, "\\u%04x", (unsigned)(unsigned char)*s);
		else
			(void)!buf_append(j->b, s, 1);
	}
	put(j, "\"");
}

static void item(struct json *j, const char *key)
{
	if (j->comma)
		put(j, ",");
	j->comma = true;
	if (key) {
		quote(j, key);
		put(j, ":");
	}
}

void json_open(struct json *j, const char *key, char bracket)
{
	item(j, key);
	(void)!buf_append(j->b, &bracket, 1);
	j->comma = false;
}

void json_close(struct json *j, char bracket)
{
	(void)!buf_append(j->b, &bracket, 1);
	j->comma = true;
}

void json_str(struct json *j, const char *key, const char *value)
{
	item(j, key);
	quote(j, value);
}

void json_num(struct json *j, const char *key, int64_t value)
{
	item(j, key);
	(void)!buf_printf(j->b, "%lld", (long long)value);
}

void json_bool(struct json *j, const char *key, bool value)
{
	item(j, key);
	put(j, value ? "true" : "false");
}

void json_words(struct json *j, const char *key, const char *list)
{
	json_open(j, key, '[');
	while (*list) {
		size_t n = strcspn(list, " ");
		char word[128];

		if (n > 0 && n < sizeof(word)) {
			memcpy(word, list, n);
			word[n] = '\0';
			json_str(j, NULL, word);
		}
		list += n;
		list += *list == ' ';
	}
	json_close(j, ']');
}
