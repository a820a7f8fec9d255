/* SPDX-License-Identifier: Apache-2.0 */
/* What a batch did, as the journal tells it: the table of "What is watched" in docs/workspace.md, row by row. */
#include "ws-lab.h"

static struct lab l;
static uint64_t seen;

static void made(void)
{
	lab_make(&l);
	lab_start(&l);
	seen = 0;
}

static void ended(void)
{
	lab_free(&l);
}

TestSuite(ws_story, .init = made, .fini = ended, .timeout = 60);

/* The rows since the last call: "create a, rename b from a, ". */
static const char *told(void)
{
	static const char *const words[] = { [JOURNAL_CREATE] = "create", [JOURNAL_REMOVE] = "remove",
					     [JOURNAL_RENAME] = "rename", [JOURNAL_WRITE] = "write",
					     [JOURNAL_CHMOD] = "chmod",	  [JOURNAL_LOST] = "lost" };
	AUTO(txn_abort) struct txn *t = NULL;
	static char text[4096];
	struct journal_row row;
	size_t at = 0;

	text[0] = '\0';
	cr_assert_eq(txn_read(ws_db(l.ws), &t, NULL), 0);
	while (journal_next(t, seen, &row) == 0) {
		size_t first = strnlen(row.name.p, row.name.len);

		seen = row.seq;
		if (row.kind >= ARRAY_LEN(words) || !words[row.kind])
			continue;
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s %.*s", words[row.kind], (int)first,
				       (const char *)row.name.p);
		if (first < row.name.len)
			at += (size_t)snprintf(text + at, sizeof(text) - at, " from %.*s",
					       (int)(row.name.len - first - 1), (const char *)row.name.p + first + 1);
		at += (size_t)snprintf(text + at, sizeof(text) - at, ", ");
	}
	return text;
}

static void file(const char *name, struct msg_NODE *n)
{
	lab_add(&l, 0, LAB_ROOT, name, n);
}

static void gone(const char *name)
{
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, name, NULL);
}

static void expect(const char *words)
{
	lab_batch(&l, 0);
	cr_expect_str_eq(told(), words);
}

Test(ws_story, names)
{
	struct msg_NODE a = lab_node(20, S_IFREG | 0644, 0, 5), b = lab_node(21, S_IFREG | 0644, 0, 5);

	(void)told();
	file("a", &a);
	expect("create a, ");
	a.nlink = 2;
	file("again", &a);
	expect("create again, ");
	gone("again");
	file("moved", &a);
	expect("rename moved from again, ");
	gone("moved");
	expect("remove moved, ");
	file("b", &b);
	expect("create b, ");
	gone("a"); /* over b, by a rename */
	file("b", &a);
	expect("rename b from a, ");
	b.fid = 22; /* over b, by a new one */
	file("b", &b);
	expect("remove b, create b, ");
	file("b", &b); /* nothing new */
	expect("");
	a.fid = 23;
	file("brief", &a);
	gone("brief");
	expect("create brief, remove brief, ");
	lab_fsck(&l);
}

Test(ws_story, directories)
{
	struct msg_NODE d = lab_node(30, S_IFDIR | 0755, 4096, 5), f = lab_node(31, S_IFREG | 0644, 0, 5);

	(void)told();
	file("d", &d);
	lab_add(&l, 0, 30, "f", &f);
	expect("create d, create d/f, ");
	gone("d");
	file("e", &d);
	expect("rename e from d, ");
	lab_add(&l, WIRE_ENT_GONE, 30, "f", NULL);
	lab_add(&l, 0, 30, "g", &f);
	expect("rename e/g from e/f, ");
	gone("e");
	lab_batch(&l, 0);
	cr_expect_not_null(strstr(told(), "remove e, "));
	lab_fsck(&l);
}

Test(ws_story, what_a_file_has)
{
	struct msg_NODE a = lab_node(20, S_IFREG | 0644, 0, 5);

	(void)told();
	file("a", &a);
	expect("create a, ");
	a.mode = S_IFREG | 0600;
	a.ctime_ns = 6;
	file("a", &a);
	expect("chmod a, ");
	a.ctime_ns = 7;
	a.xattrs = SPAN("\0\6\0\0\0\1user.ax", 13);
	file("a", &a);
	expect("chmod a, ");
	a.size = 5;
	a.ctime_ns = a.mtime_ns = 7;
	lab_add(&l, WIRE_ENT_WRITTEN, LAB_ROOT, "a", &a);
	expect("write a, ");
	a.nlink = 2;
	file("b", &a);
	expect("create b, ");
	a.size = 6;
	a.ctime_ns = a.mtime_ns = 8;
	lab_add(&l, WIRE_ENT_WRITTEN, LAB_ROOT, "a", &a);
	expect("write a, write b, ");
	lab_fsck(&l);
}
