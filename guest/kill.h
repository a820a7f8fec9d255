/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_KILL_H
#define GUEST_KILL_H

/* Signals to more than one process, and the mark by which those are known that descend from one. */
#include <stdint.h>
#include <sys/types.h>

/** kill_session() - to every process of a session, whatever group it is in. */
void kill_session(pid_t session, int sig);
/** kill_tree() - to everything that descends from what was started with @tag: its hard limit RLIMIT_RTTIME, which every
 * child inherits and nobody unprivileged can raise; also to the rest of the session. SIGKILL is repeated until nothing
 * of it is left. Return: how many processes got it. */
unsigned kill_tree(uint64_t tag, pid_t session, int sig);
/** tag_of() - the mark that a process was started with; 0 or more than any mark: none, or it is gone. */
uint64_t tag_of(pid_t pid);
/** kill_all() - to every process of the sandbox but ourselves: all of the namespace when we are its first process, else
 * our descendants' sessions and orphans that came to us. */
void kill_all(int sig);

#endif
