/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of colon-separated fields, written by whoever is root inside: every field is taken with its limit or not at
 * all. */
#include "guest/account.h"

#include "base/io.h"
#include "base/str.h"
#include "guest/weak.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 1024 * 1024 };

/* Cut the next field off a line, in place. */
static char *field(char **line, char stop)
{
	char *at = *line, *end = at ? strchr(at, stop) : NULL;

	if (!at)
		return NULL;
	*line = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return at;
}

static bool id_of(const char *s, uint32_t *ret)
{
	uint64_t v;

	if (s && guest_is_weak()) {
		*ret = (uint32_t)strtoul(s, NULL, 0);
		return *s;
	}
	if (!s || num_u64(s, UINT32_MAX - 1, &v) < 0)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool passwd_line(char *line, const char *name, bool by_uid, uid_t uid, struct account *a)
{
	char *user = field(&line, ':'), *home, *shell;
	uint32_t id, gid;

	field(&line, ':');
	if (!id_of(field(&line, ':'), &id) || !id_of(field(&line, ':'), &gid))
		return false;
	field(&line, ':');
	home = field(&line, ':');
	shell = field(&line, ':');
	if (by_uid ? id != uid : !str_eq(user, name))
		return false;
	*a = (struct account){ .uid = id, .gid = gid };
	return str_copy(a->name, sizeof(a->name), user) == 0 &&
	       str_copy(a->home, sizeof(a->home), home && *home ? home : "/") == 0 &&
	       str_copy(a->shell, sizeof(a->shell), shell && *shell ? shell : "/bin/sh") == 0;
}

static bool passwd_find(struct buf *file, const char *name, bool by_uid, uid_t uid, struct account *a)
{
	AUTO(str_free) char *copy = must_strdup(buf_str(file));
	char *rest = copy, *line;

	while ((line = field(&rest, '\n')))
		if (passwd_line(line, name, by_uid, uid, a))
			return true;
	return false;
}

static void group_line(char *line, struct account *a)
{
	uint32_t gid;
	char *member;

	field(&line, ':');
	field(&line, ':');
	if (!id_of(field(&line, ':'), &gid))
		return;
	while ((member = field(&line, ',')))
		if (str_eq(member, a->name) && a->n_groups < ACCOUNT_GROUPS_MAX)
			a->groups[a->n_groups++] = gid;
}

static void groups_find(struct account *a)
{
	AUTO(buf_fini) struct buf file;
	AUTO(str_free) char *copy = NULL;
	char *rest, *line;

	buf_init(&file, FILE_MAX);
	a->groups[a->n_groups++] = a->gid;
	if (!*a->name || io_read_file(AT_FDCWD, "/etc/group", &file) < 0)
		return;
	rest = copy = must_strdup(buf_str(&file));
	while ((line = field(&rest, '\n')))
		group_line(line, a);
}

int account_find(const char *who, struct account *ret, struct err *e)
{
	AUTO(buf_fini) struct buf file;
	uint32_t uid = 0;
	bool number = id_of(who, &uid), found;

	buf_init(&file, FILE_MAX);
	if (io_read_file(AT_FDCWD, "/etc/passwd", &file) < 0)
		buf_fini(&file);
	if (!*who && geteuid() != 0) {
		number = true;
		uid = geteuid();
	} else if (!*who) {
		found = passwd_find(&file, "user", false, 0, ret);
		number = true;
		if (found)
			uid = ret->uid;
	}
	found = passwd_find(&file, who, number, uid, ret);
	if (!found && !number)
		return err_set(e, -ENOENT, "unknown-user", "there is no user %s in /etc/passwd", who);
	if (!found) {
		*ret = (struct account){ .uid = uid, .gid = uid, .home = "/", .shell = "/bin/sh" };
		if (uid == 0)
			(void)str_copy(ret->name, sizeof(ret->name), "root");
	}
	groups_find(ret);
	return 0;
}

void account_names(uid_t uid, gid_t gid, char owner[65], char group[65])
{
	AUTO(buf_fini) struct buf file;
	AUTO(str_free) char *copy = NULL;
	struct account a;
	char *rest, *line;
	uint32_t id;

	snprintf(owner, 65, "%u", (unsigned)uid);
	snprintf(group, 65, "%u", (unsigned)gid);
	buf_init(&file, FILE_MAX);
	if (io_read_file(AT_FDCWD, "/etc/passwd", &file) == 0 && passwd_find(&file, "", true, uid, &a))
		snprintf(owner, 65, "%s", a.name);
	buf_fini(&file);
	if (io_read_file(AT_FDCWD, "/etc/group", &file) < 0)
		return;
	rest = copy = must_strdup(buf_str(&file));
	while ((line = field(&rest, '\n'))) {
		char *name = field(&line, ':');

		field(&line, ':');
		if (!id_of(field(&line, ':'), &id) || id != gid || strlen(name) > 64)
			continue;
		snprintf(group, 65, "%s", name);
		return;
	}
}
