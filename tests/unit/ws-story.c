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
					     [JOURNAL_CHMOD] = "chmod",	  [JOURNAL_LOST] = "lost",
					     [JOURNAL_BEGAN] = "began",	  [JOURNAL_ENDED] = "ended" };
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

/* --- during which command ----------------------------------------------------------------------------------------- */

static void command(unsigned flags, const char *id, unsigned state, const char *word)
{
	struct msg_PROC p = { .id = span_str(id), .state = state, .how = WIRE_EXITED, .code = state ? 7 : 0 };
	struct msg_COMMANDS m = { .flags = flags };
	struct msg_list list, words;

	msg_list_init(&list, FRAME_MAX);
	msg_list_init(&words, FRAME_MAX);
	cr_assert_eq(msg_list_str(&words, span_str(word)), 0);
	p.argv = msg_list_span(&words);
	if (*id)
		cr_assert_eq(msg_list_rec(&list, MSG_PROC, &p), 0);
	m.procs = msg_list_span(&list);
	cr_assert_eq(frame_send(l.control, MSG_COMMANDS, &m, clock_after_ms(LAB_MS)), 0);
	msg_list_fini(&list);
	msg_list_fini(&words);
}

static size_t running(void)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct running one;
	size_t at = 0, n = 0;

	cr_assert_eq(txn_read(ws_db(l.ws), &t, NULL), 0);
	while (running_next(t, &at, &one) == 0)
		n++;
	return n;
}

static void until_told(const char *words)
{
	uint64_t until = clock_after_ms(LAB_MS);
	static char all[8192];

	all[0] = '\0';
	while (!strstr(all, words)) {
		cr_assert_lt(clock_now(), until, "only: %s", all);
		ws_flush(l.ws, until);
		strncat(all, told(), sizeof(all) - strlen(all) - 1);
	}
}

Test(ws_story, commands)
{
	struct msg_NODE a = lab_node(20, S_IFREG | 0644, 0, 5);

	(void)told();
	command(0, "one", 0, "sh");
	file("a", &a);
	expect("began one from sh, create a, ");
	command(0, "two", 0, "cc");
	a.nlink = 2;
	file("b", &a);
	lab_tell(&l, 0);
	command(0, "one", 1, "sh"); /* in the same pass or a later one: behind its changes in any case */
	lab_acked(&l);
	until_told("create b, ended one from sh, ");
	cr_expect_eq(running(), 1);
	command(0, "brief", 1, "x"); /* its beginning was not heard of */
	until_told("began brief from x, ended brief from x, ");
	/* The agent was away. */
	command(WIRE_CMD_FIRST, "three", 0, "new");
	command(0, "brief", 1, "x"); /* known and over: not again */
	command(WIRE_CMD_LAST, "", 0, "");
	until_told("began three from new, ");
	cr_expect_eq(running(), 2);
	lab_root(&l);
	file("a", &a);
	file("b", &a);
	lab_batch(&l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	until_told("ended two from cc, ");
	cr_expect_eq(running(), 1);
	ws_stop(l.ws);
	ws_commands_end(l.ws);
	cr_expect_str_eq(told(), "ended three from new, ");
	cr_expect_eq(running(), 0);
	lab_fsck(&l);
}

Test(ws_story, a_command_without_a_proper_id)
{
	command(0, "no/id", 0, "sh");
	lab_wait_why(&l, "a command without a proper id", false);
}

Test(ws_story, too_many_commands)
{
	char id[16];
	int i;

	for (i = 0; i < RUNNING_MAX + 50; i++) {
		snprintf(id, sizeof(id), "c%d", i);
		command(0, id, 0, "01234567890123456789012345678901234567890123456789012345678901234567890123456789");
	}
	lab_file(&l, "a", 20, 0, 5);
	lab_batch(&l, 0);
	cr_expect_eq(running(), RUNNING_MAX);
	lab_fsck(&l);
}
