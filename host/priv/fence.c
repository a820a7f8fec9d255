/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar as root on an archive that a stranger made: it is careful about links and "..", but it need not be believed. The
 * bounding set keeps what owners, modes and attributes need; CAP_MKNOD is not in it, so a device node in the archive is
 * an error. Landlock then allows every change below the target directory and none elsewhere; files that are open
 * already are not affected. A kernel without it, or with its first version (which cannot link across directories), does
 * without.
 */
#include "host/priv/fence.h"

#include "base/io.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAPS_MAX = 64, LANDLOCK_REFERS = 2 };

static bool needed(int cap)
{
	static const int kept[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,
				   CAP_FOWNER, CAP_FSETID,	 CAP_SETFCAP};
	size_t i;

	for (i = 0; i < ARRAY_LEN(kept); i++)
		if (kept[i] == cap)
			return true;
	return false;
}

static int lower_bounding(void)
{
	int cap;

	for (cap = 0; cap < CAPS_MAX; cap++)
		if (!needed(cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -errno;
	return 0;
}

static int restrict_writes(int dirfd)
{
	const uint64_t writes = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
				LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
				LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
				LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER;
	struct landlock_ruleset_attr attr = {.handled_access_fs = writes};
	struct landlock_path_beneath_attr below = {.allowed_access = writes, .parent_fd = dirfd};
	AUTO(fd_close) int rules = -1;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < LANDLOCK_REFERS)
		return 0;
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules < 0 || syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return -errno;
	return 0;
}

int fence_unpacking(int dirfd, struct err *e)
{
	int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;

	if (r == 0)
		r = restrict_writes(dirfd);
	if (r == 0)
		r = lower_bounding();
	return r < 0 ? err_sys(e, r, "fencing the unpacking in") : 0;
}
