/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_ACCOUNT_H
#define GUEST_ACCOUNT_H

/* Users of the sandbox, from its own /etc/passwd and /etc/group, read by us: a static program must not load NSS. */
#include "base/err.h"

#include <sys/types.h>

enum { ACCOUNT_GROUPS_MAX = 64 };

struct account {
	uid_t uid;
	gid_t gid;
	char name[65], home[1024], shell[256];
	gid_t groups[ACCOUNT_GROUPS_MAX];
	size_t n_groups;
};

/** account_find() - by name or number; "" is "user" if there is such an account, else root. A number without an account
 * is taken as it is. Return: 0; -ENOENT with slug "unknown-user". */
int account_find(const char *who, struct account *ret, struct err *e) MUST_CHECK;
/** account_names() - how a file's owner and group are called; the number when nothing is. */
void account_names(uid_t uid, gid_t gid, char owner[65], char group[65]);

#endif
