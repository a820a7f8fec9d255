/* SPDX-License-Identifier: Apache-2.0 */
#include "host/accounts.h"

#include "base/str.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>

enum { NOBODY = 65534 };

static int account(const char *name, uid_t *uid, gid_t *gid, struct err *e)
{
	struct passwd *pw = getpwnam(name);

	if (!pw)
		return err_set(e, -ENOENT, "no-account", "there is no account %s: useradd --system --no-create-home %s",
			       name, name);
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	return 0;
}

/* Nobody's account will do where there is none for it: it sees no processes and no files of anybody's. */
static void image_account(const struct conf *c, struct priv_conf *p)
{
	struct passwd *pw = getpwnam(c->image_user);

	if (!pw)
		pw = getpwnam("nobody");
	p->image_uid = pw && pw->pw_uid ? pw->pw_uid : NOBODY;
	p->image_gid = pw && pw->pw_gid ? pw->pw_gid : NOBODY;
}

int accounts_find(const struct conf *c, struct priv_conf *p, struct err *e)
{
	struct group *group;
	gid_t unused;
	int r = account(c->user, &p->uid, &p->gid, e);

	if (r == 0)
		r = account(c->guest_user, &p->guest_uid, &unused, e);
	if (r < 0)
		return r;
	group = getgrnam(c->group);
	if (!group)
		return err_set(e, -ENOENT, "no-account", "there is no group %s: groupadd --system %s", c->group,
			       c->group);
	p->guest_gid = group->gr_gid;
	if (p->uid == 0 || p->guest_uid == 0)
		return err_set(e, -EINVAL, "bad-config", "daemon.user and mount.owner must not be root");
	if (str_eq(c->image_tool, "auto"))
		image_account(c, p);
	return 0;
}
