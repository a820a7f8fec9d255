/* SPDX-License-Identifier: Apache-2.0 */
/* Scans: what they remove, what they must not, and those that begin anew before they have ended. */
#include "ws-lab.h"

enum { SCAN = WIRE_CHG_SCAN, SCAN_END = WIRE_CHG_SCAN | WIRE_CHG_SCAN_END, MANY = 150, DIR = 50, FIRST = 100 };

static struct lab l;

static void setup(void)
{
	lab_make(&l);
	lab_start(&l);
}

static void teardown(void)
{
	lab_fsck(&l);
	lab_free(&l);
}

TestSuite(scan, .init = setup, .fini = teardown);

static void dir_is(const char *name)
{
	struct msg_NODE n = lab_node(DIR, S_IFDIR | 0755, 4096, 1);

	lab_add(&l, 0, LAB_ROOT, name, &n);
}

static void list_dir(void)
{
	struct msg_NODE n = lab_node(DIR, S_IFDIR | 0755, 4096, 1);

	lab_add(&l, WIRE_ENT_ONLY, DIR, "", &n);
}

static void file_in(uint64_t dir, const char *name, uint64_t fid)
{
	struct msg_NODE n = lab_node(fid, S_IFREG | 0644, 0, 6);

	lab_add(&l, 0, dir, name, &n);
}

static void many_in(uint64_t dir)
{
	char name[16];
	unsigned i;

	for (i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		file_in(dir, name, FIRST + i);
	}
}

static int resolve(const char *path)
{
	struct node n;

	return ws_resolve(l.ws, path, &n);
}

static void connect_again(void)
{
	lab_hangup(&l);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
}

static void is_halted(bool yes)
{
	struct ws_stats s;

	if (yes)
		lab_wait_why(&l, "vanished", true);
	ws_stat(l.ws, &s);
	cr_assert_eq(s.halted, yes, "%s", s.why);
}

Test(scan, what_came_and_went_between_two_listings_is_gone)
{
	lab_root(&l);
	file_in(LAB_ROOT, "stays", 12);
	file_in(LAB_ROOT, "goes", 13);
	lab_batch(&l, SCAN);
	file_in(LAB_ROOT, "came", 14);
	lab_batch(&l, 0);
	lab_batch(&l, WIRE_CHG_OVERFLOW); /* of what happened to it since nothing is told */
	lab_root(&l);
	file_in(LAB_ROOT, "stays", 12);
	lab_batch(&l, SCAN_END);
	cr_assert_eq(resolve("stays"), 0);
	cr_assert_eq(resolve("goes"), -ENOENT);
	cr_assert_eq(resolve("came"), -ENOENT);
}

Test(scan, what_is_told_behind_a_second_listing_stays)
{
	lab_root(&l);
	file_in(LAB_ROOT, "a", 12);
	lab_batch(&l, SCAN);
	lab_root(&l);
	lab_batch(&l, SCAN);
	file_in(LAB_ROOT, "a", 12);
	lab_batch(&l, 0);
	lab_root(&l);
	file_in(LAB_ROOT, "a", 12);
	file_in(LAB_ROOT, "b", 13);
	lab_batch(&l, SCAN);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "b", NULL);
	lab_batch(&l, 0);
	lab_batch(&l, SCAN_END);
	cr_assert_eq(resolve("a"), 0);
	cr_assert_eq(resolve("b"), -ENOENT);
}

Test(scan, most_may_vanish_while_the_connection_lasts)
{
	many_in(LAB_ROOT);
	lab_batch(&l, 0);
	lab_batch(&l, WIRE_CHG_OVERFLOW);
	lab_root(&l);
	lab_batch(&l, SCAN_END);
	is_halted(false);
	cr_assert_eq(resolve("f0"), -ENOENT);
	many_in(LAB_ROOT);
	lab_batch(&l, 0);
	lab_root(&l); /* a directory is listed for other reasons, too */
	lab_batch(&l, SCAN_END);
	is_halted(false);
	cr_assert_eq(resolve("f149"), -ENOENT);
}

Test(scan, most_must_not_vanish_with_the_first_of_a_connection)
{
	many_in(LAB_ROOT);
	lab_batch(&l, 0);
	connect_again();
	lab_root(&l);
	lab_batch(&l, SCAN);
	lab_batch(&l, WIRE_CHG_OVERFLOW); /* which may well come of a disk that is another one */
	lab_root(&l);
	lab_tell(&l, SCAN_END);
	is_halted(true);
	cr_assert_eq(resolve("f0"), 0);
}

Test(scan, what_was_removed_while_it_ran_has_not_vanished)
{
	dir_is("d");
	lab_batch(&l, 0);
	many_in(DIR);
	lab_batch(&l, 0);
	file_in(LAB_ROOT, "other", 12);
	lab_batch(&l, 0);
	connect_again();
	lab_root(&l);
	file_in(LAB_ROOT, "other", 12);
	dir_is("d");
	list_dir();
	lab_batch(&l, SCAN);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "d", NULL);
	lab_batch(&l, 0);
	lab_batch(&l, SCAN_END);
	is_halted(false);
	cr_assert_eq(resolve("other"), 0);
	cr_assert_eq(resolve("d"), -ENOENT);
}

Test(scan, a_directory_that_moves_while_it_runs_is_suspect_nowhere)
{
	dir_is("d");
	lab_batch(&l, 0);
	file_in(DIR, "f", 12);
	lab_batch(&l, 0);
	lab_root(&l);
	lab_batch(&l, SCAN);
	dir_is("e");
	lab_batch(&l, 0);
	list_dir();
	file_in(DIR, "f", 12);
	lab_batch(&l, SCAN_END);
	cr_assert_eq(resolve("d"), -ENOENT);
	cr_assert_eq(resolve("e/f"), 0);
}
