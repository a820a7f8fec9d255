/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_RULES_H
#define HOST_BROKER_RULES_H

/*
 * Rules of a sandbox: which headers are put on its requests to which host, docs/broker.md. As a text they are a JSON
 * object of hosts, {"api.example.com":{"headers":{"Authorization":"Bearer ${e2b.secrets.github}"}}}; with "off":true
 * the sandbox's network does not allow the host, with "led":true it has none, and only an operator's service that leads
 * rules to the host does. The daemon keeps the text and tells it to the broker; both read it here.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	RULES_MAX = 10, RULE_HEADERS_MAX = 20, RULE_NAME_MAX = 64, RULE_VALUE_MAX = 2048, RULE_SECRETS_MAX = 8,
	RULES_TEXT_MAX = 32 * 1024, RULE_FULL_MAX = 16 * 1024
};
#define RULES_SERVICE "rules" /* the name of the service that they are */

struct rule_header {
	char *name, *value; /* the value with "${e2b.secrets.NAME}" in it */
};

struct rule {
	char *host; /* with its port where it is not 443 */
	bool off, led;
	size_t n;
	struct rule_header v[RULE_HEADERS_MAX];
	size_t n_secrets;
	char *secret[RULE_SECRETS_MAX]; /* NAMEs that the values have in them, each once, in small letters */
};

/* All of a sandbox. */
struct rules {
	unsigned refs;
	size_t n;
	struct rule v[RULES_MAX];
};

/** rules_parse() - Return: 0; -EINVAL, slug "bad-rules", with what is wrong: also hosts that are patterns or addresses,
 * headers that would change what a request is, placeholders that nobody resolves. */
int rules_parse(struct span text, struct rules **ret, struct err *e) MUST_CHECK;
struct rules *rules_ref(struct rules *r);
void rules_unref(struct rules **slot);
/** rules_find() - borrowed; NULL: none names this host. */
const struct rule *rules_find(const struct rules *r, const char *host);

/** rule_piece() - the next piece of a value: *@ret is text, or with *@ret_secret the name in a placeholder, as it is
 * written. *@rest, which is the value at first, is moved on. Return: false: there is none. */
bool rule_piece(const char **rest, struct span *ret, bool *ret_secret);

#endif
