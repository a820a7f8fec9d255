/* SPDX-License-Identifier: Apache-2.0 */
/* A child writes to a store and says over a pipe what it was told is durable; it is killed at some moment. Built with
 * LOSE, what was not synced then is lost or not, page by page (lib/lose-io.h). */
#ifndef TESTS_UNIT_STORE_DIE_H
#define TESTS_UNIT_STORE_DIE_H

#include "store-lib.h"

#include "base/io.h"
#include "host/store/back.h"
#ifdef LOSE
#include "lib/lose-io.h"
#endif

#include <signal.h>
#include <sys/wait.h>

/* The life of the machine, which ends when what was not synced is lost. */
static uint32_t boot_number;

void back_boot(uint8_t to[BACK_BOOT_B])
{
	memset(to, 0, BACK_BOOT_B);
	memcpy(to, &boot_number, sizeof(boot_number));
}

#ifdef LOSE
static char log_path[128];
static long lost;
#endif

/* In the child: the store at @dir. */
static inline int die_open(struct place *p, const char *dir)
{
	snprintf(p->dir, sizeof(p->dir), "%s", dir);
#ifdef LOSE
	snprintf(log_path, sizeof(log_path), "%s.log", dir);
	lose_begin(dir, log_path);
#endif
	return place_open(p, 1 << 30);
}

/* Never returns; writes words to @out. */
typedef void die_fn(const char *dir, uint64_t from, int out);

/* It is killed after some words, at a moment that moves through the writing of the next one. @words, of @size bytes
 * each, has @len of them. Return: how many there are now. */
static inline size_t die_round(const struct place *p, int round, die_fn *fn, uint64_t from, void *words, size_t size,
			       size_t len)
{
	int pipefd[2], status, left = round * 13 % 11;
	useconds_t spin = (useconds_t)(round * 7919 % 3000);
	uint8_t *to = words;
	pid_t pid;

	cr_assert_eq(pipe(pipefd), 0);
	pid = fork();
	if (pid == 0) {
		close(pipefd[0]);
		fn(p->dir, from, pipefd[1]);
	}
	close(pipefd[1]);
	while (left-- > 0 && io_read_full(pipefd[0], to + len * size, size) == 0)
		len++;
	usleep(spin);
	kill(pid, SIGKILL);
	while (io_read_full(pipefd[0], to + len * size, size) == 0)
		len++;
	close(pipefd[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status), "the child left with %d", WEXITSTATUS(status));
#ifdef LOSE
	long now;

	snprintf(log_path, sizeof(log_path), "%s.log", p->dir);
	now = lose_apply(log_path, (uint64_t)round);
	cr_assert_geq(now, 0);
	lost += now;
	boot_number++;
	unlink(log_path);
#endif
	return len;
}

#endif
