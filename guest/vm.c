/* SPDX-License-Identifier: Apache-2.0 */
/* What an init does before anything else, when there is no other init. A mount that is there already answers EBUSY. */
#include "guest/vm.h"

#include "base/err.h"
#include "base/log.h"
#include "base/own.h"

#include <stdbool.h>

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *type, *at, *data;
	unsigned long flags;
} mounts[] = {
	{ "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "devtmpfs", "/dev", "mode=0755", MS_NOSUID },
	{ "devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC },
	{ "tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV },
	{ "tmpfs", "/run", "mode=0755", MS_NOSUID | MS_NODEV },
};

/* Mounted already: the directory is on another device than its parent. */
static bool is_mounted(const char *at)
{
	char up[64];
	struct stat a, b;
	size_t i;

	for (i = 0; at[i] && i < sizeof(up) - 4; i++)
		up[i] = at[i];
	up[i] = '/', up[i + 1] = '.', up[i + 2] = '.', up[i + 3] = '\0';
	return stat(at, &a) == 0 && stat(up, &b) == 0 && a.st_dev != b.st_dev;
}

void vm_init(void)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(mounts); i++) {
		mkdir(mounts[i].at, 0755);
		if (is_mounted(mounts[i].at))
			continue;
		if (mount(mounts[i].type, mounts[i].at, mounts[i].type, mounts[i].flags, mounts[i].data) < 0 &&
		    errno != EBUSY)
			log_warn("vm", "cannot mount", "at=%s errno=%s", mounts[i].at, err_name(errno));
	}
	(void)!symlink("/proc/self/fd", "/dev/fd");
	(void)!symlink("pts/ptmx", "/dev/ptmx");
}

/* A difference as small as this is how long the message was under way. */
enum { CLOCK_OFF_MS = 500, ENTROPY_MAX = 64 };

void vm_clock(bool ours, int64_t wall_ns)
{
	int64_t off_ms = (wall_ns - clock_wall()) / 1000000;
	struct timespec ts = clock_timespec(wall_ns);

	if (wall_ns <= 0 || (off_ms > -CLOCK_OFF_MS && off_ms < CLOCK_OFF_MS))
		return;
	if (!ours)
		log_info("vm", "the clock differs from the host's, and is not ours to set", "ms=%lld",
			 (long long)off_ms);
	else if (clock_settime(CLOCK_REALTIME, &ts) < 0)
		log_warn("vm", "the clock cannot be set", "errno=%s", err_name(errno));
	else
		log_info("vm", "the clock was set", "ms=%lld", (long long)off_ms);
}

void vm_entropy(bool ours, struct span bytes)
{
	int give[2 + ENTROPY_MAX / sizeof(int)] = { 0 }; /* struct rand_pool_info: bits, bytes, and these */
	int fd;

	if (!bytes.len || bytes.len > ENTROPY_MAX)
		return;
	fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	give[0] = (int)bytes.len * 8;
	give[1] = (int)bytes.len;
	memcpy(&give[2], bytes.p, bytes.len);
	/* Written only, they are mixed in but not counted: in a container that is all that is allowed, and all that is
	 * needed, for the pool is the host's. */
	if (!ours || ioctl(fd, RNDADDENTROPY, give) < 0)
		(void)!write(fd, bytes.p, bytes.len);
	close(fd);
}
