/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_SECCOMP_H
#define HOST_PRIV_SECCOMP_H

/* The door of libseccomp. The calls that the daemon may make are in daemon-calls.def. */
#include "base/err.h"

/** seccomp_confine() - install the daemon's filter on this process, its threads to come included. no_new_privs must be
 * set. A refused call fails with EPERM, one that the list does not know with ENOSYS. Return: 0; -ENOTSUP (the kernel
 * has no filters); -errno. */
int seccomp_confine(struct err *e) MUST_CHECK;
/** seccomp_confine_tool() - the same for a program that is started next and is not ours: no namespaces, mounts,
 * tracing, keys, bpf, io_uring; sockets of AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK alone. Return: as
 * seccomp_confine(). */
int seccomp_confine_tool(struct err *e) MUST_CHECK;

#endif
