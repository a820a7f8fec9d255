/* SPDX-License-Identifier: Apache-2.0 */
/* FS_* calls, and attempts to leave the workspace through them. */
#include "guest-lab.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct talk {
	struct lab lab;
	struct wire w;
	union {
		struct msg_ERROR error;
		struct msg_FS_NODE node;
		struct msg_FS_DATA data;
		struct msg_FS_ENTRIES entries;
		struct msg_FS_STATFS_IS statfs;
		struct msg_FS_XATTR_IS xattr;
		char room[512];
	} m;
};

static void talk_start(struct talk *t)
{
	cr_assert(lab_start(&t->lab, "inotify"));
	cr_assert(wire_dial(&t->lab, &t->w, WIRE_CONTROL, t->lab.token));
}

static void talk_stop(struct talk *t)
{
	wire_close(&t->w);
	lab_stop(&t->lab);
}

static unsigned ask(struct talk *t, enum msg_type type, const void *m)
{
	wire_send(&t->w, type, m);
	return wire_next(&t->w, &t->m);
}

static bool failed(struct talk *t, unsigned type, const char *slug)
{
	if (type != MSG_ERROR)
		return false;
	if (!span_eq(t->m.error.slug, span_str(slug)))
		fprintf(stderr, "slug %.*s, not %s\n", (int)t->m.error.slug.len, (const char *)t->m.error.slug.p, slug);
	return span_eq(t->m.error.slug, span_str(slug));
}

static unsigned put(struct talk *t, const char *path, const char *text, unsigned flags, uint64_t offset)
{
	struct msg_FS_WRITE m = { .call = 1, .path = span_str(path), .flags = flags, .mode = 0640, .offset = offset,
				  .uid = geteuid(), .gid = getegid(), .data = span_str(text) };

	return ask(t, MSG_FS_WRITE, &m);
}

static bool holds(struct talk *t, const char *path, const char *text)
{
	struct msg_FS_READ m = { .call = 2, .path = span_str(path), .len = 1048576 };

	return ask(t, MSG_FS_READ, &m) == MSG_FS_DATA && span_eq(t->m.data.data, span_str(text));
}

static unsigned make(struct talk *t, const char *path, unsigned mode, const char *target, bool parents)
{
	struct msg_FS_MAKE m = { .call = 3, .path = span_str(path), .mode = mode, .target = span_str(target),
				 .parents = parents, .uid = geteuid(), .gid = getegid() };

	return ask(t, MSG_FS_MAKE, &m);
}

static unsigned stat_of(struct talk *t, const char *path, struct msg_NODE *ret)
{
	unsigned type = ask(t, MSG_FS_STAT, &(struct msg_FS_STAT){ .call = 4, .path = span_str(path) });
	struct span nodes = t->m.node.node;

	if (type == MSG_FS_NODE)
		cr_assert(msg_rec_next(&nodes, MSG_NODE, ret));
	return type;
}

static unsigned names_in(struct talk *t, const char *path)
{
	unsigned n = 0;

	wire_send(&t->w, MSG_FS_LIST, &(struct msg_FS_LIST){ .call = 5, .path = span_str(path) });
	for (;;) {
		struct msg_DIRENT d;
		struct span list;

		if (wire_next(&t->w, &t->m) != MSG_FS_ENTRIES)
			return ~0U;
		for (list = t->m.entries.entries; msg_rec_next(&list, MSG_DIRENT, &d); n++)
			cr_assert_gt(d.name.len, 0);
		if (!t->m.entries.more)
			return n;
	}
}

