/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_RULES_H
#define HOST_PRIV_RULES_H

/*
 * The packet filter: the table of the router, through which everything of all sandboxes goes, and the small one of the
 * host. Texts in nft's language, made of our own constants, numbers and addresses. An object belongs to the network
 * namespace in which it was made. docs/network.md has the tables in words.
 */
#include "host/priv/priv.h"

struct rules;

#define RULES_UPLINK "up0" /* the router's link to the world */
#define RULES_HOME "s" /* and a number: its link to a sandbox */

/** rules_open() - for the present network namespace. Return: 0; -ENOSYS slug "no-nft". */
int rules_open(struct rules **ret, struct err *e) MUST_CHECK;
void rules_close(struct rules **rules);
/** rules_router() - load the router's table; what an earlier one holds of sandboxes stays. Ranges of @may lie behind
 * the fence and can be allowed. Return: 0 or -errno. */
int rules_router(struct rules *rules, const struct priv_prefix *may, size_t n, struct err *e) MUST_CHECK;
/** rules_host() - load the table @name of the host, whose link to the router is @link with the addresses of place @at.
 */
int rules_host(struct rules *rules, const char *name, const char *link, uint32_t at, struct err *e) MUST_CHECK;
/** rules_drop() - take a table away; 0 also when there is none. */
int rules_drop(struct rules *rules, const char *name) MUST_CHECK;
/** rules_change() - @now (NULL: nothing) in place of @was (NULL: nothing) of the same sandbox, in one step. */
int rules_change(struct rules *rules, const struct priv_net_policy *was, const struct priv_net_policy *now,
		 struct err *e) MUST_CHECK;
/** rules_settle() - in one step: exactly these @n, whatever was there. */
int rules_settle(struct rules *rules, struct priv_net_policy *const *v, size_t n, struct err *e) MUST_CHECK;
/** rules_names() - addresses that were told for names of the sandbox with @tag. */
int rules_names(struct rules *rules, uint32_t tag, uint32_t life_s, const struct priv_prefix *v, size_t n,
		struct err *e) MUST_CHECK;
/** rules_own() - addresses of the host, which no sandbox reaches, instead of those before. */
int rules_own(struct rules *rules, const struct priv_prefix *v, size_t n, struct err *e) MUST_CHECK;
/** rules_blocked() - does another table of this namespace drop what is forwarded? Its name in @to. */
bool rules_blocked(struct rules *rules, char *to, size_t size);

#endif
