/* SPDX-License-Identifier: Apache-2.0 */
/* One line of numbers. It is written beside and renamed, so that a reader sees all of it or the one before. */
#include "host/priv/record.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

int record_write(int dir, const struct record *rec)
{
	AUTO(fd_close) int fd = -1;
	char text[256];
	int r, n = snprintf(text, sizeof(text), "berth-box 1 %d %" PRIu64 " %u %u %d %d %" PRIu64 "\n", (int)rec->pid,
			    rec->start, rec->kind, rec->range, rec->loops[0], rec->loops[1], rec->template_ino);

	fd = openat(dir, ".record", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = io_write_full(fd, text, (size_t)n);
	if (r == 0 && renameat(dir, ".record", dir, "record") < 0)
		r = -errno;
	return r;
}

int record_read(int dir, struct record *ret)
{
	AUTO(buf_fini) struct buf b;
	struct record rec = RECORD_NULL;
	int r;

	buf_init(&b, 256);
	r = io_read_file(dir, "record", &b);
	if (r < 0)
		return r;
	r = sscanf(buf_str(&b), "berth-box 1 %d %" SCNu64 " %u %u %d %d %" SCNu64, &rec.pid, &rec.start, &rec.kind,
		   &rec.range, &rec.loops[0], &rec.loops[1], &rec.template_ino);
	if (r != 7)
		return -EINVAL;
	*ret = rec;
	return 0;
}

int record_start_time(pid_t pid, uint64_t *ret)
{
	AUTO(buf_fini) struct buf b;
	char path[40];
	const char *p;
	int r, field;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	buf_init(&b, 4096);
	r = io_read_file(AT_FDCWD, path, &b);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	/* The name may hold anything, blanks and brackets included; it ends at the last bracket. */
	p = strrchr(buf_str(&b), ')');
	for (field = 2; p && field < 22; field++) {
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	if (!p)
		return -EINVAL;
	*ret = strtoull(p, NULL, 10);
	return 0;
}