Test(files, read_write_list_and_attributes)
{
	struct msg_FS_ATTR attr = { .call = 6, .path = span_str("d/e/f"), .mode = 0600, .size = 3, .mtime_ns = -5,
				    .which = WIRE_ATTR_MODE | WIRE_ATTR_SIZE | WIRE_ATTR_MTIME };
	struct msg_NODE n, again;
	struct talk t;

	talk_start(&t);
	cr_assert_eq(make(&t, "d/e", S_IFDIR | 0755, "", true), MSG_FS_NODE);
	cr_assert_eq(make(&t, "d/e", S_IFDIR | 0755, "", true), MSG_FS_NODE);
	cr_assert(failed(&t, make(&t, "d/e", S_IFDIR | 0755, "", false), "exists"));
	cr_assert(failed(&t, put(&t, "d/e/f", "x", 0, 0), "not-found"));
	cr_assert_eq(put(&t, "d/e/f", "hello", WIRE_FS_CREATE, 0), MSG_FS_NODE);
	cr_assert_eq(put(&t, "d/e/f", "LL", 0, 2), MSG_FS_NODE);
	cr_assert_eq(put(&t, "d/e/f", " world", WIRE_FS_APPEND, 77), MSG_FS_NODE);
	cr_assert(holds(&t, "d/e/f", "heLLo world"));
	cr_assert(failed(&t, put(&t, "d/e/f", "x", WIRE_FS_CREATE | WIRE_FS_EXCL, 0), "exists"));
	cr_assert_eq(stat_of(&t, "d/e/f", &n), MSG_FS_NODE);
	cr_assert_eq(n.mode, S_IFREG | 0640);
	cr_assert_eq(put(&t, "d/e/f", "replaced", WIRE_FS_CREATE | WIRE_FS_REPLACE, 0), MSG_FS_NODE);
	cr_assert(holds(&t, "d/e/f", "replaced"));
	cr_assert_eq(stat_of(&t, "d/e/f", &again), MSG_FS_NODE);
	cr_assert_neq(again.fid, n.fid);
	cr_assert_eq(again.mode, n.mode);
	cr_assert_eq(names_in(&t, "d/e"), 1, "a temporary file is left");
	cr_assert_eq(ask(&t, MSG_FS_ATTR, &attr), MSG_FS_NODE);
	cr_assert_eq(stat_of(&t, "d/e/f", &n), MSG_FS_NODE);
	cr_assert_eq(n.mode, S_IFREG | 0600);
	cr_assert_eq(n.size, 3);
	cr_assert_eq(n.mtime_ns, -5);
	cr_assert_eq(ask(&t, MSG_FS_STATFS, &(struct msg_FS_STATFS){ .call = 9 }), MSG_FS_STATFS_IS);
	cr_assert_gt(t.m.statfs.blocks, 0);
	talk_stop(&t);
}

Test(files, link_rename_remove)
{
	struct msg_FS_LINK link = { .call = 1, .from = span_str("a"), .to = span_str("b") };
	struct msg_FS_RENAME ren = { .call = 2, .from = span_str("b"), .to = span_str("c"), .flags = 1 };
	struct msg_FS_REMOVE rm = { .call = 3, .path = span_str("tree") };
	struct msg_NODE n;
	struct talk t;
	char path[64];
	unsigned i;

	talk_start(&t);
	cr_assert_eq(put(&t, "a", "text", WIRE_FS_CREATE, 0), MSG_FS_NODE);
	cr_assert_eq(ask(&t, MSG_FS_LINK, &link), MSG_FS_NODE);
	cr_assert_eq(ask(&t, MSG_FS_RENAME, &ren), MSG_FS_NODE);
	ren.from = span_str("a");
	cr_assert(failed(&t, ask(&t, MSG_FS_RENAME, &ren), "exists"));
	cr_assert_eq(stat_of(&t, "c", &n), MSG_FS_NODE);
	cr_assert_eq(n.nlink, 2);
	for (i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "tree/%u/x/y", i);
		cr_assert_eq(make(&t, path, S_IFDIR | 0755, "", true), MSG_FS_NODE);
		snprintf(path, sizeof(path), "tree/%u/x/f", i);
		cr_assert_eq(put(&t, path, "x", WIRE_FS_CREATE, 0), MSG_FS_NODE);
	}
	cr_assert(failed(&t, ask(&t, MSG_FS_REMOVE, &rm), "is-directory"));
	rm.flags = WIRE_FS_DIR;
	cr_assert(failed(&t, ask(&t, MSG_FS_REMOVE, &rm), "not-empty"));
	rm.flags = WIRE_FS_TREE;
	cr_assert_eq(ask(&t, MSG_FS_REMOVE, &rm), MSG_OK);
	cr_assert(failed(&t, stat_of(&t, "tree", &n), "not-found"));
	rm.path = span_str("a");
	cr_assert_eq(ask(&t, MSG_FS_REMOVE, &rm), MSG_OK);
	rm.path = SPAN_NULL;
	cr_assert(failed(&t, ask(&t, MSG_FS_REMOVE, &rm), "busy"));
	talk_stop(&t);
}

