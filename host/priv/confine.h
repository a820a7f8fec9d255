/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_CONFINE_H
#define HOST_PRIV_CONFINE_H

/* Giving everything up. */
#include "base/err.h"

#include <sys/types.h>

/** confine_account() - the same without the filter, for a program that is started next and sets it itself; what it is
 * to be not dumpable by is lost with that start. */
int confine_account(uid_t uid, gid_t gid, struct err *e) MUST_CHECK;
/** confine_self() - become @uid and @gid for good: no groups, no capabilities, no_new_privs, not dumpable, no core
 * files, and the filter of seccomp.h. Call with one thread. Return: 0 or -errno; after a failure the caller must end.
 */
int confine_self(uid_t uid, gid_t gid, struct err *e) MUST_CHECK;

#endif
