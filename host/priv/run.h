/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_RUN_H
#define HOST_PRIV_RUN_H

/* Programs of the host, run with an argument vector, a clean environment and a deadline; never through a shell. */
#include "base/err.h"

#include <sys/types.h>

/** run_child() - for a forked child: default signals, an empty mask, everything above standard error close-on-exec. */
void run_child(void);
/** run_wait() - wait for the child @pid until @until (clock.h), kill it then.
 * Return: its exit status, 128 + signal, -ETIMEDOUT, -errno. */
int run_wait(pid_t pid, uint64_t until);
/** run_program() - run @argv (found on PATH), standard output and error to @out (-1: collected), and wait.
 * Return: 0 when it ended with 0; -ENOENT (no such program); -EIO with its last words in @e; -ETIMEDOUT; -errno. */
int run_program(const char *const *argv, int in, int out, uint64_t until, struct err *e) MUST_CHECK;
/** run_last_words() - the last line of the text in @fd (a memory file or file), printable, into @to. */
void run_last_words(int fd, char *to, size_t size);

#endif
