/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_POLICY_H
#define HOST_API_POLICY_H

/* Parts of what a sandbox may reach, as JSON. */
#include "host/net/policy.h"
#include "json/json.h"

/** policy_put_entries() - the entries of lists, into the array that is open. */
void policy_put_entries(struct json_writer *w, const struct policy_list *l);
/** policy_put_proxy() - under @key; without its password. NULL: nothing. */
void policy_put_proxy(struct json_writer *w, const char *key, const struct policy_proxy *x);

#endif
