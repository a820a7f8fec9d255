/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record of the log: kind, path, and for a write one page before it: its number, how long the file was, its bytes. A
 * write on a descriptor with O_DSYNC or O_SYNC is durable at once: its pages are noted as synced. A record of a write
 * comes before it, one of a sync behind it, so that a death between the two loses too little, never too much.
 *
 * What a page may be after the loss: what it was before any of the writes since its last sync, or what it is now. A
 * file that has grown since may be as short as it was.
 */
#include "lose-io.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, KIND_PAGE = 1, KIND_SYNC = 2, KIND_DURABLE = 3, NAME_MAX_B = 256 };

struct record {
	uint32_t kind;
	char path[NAME_MAX_B];
	uint64_t page, size;
	uint8_t old[PAGE];
};

static char below[PATH_MAX];
static int log_fd = -1;
static bool lies;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void lose_begin(const char *dir, const char *log)
{
	snprintf(below, sizeof(below), "%s/", dir);
	log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
}

void lose_lies(void)
{
	lies = true;
}

static bool is_ours(int fd, char path[NAME_MAX_B])
{
	char link[64], target[PATH_MAX];
	ssize_t n;

	if (log_fd < 0 || fd == log_fd)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0 || n >= NAME_MAX_B)
		return false;
	target[n] = '\0';
	if (strncmp(target, below, strlen(below)) != 0)
		return false;
	snprintf(path, NAME_MAX_B, "%.*s", (int)n, target);
	return true;
}

static void note(const struct record *r)
{
	if (REAL(write)(log_fd, r, sizeof(*r)) != (ssize_t)sizeof(*r))
		_exit(97);
}

static void before_write(int fd, uint64_t at, size_t len)
{
	int saved = errno, flags = fcntl(fd, F_GETFL), reader;
	static __thread struct record r;
	struct stat st;
	uint64_t page;

	memset(&r, 0, sizeof(r));
	if (!len || !is_ours(fd, r.path)) {
		errno = saved;
		return;
	}
	reader = open(r.path, O_RDONLY | O_CLOEXEC);
	if (reader < 0 || fstat(reader, &st) < 0)
		_exit(98);
	r.kind = (flags & O_DSYNC) && !lies ? KIND_DURABLE : KIND_PAGE;
	r.size = (uint64_t)st.st_size;
	pthread_mutex_lock(&lock);
	for (page = at / PAGE; page <= (at + len - 1) / PAGE; page++) {
		r.page = page;
		memset(r.old, 0, PAGE);
		if (pread(reader, r.old, PAGE, (off_t)(page * PAGE)) < 0)
			_exit(99);
		note(&r);
	}
	pthread_mutex_unlock(&lock);
	close(reader);
	errno = saved;
}

static int synced(int fd, int result)
{
	static __thread struct record r;
	int saved = errno;

	memset(&r, 0, sizeof(r));
	if (result == 0 && !lies && is_ours(fd, r.path)) {
		r.kind = KIND_SYNC;
		pthread_mutex_lock(&lock);
		note(&r);
		pthread_mutex_unlock(&lock);
	}
	errno = saved;
	return result;
}

static size_t total(const struct iovec *v, int n)
{
	size_t len = 0;

	while (n-- > 0)
		len += v[n].iov_len;
	return len;
}

static uint64_t place(int fd)
{
	return (uint64_t)lseek(fd, 0, SEEK_CUR);
}

ssize_t pwrite(int fd, const void *p, size_t len, off_t at)
{
	before_write(fd, (uint64_t)at, len);
	return REAL(pwrite)(fd, p, len, at);
}

ssize_t pwrite64(int fd, const void *p, size_t len, off64_t at)
{
	before_write(fd, (uint64_t)at, len);
	return REAL(pwrite64)(fd, p, len, at);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
	before_write(fd, (uint64_t)at, total(v, n));
	return REAL(pwritev)(fd, v, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
	before_write(fd, (uint64_t)at, total(v, n));
	return REAL(pwritev64)(fd, v, n, at);
}

ssize_t write(int fd, const void *p, size_t len)
{
	if (log_fd >= 0)
		before_write(fd, place(fd), len);
	return REAL(write)(fd, p, len);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	if (log_fd >= 0)
		before_write(fd, place(fd), total(v, n));
	return REAL(writev)(fd, v, n);
}

int fsync(int fd)
{
	return synced(fd, REAL(fsync)(fd));
}

int fdatasync(int fd)
{
	return synced(fd, REAL(fdatasync)(fd));
}

/* --- afterwards --------------------------------------------------------------------------------------------------- */

static uint64_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
}

static bool same_page(const struct record *a, const struct record *b)
{
	return a->page == b->page && strcmp(a->path, b->path) == 0;
}

/* Drop what a sync, or a durable write of the same page, has made safe. */
static size_t forget(struct record *v, size_t n, const struct record *by)
{
	size_t i, kept = 0;

	for (i = 0; i < n; i++) {
		bool safe = by->kind == KIND_SYNC ? strcmp(v[i].path, by->path) == 0 : same_page(&v[i], by);

		if (!safe && kept != i)
			v[kept] = v[i];
		kept += !safe;
	}
	return kept;
}

static int put_back(const struct record *r)
{
	int fd = open(r->path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : REAL(pwrite)(fd, r->old, PAGE, (off_t)(r->page * PAGE));

	if (fd >= 0)
		close(fd);
	return n == PAGE ? 0 : -1;
}

/* The shortest that a file may be: as long as it was at its first write that is not safe. */
static void maybe_shorten(const struct record *v, size_t n, uint64_t *seed)
{
	size_t i, k;

	for (i = 0; i < n; i++) {
		for (k = 0; k < i && strcmp(v[k].path, v[i].path) != 0;)
			k++;
		if (k == i && next(seed) % 3 == 0 && truncate(v[i].path, (off_t)v[i].size) < 0)
			_exit(96);
	}
}

long lose_apply(const char *log, uint64_t seed)
{
	struct record *v = NULL, r;
	size_t n = 0, cap = 0, i, k;
	FILE *f = fopen(log, "re");
	long lost = 0;

	if (!f)
		return errno == ENOENT ? 0 : -1; /* it did not get to write anything */
	while (fread(&r, sizeof(r), 1, f) == 1) {
		if (r.kind != KIND_PAGE) {
			n = forget(v, n, &r);
			continue;
		}
		if (n == cap) {
			cap = cap ? 2 * cap : 256;
			v = realloc(v, cap * sizeof(*v));
			if (!v)
				abort();
		}
		v[n++] = r;
	}
	fclose(f);
	seed = seed * 2 + 1;
	for (i = 0; i < n; i++) {
		size_t same = 0, choice;

		for (k = 0; k < i && !same_page(&v[k], &v[i]);)
			k++;
		if (k < i)
			continue; /* the page was decided at its first write */
		for (k = i; k < n; k++)
			same += same_page(&v[k], &v[i]);
		choice = next(&seed) % (same + 1); /* all of them: it stays as it is */
		for (k = i; k < n && choice < same; k++) {
			if (!same_page(&v[k], &v[i]) || choice--)
				continue;
			if (put_back(&v[k]) < 0)
				return -1;
			lost++;
			break;
		}
	}
	maybe_shorten(v, n, &seed);
	free(v);
	return lost;
}