Test(files, a_large_directory_comes_in_pieces)
{
	struct talk t;
	char path[64];
	unsigned i;

	talk_start(&t);
	for (i = 0; i < 6000; i++) {
		snprintf(path, sizeof(path), "file-with-a-rather-long-name-%u", i);
		close(open(lab_path(&t.lab, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	}
	cr_assert_eq(names_in(&t, ""), 6000);
	talk_stop(&t);
}

static unsigned xattr_set_as(struct talk *t, const char *path, struct span name, struct span value)
{
	struct msg_FS_XATTR_SET m = { .call = 7, .path = span_str(path), .name = name, .value = value };

	return ask(t, MSG_FS_XATTR_SET, &m);
}

static unsigned xattr_of(struct talk *t, const char *path, const char *name)
{
	struct msg_FS_XATTR_GET m = { .call = 7, .path = span_str(path), .name = span_str(name) };

	return ask(t, MSG_FS_XATTR_GET, &m);
}

static bool is_error(struct talk *t, unsigned type, const char *name)
{
	return type == MSG_ERROR && span_eq(t->m.error.name, span_str(name));
}

Test(files, extended_attributes)
{
	static const char *const foreign[] = {
		"security.capability", "trusted.x", "system.posix_acl_access", "user.", "user", ""
	};
	struct msg_FS_XATTR_REMOVE rm = { .call = 7, .path = span_str("f"), .name = span_str("user.a") };
	struct msg_FS_XATTR_LIST ls = { .call = 7, .path = span_str("f") };
	struct span value = SPAN("\0v\xff", 3), list;
	struct msg_FS_XATTR_SET set = { .call = 7, .path = span_str("f"), .name = span_str("user.a"), .value = value };
	struct msg_NODE n;
	struct talk t;
	size_t i;

	talk_start(&t);
	cr_assert_eq(put(&t, "f", "text", WIRE_FS_CREATE, 0), MSG_FS_NODE);
	cr_assert_eq(make(&t, "d", S_IFDIR | 0755, "", false), MSG_FS_NODE);
	cr_assert_eq(symlink("f", lab_path(&t.lab, "l")), 0);
	cr_assert_eq(mkfifo(lab_path(&t.lab, "p"), 0644), 0);
	cr_assert_eq(xattr_set_as(&t, "f", span_str("user.a"), value), MSG_OK);
	cr_assert_eq(xattr_set_as(&t, "f", span_str("user.b"), SPAN_NULL), MSG_OK);
	cr_assert_eq(xattr_set_as(&t, "d", span_str("user.d"), value), MSG_OK);
	cr_assert_eq(xattr_set_as(&t, "", span_str("user.root"), value), MSG_OK);
	cr_assert_eq(xattr_of(&t, "f", "user.a"), MSG_FS_XATTR_IS);
	cr_assert(span_eq(t.m.xattr.data, value));
	cr_assert_eq(xattr_of(&t, "f", "user.b"), MSG_FS_XATTR_IS);
	cr_assert_eq(t.m.xattr.data.len, 0);
	cr_assert_eq(xattr_of(&t, "", "user.root"), MSG_FS_XATTR_IS);
	cr_assert_eq(ask(&t, MSG_FS_XATTR_LIST, &ls), MSG_FS_XATTR_IS);
	cr_assert(span_eq(t.m.xattr.data, SPAN("user.a\0user.b\0", 14)));
	cr_assert_eq(ask(&t, MSG_FS_XATTR_REMOVE, &rm), MSG_OK);
	cr_assert(is_error(&t, ask(&t, MSG_FS_XATTR_REMOVE, &rm), "ENODATA"));
	cr_assert(is_error(&t, xattr_of(&t, "f", "user.a"), "ENODATA"));
	cr_assert(is_error(&t, xattr_of(&t, "none", "user.a"), "ENOENT"));
	for (i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		cr_assert(is_error(&t, xattr_of(&t, "f", foreign[i]), "EPERM"), "%s", foreign[i]);
		cr_assert(is_error(&t, xattr_set_as(&t, "f", span_str(foreign[i]), value), "EPERM"), "%s", foreign[i]);
	}
	cr_assert(is_error(&t, xattr_set_as(&t, "f", SPAN("user.\0x", 7), value), "EINVAL"));
	set.flags = WIRE_XATTR_REPLACE;
	cr_assert(is_error(&t, ask(&t, MSG_FS_XATTR_SET, &set), "ENODATA"));
	set.flags = WIRE_XATTR_CREATE | WIRE_XATTR_NODE;
	set.fid = 1;
	cr_assert(is_error(&t, ask(&t, MSG_FS_XATTR_SET, &set), "ESTALE"));
	set.fid = 0;
	cr_assert_eq(ask(&t, MSG_FS_XATTR_SET, &set), MSG_FS_NODE);
	list = t.m.node.node;
	cr_assert(msg_rec_next(&list, MSG_NODE, &n));
	cr_assert(span_eq(n.xattrs, SPAN("\0\6\0\0\0\3user.a\0v\xff\0\6\0\0\0\0user.b", 27)));
	cr_assert(is_error(&t, ask(&t, MSG_FS_XATTR_SET, &set), "EEXIST"));
	cr_assert_eq(stat_of(&t, "d", &n), MSG_FS_NODE);
	cr_assert(span_eq(n.xattrs, SPAN("\0\6\0\0\0\3user.d\0v\xff", 15)));
	cr_assert(is_error(&t, xattr_of(&t, "l", "user.b"), "EPERM"));
	cr_assert(is_error(&t, xattr_of(&t, "p", "user.b"), "EPERM"));
	cr_assert(is_error(&t, xattr_of(&t, "../f", "user.b"), "EINVAL"));
	talk_stop(&t);
}

Test(files, nothing_leads_outside)
{
	static const char *const evil[] = { "../outside", "/etc/passwd", "a/../../outside", "a//b", "a/", ".", "..",
					    "a/./b" };
	static const char *const through[] = { "abs/passwd", "up/outside/secret", "self/root/etc/passwd" };
	struct msg_FS_LINK link = { .from = span_str("abs/passwd"), .to = span_str("stolen") };
	struct msg_FS_RENAME ren = { .from = span_str("mine"), .to = span_str("up/outside/mine") };
	struct msg_FS_REMOVE rm = { .path = span_str("up"), .flags = WIRE_FS_TREE };
	struct msg_FS_ATTR attr = { .path = span_str("file"), .which = WIRE_ATTR_MODE, .mode = 0777 };
	AUTO(str_free) char *secret = NULL;
	struct msg_NODE n;
	struct stat st;
	struct talk t;
	size_t i;

	talk_start(&t);
	secret = str_printf("%s/outside", t.lab.dir);
	cr_assert_eq(mkdir(secret, 0755), 0);
	str_free(&secret);
	secret = str_printf("%s/outside/secret", t.lab.dir);
	close(open(secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	cr_assert_eq(symlink("/etc", lab_path(&t.lab, "abs")), 0);
	cr_assert_eq(symlink("..", lab_path(&t.lab, "up")), 0);
	cr_assert_eq(symlink("/proc/self", lab_path(&t.lab, "self")), 0);
	cr_assert_eq(symlink(secret, lab_path(&t.lab, "file")), 0);
	cr_assert_eq(put(&t, "mine", "x", WIRE_FS_CREATE, 0), MSG_FS_NODE);
	for (i = 0; i < ARRAY_LEN(evil); i++) {
		cr_assert(failed(&t, stat_of(&t, evil[i], &n), "bad-request"), "%s", evil[i]);
		cr_assert(failed(&t, put(&t, evil[i], "x", WIRE_FS_CREATE, 0), "bad-request"), "%s", evil[i]);
	}
	for (i = 0; i < ARRAY_LEN(through); i++) {
		cr_assert_eq(stat_of(&t, through[i], &n), MSG_ERROR, "%s", through[i]);
		cr_assert_eq(put(&t, through[i], "x", WIRE_FS_CREATE | WIRE_FS_TRUNC, 0), MSG_ERROR);
		cr_assert_eq(put(&t, through[i], "x", WIRE_FS_CREATE | WIRE_FS_REPLACE, 0), MSG_ERROR);
		cr_assert_eq(make(&t, through[i], S_IFDIR | 0755, "", true), MSG_ERROR);
		cr_assert_not(holds(&t, through[i], ""));
		cr_assert_eq(names_in(&t, through[i]), ~0U);
	}
	cr_assert_eq(put(&t, "file", "x", WIRE_FS_CREATE | WIRE_FS_TRUNC, 0),
		     MSG_ERROR); /* the last name is not followed */
	cr_assert_eq(put(&t, "file", "x", WIRE_FS_CREATE | WIRE_FS_REPLACE, 0), MSG_ERROR);
	cr_assert_eq(ask(&t, MSG_FS_ATTR, &attr), MSG_ERROR);
	attr.which = WIRE_ATTR_SIZE;
	cr_assert_eq(ask(&t, MSG_FS_ATTR, &attr), MSG_ERROR);
	cr_assert_eq(ask(&t, MSG_FS_LINK, &link), MSG_ERROR);
	cr_assert_eq(ask(&t, MSG_FS_RENAME, &ren), MSG_ERROR);
	cr_assert_eq(ask(&t, MSG_FS_REMOVE, &rm), MSG_OK); /* the symlink, not what it names */
	cr_assert_eq(stat(secret, &st), 0);
	cr_assert_eq(st.st_size, 0);
	cr_assert_eq(st.st_mode & 0777, 0644);
	cr_assert(failed(&t, make(&t, "disk", S_IFBLK | 0600, "", false), "permission"));
	cr_assert_eq(make(&t, "fifo", S_IFIFO | 0600, "", false), MSG_FS_NODE);
	cr_assert_eq(put(&t, "fifo", "x", 0, 0), MSG_ERROR); /* and does not block */
	cr_assert_eq(make(&t, "link", S_IFLNK | 0777, "../../any/thing", false), MSG_FS_NODE);
	talk_stop(&t);
}
