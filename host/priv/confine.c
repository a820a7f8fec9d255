/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order matters: the bounding set can only be lowered with CAP_SETPCAP, groups only with CAP_SETGID, so those go
 * before the change of user; the change of user empties the capability sets unless somebody set a securebit, so they
 * are emptied once more by hand and then read back. The filter comes last, since it refuses most of what stands above
 * it.
 */
#include "host/priv/confine.h"

#include "host/priv/seccomp.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAPS_MAX = 64 };

static int drop_bounding(void)
{
	int cap;

	for (cap = 0; cap < CAPS_MAX; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
			continue;
		return errno == EINVAL ? 0 : -errno; /* past the last capability of this kernel */
	}
	return 0;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{.effective = 0}}, now[2];

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &head, none) < 0)
		return -errno;
	if (syscall(SYS_capget, &head, now) < 0)
		return -errno;
	if (now[0].permitted | now[1].permitted | now[0].effective | now[1].effective | now[0].inheritable |
	    now[1].inheritable)
		return -EPERM;
	return 0;
}

static int change_user(uid_t uid, gid_t gid)
{
	uid_t u[3];
	gid_t g[3];

	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	if (getresuid(&u[0], &u[1], &u[2]) < 0 || getresgid(&g[0], &g[1], &g[2]) < 0)
		return -errno;
	if (u[0] != uid || u[1] != uid || u[2] != uid || g[0] != gid || g[1] != gid || g[2] != gid)
		return -EPERM;
	return 0;
}

int confine_account(uid_t uid, gid_t gid, struct err *e)
{
	const struct rlimit none = {0, 0};
	int r = drop_bounding();

	if (r < 0)
		return err_sys(e, r, "lowering the bounding set");
	r = change_user(uid, gid);
	if (r < 0)
		return err_sys(e, r, "becoming user %u", uid);
	r = drop_capabilities();
	if (r < 0)
		return err_sys(e, r, "giving up capabilities");
	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, -errno, "switching core files off");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, -errno, "no_new_privs");
	return 0;
}

int confine_self(uid_t uid, gid_t gid, struct err *e)
{
	int r = confine_account(uid, gid, e);

	return r < 0 ? r : seccomp_confine(e);
}
