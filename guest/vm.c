/* SPDX-License-Identifier: Apache-2.0 */
/* What an init does before anything else, when there is no other init. A mount that is there already answers EBUSY. */
#include "guest/vm.h"

#include "base/err.h"
#include "base/log.h"
#include "base/own.h"

#include <stdbool.h>

#include <errno.h>
#include <sys/mount.h>
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
