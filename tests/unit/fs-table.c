/* SPDX-License-Identifier: Apache-2.0 */
/* What the next process finds in the table. */
#include "host/fs/table.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static int file(void)
{
	int fd = memfd_create("table", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

/* As a process that was killed leaves it: mapped away, nothing else. */
static void again(struct table *t, int fd)
{
	struct err e = ERR_NULL;

	table_unmap(t);
	cr_assert_eq(table_map(t, fd, false, &e), 0, "%s", e.text);
}

static void fresh(struct table *t, int fd)
{
	struct err e = ERR_NULL;

	cr_assert_eq(table_map(t, fd, true, &e), 0, "%s", e.text);
	t->head->init_len = 56;
	t->head->flags = TABLE_SERVED | TABLE_CAN_RESEND;
}

Test(fs_table, node_ids_mean_the_same_to_the_next_one)
{
	struct node n = { .fid = 7, .ino = 8, .mode = 0100644, .size = 9 };
	int fd = file();
	struct table t;
	uint32_t a, b, space;
	uint64_t id_a, id_b;

	fresh(&t, fd);
	space = table_space(&t, "one", true);
	a = table_node_new(&t, space, &n);
	n.fid = 17;
	b = table_node_new(&t, space, &n);
	id_a = table_node_id(&t, a);
	id_b = table_node_id(&t, b);
	cr_expect_gt(id_a, 2, "1 and 2 are the mount's own");
	table_node_free(&t, a);
	again(&t, fd);
	cr_expect_eq(table_node_slot(&t, id_a), UINT32_MAX);
	cr_assert_eq(table_node_slot(&t, id_b), b);
	cr_expect_eq(t.nodes[b].fid, 17);
	cr_expect_eq(t.nodes[b].lookups, 1);
	cr_expect_eq(t.nodes[b].size, 9);
	cr_expect_eq(table_space(&t, "one", false), space);
	cr_expect_eq(table_node_new(&t, space, &n), a, "a free slot is used again");
	cr_expect_neq(table_node_id(&t, a), id_a, "and is not mistaken for what it was");
	table_unmap(&t);
	close(fd);
}

Test(fs_table, numbers_from_elsewhere_are_refused)
{
	struct content c = { .size = 5 };
	int fd = file();
	struct table t;
	uint64_t fh;

	fresh(&t, fd);
	fh = table_handle_new(&t, 42, 2, &c);
	again(&t, fd);
	cr_assert_not_null(table_handle(&t, fh));
	cr_expect_eq(table_handle(&t, fh)->content.size, 5);
	cr_expect_null(table_handle(&t, fh + (1ULL << 32)));
	cr_expect_null(table_handle(&t, UINT64_MAX));
	cr_expect_null(table_handle(&t, 0));
	cr_expect_eq(table_node_slot(&t, UINT64_MAX), UINT32_MAX);
	table_handle_free(&t, fh);
	table_handle_free(&t, fh); /* a release that comes again */
	cr_expect_null(table_handle(&t, fh));
	cr_expect_neq(table_handle_new(&t, 43, 2, &c), fh);
	table_unmap(&t);
	close(fd);
}

Test(fs_table, full_is_an_answer)
{
	struct content c = { .size = 0 };
	int fd = file();
	struct table t;
	uint32_t i;

	fresh(&t, fd);
	for (i = 0; i < TABLE_HANDLES; i++)
		cr_assert(table_handle_new(&t, 1, 0, &c));
	cr_expect_eq(table_handle_new(&t, 1, 0, &c), 0);
	t.head->nodes_top = TABLE_NODES;
	cr_expect_eq(table_node_new(&t, 0, &(struct node){ .fid = 1 }), UINT32_MAX);
	for (i = 0; i < TABLE_SPACES; i++)
		t.spaces[i].state = SPACE_GONE;
	t.head->spaces_top = TABLE_SPACES;
	cr_expect_eq(table_space(&t, "late", true), UINT32_MAX);
	table_unmap(&t);
	close(fd);
}

Test(fs_table, intents_live_for_one_more_process)
{
	uint64_t fid = 0;
	int fd = file();
	struct table t;
	uint32_t a, b;

	fresh(&t, fd);
	a = table_intend(&t, 100, 5);
	b = table_intend(&t, 102, 0);
	cr_assert(a && b && a != b);
	table_intend_done(&t, b);
	again(&t, fd);
	cr_expect_eq(table_intended(&t, 100, &fid), a);
	cr_expect_eq(fid, 5);
	cr_expect_eq(table_intended(&t, 102, &fid), 0);
	again(&t, fd);
	cr_expect_eq(table_intended(&t, 100, &fid), 0, "its request was answered, or has come again");
	table_unmap(&t);
	close(fd);
}

Test(fs_table, what_cannot_be_gone_on_from_is_refused)
{
	struct err e = ERR_NULL;
	int fd = file();
	struct table t;

	cr_expect_eq(table_map(&t, fd, false, &e), -ESTALE, "empty");
	fresh(&t, fd);
	t.head->flags |= TABLE_UNKNOWN;
	table_unmap(&t);
	cr_expect_eq(table_map(&t, fd, false, &e), -ESTALE, "a change that was not written down");
	fresh(&t, fd);
	t.head->version++;
	table_unmap(&t);
	cr_expect_eq(table_map(&t, fd, false, &e), -ESTALE);
	cr_expect_str_eq(e.slug, "mount-format");
	fresh(&t, fd);
	t.head->nodes_top = TABLE_NODES + 1;
	table_unmap(&t);
	cr_expect_eq(table_map(&t, fd, false, &e), -ESTALE);
	close(fd);
}

/* Two names of one position, for the plain hash that positions once were: any tail keeps it so. */
static uint64_t fnv(const char *p)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	while (*p)
		h = (h ^ (uint8_t)*p++) * 0x100000001b3ULL;
	return h;
}

Test(fs_table, positions_cannot_be_made_to_meet)
{
	static const char one[] = "OJeJj3Djl5c", other[] = "GCER0nuvkdd";
	int fd = file(), fd2 = file();
	struct table t, t2;
	uint64_t at;

	fresh(&t, fd);
	fresh(&t2, fd2);
	cr_assert_eq(fnv(one), fnv(other), "the pair is one");
	at = cookie_of(t.head->dir_key, span_str(one));
	cr_expect_neq(at, cookie_of(t.head->dir_key, span_str(other)));
	cr_expect_neq(at, cookie_of(t2.head->dir_key, span_str(one)), "each mount has a key of its own");
	again(&t, fd);
	cr_expect_eq(at, cookie_of(t.head->dir_key, span_str(one)), "readers go on with the next process");
	table_unmap(&t);
	table_unmap(&t2);
	close(fd);
	close(fd2);
}

Test(fs_table, positions_are_siphash)
{
	uint8_t key[COOKIE_KEY_LEN], data[64];
	size_t i;

	for (i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)i;
	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	/* from the vectors of its authors */
	cr_expect_eq(cookie_hash(key, SPAN(data, 0)), 0x726fdb47dd0e0e31ULL);
	cr_expect_eq(cookie_hash(key, SPAN(data, 1)), 0x74f839c593dc67fdULL);
	cr_expect_eq(cookie_hash(key, SPAN(data, 8)), 0x93f5f5799a932462ULL);
	cr_expect_eq(cookie_hash(key, SPAN(data, 15)), 0xa129ca6149be45e5ULL);
}
