/* SPDX-License-Identifier: Apache-2.0 */
/* Shipping by a real agent: whole files, what differs, holes; files that never rest or go away; credit that is short.
 */
#include "guest-lab.h"

#include "base/io.h"
#include "base/str.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

Test(ship, whole_sparse_delta_and_fetch)
{
	struct msg_FETCH fetch = { .path = span_str("large") };
	struct inode *i;
	struct host h;
	struct lab l;
	uint64_t bytes;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, true);
	lab_fill(lab_path(&l, "large"), 0, 6 << 20, 1);
	lab_fill(lab_path(&l, "sparse"), 30 << 20, 5000, 2);
	lab_fill(lab_path(&l, "small"), 0, 10, 3);
	close(open(lab_path(&l, "empty"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	cr_assert_lt(h.ship_bytes, 30 << 20);
	bytes = h.ship_bytes;
	lab_fill(lab_path(&l, "large"), 2 << 20, 100, 9);
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	cr_assert_geq(h.deltas, 1);
	cr_assert_leq(h.ship_bytes - bytes, h.deltas * 2 * 262144);
	cr_assert_eq(truncate(lab_path(&l, "large"), (5 << 20) + 77), 0); /* shorter, and grown by a hole */
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(truncate(lab_path(&l, "large"), 7 << 20), 0);
	lab_fill(lab_path(&l, "large"), (6 << 20) + 5, 3, 7);
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	/* a FETCH ships again, also what nobody wrote */
	i = NULL;
	for (size_t pos = 0; !i || i->node.size != 7 << 20;)
		i = map_next(&h.inodes, &pos)->value;
	bytes = h.ships;
	fetch.fid = i->node.fid;
	wire_send(&h.control, MSG_FETCH, &fetch);
	while (h.ships == bytes)
		host_serve(&h, 100);
	fetch.fid = 12345;
	wire_send(&h.control, MSG_FETCH, &fetch);
	while (!h.gone)
		host_serve(&h, 100);
	cr_assert_eq(host_check(&h, true), 0);
	host_close(&h);
	lab_stop(&l);
}

/* A store into a shared mapping has no event: the census of a sync finds it. */
Test(ship, sync_sees_shared_mappings)
{
	struct host h;
	struct lab l;
	char *map;
	int fd;

	cr_assert(lab_start(&l, "inotify"));
	lab_fill(lab_path(&l, "mapped"), 0, 8192, 1);
	host_open(&h, &l, true);
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	fd = open(lab_path(&l, "mapped"), O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(map, MAP_FAILED);
	close(fd);
	map[5000] = 'Z';
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	map[5001] = 'Y';
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	munmap(map, 8192);
	host_close(&h);
	lab_stop(&l);
}

/* A file that is written all the time is shipped nevertheless, and settles when the writer ends. */
Test(ship, a_file_that_never_rests)
{
	struct run r = { .slug = "" };
	struct host h;
	struct wire w;
	struct lab l;
	char room[512];

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, true);
	exec_send(&l, &w, SPEC(.id = "writer"),
		  (const char *const[]){ "sh", "-c", "while [ ! -e stop ]; do echo some more text >>log; done", NULL });
	cr_assert_eq(wire_next(&w, room), MSG_STARTED);
	while (h.ships < 2)
		host_serve(&h, 100);
	close(open(lab_path(&l, "stop"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	exec_finish(&w, &h, SPEC(0), &r);
	cr_assert_eq(r.how, WIRE_EXITED);
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	run_fini(&r);
	wire_close(&w);
	host_close(&h);
	lab_stop(&l);
}

Test(ship, a_removed_file_is_let_go_before_the_command_has_ended)
{
	struct host h;
	struct lab l;
	struct run r;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, true);
	h.hold_credit = true; /* so it stays under way */
	r = RUN(&l, &h, SPEC(0), "dd", "if=/dev/zero", "of=big", "bs=1M", "count=16");
	cr_assert_eq(r.code, 0);
	run_fini(&r);
	while (!h.ship_bytes)
		host_serve(&h, 100);
	r = RUN(&l, &h, SPEC(0), "rm", "big");
	cr_assert_eq(r.code, 0);
	cr_assert_not(lab_holds_removed(&l));
	/* What was begun of it while dd wrote may have used up all that there was. */
	h.hold_credit = false;
	host_pay(&h, h.owed);
	h.owed = 0;
	cr_assert_eq(host_sync(&h), MSG_OK);
	run_fini(&r);
	host_close(&h);
	lab_stop(&l);
}

/* Seen when it is whole: what was begun before has used up credit that never comes back, or was not large yet. */
static void lay_whole(struct lab *l, const char *name, size_t len, int byte)
{
	lab_fill(lab_path(l, "../made"), 0, len, byte);
	cr_assert_eq(rename(lab_path(l, "../made"), lab_path(l, name)), 0);
}

/* A large file that lacks credit: it waits. */
static void hold_large(struct host *h, struct lab *l)
{
	cr_assert(lab_start(l, "inotify"));
	host_open(h, l, true);
	h->hold_credit = true;
	lay_whole(l, "large", 16 << 20, 1);
	while (h->ship_bytes + WIRE_SHIP_LARGE < WIRE_SHIP_WINDOW || h->now.node.size < 16 << 20)
		host_serve(h, 100);
	h->ships = h->voids = 0; /* of it while it was made */
}

static void let_go(struct host *h, struct lab *l)
{
	h->hold_credit = false;
	host_pay(h, h->owed);
	cr_assert_eq(host_sync(h), MSG_OK);
	cr_assert_eq(host_check(h, true), 0);
	host_close(h);
	lab_stop(l);
}

Test(ship, small_files_pass_a_large_one_that_lacks_credit)
{
	struct host h;
	struct lab l;
	unsigned i;

	hold_large(&h, &l);
	lay_whole(&l, "large2", 8 << 20, 4);
	for (i = 0; i < 40; i++) {
		char name[16];

		snprintf(name, sizeof(name), "small%u", i);
		lay_whole(&l, name, 1000, 2);
	}
	while (h.ships < 40)
		host_serve(&h, 100);
	cr_assert_geq(h.asides, 1);
	cr_assert_leq(h.ship_bytes, (3 << 20) + 40 * 1000);
	let_go(&h, &l);
	cr_assert_geq(h.ships, 42);
}

Test(ship, a_large_one_that_rests_is_removed)
{
	struct host h;
	struct lab l;
	struct run r;

	hold_large(&h, &l);
	/* what passes it uses up the rest of the credit, so that both wait */
	lab_fill(lab_path(&l, "middle"), 0, 1 << 20, 2);
	lab_fill(lab_path(&l, "middle2"), 0, 1 << 20, 2);
	while (h.ships < 1 || !h.now.is_open || !h.aside.is_open)
		host_serve(&h, 100);
	r = RUN(&l, &h, SPEC(0), "rm", "large");
	cr_assert_eq(r.code, 0);
	run_fini(&r);
	cr_assert_not(lab_holds_removed(&l));
	let_go(&h, &l);
}

/* It changes while it waits: what was read is void, and all of it comes as it is then. */
Test(ship, a_large_one_that_changes_while_it_waits)
{
	struct host h;
	struct lab l;

	hold_large(&h, &l);
	lab_fill(lab_path(&l, "large"), 5 << 20, 4000, 7);
	while (!h.voids) {
		host_pay(&h, 1);
		host_serve(&h, 100);
	}
	cr_assert_eq(h.ships, 0);
	cr_assert_leq(h.ship_bytes, 3 << 20);
	let_go(&h, &l);
}

/* A host of before hears nothing of it: one file at a time. */
Test(ship, nothing_rests_for_a_host_of_before)
{
	struct host h;
	struct lab l;

	lab_generation = 3;
	hold_large(&h, &l);
	lab_fill(lab_path(&l, "small"), 0, 1000, 2);
	host_pay(&h, 1 << 20);
	while (h.ship_bytes < 4 << 20)
		host_serve(&h, 100);
	cr_assert_eq(h.ships, 0);
	let_go(&h, &l);
	cr_assert_eq(h.asides, 0);
}

/* Credit in random portions, files of all sizes that change, and a connection that is lost now and then. */
Test(ship, credit_as_it_comes, .timeout = 120)
{
	unsigned seed = 3, round, i;
	struct host h;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, true);
	h.hold_credit = true;
	for (round = 0; round < 60; round++) {
		for (i = (unsigned)rand_r(&seed) % 4; i > 0; i--) {
			char name[16];

			snprintf(name, sizeof(name), "f%d", rand_r(&seed) % 12);
			if (rand_r(&seed) % 8 == 0)
				unlink(lab_path(&l, name));
			else
				lab_fill(lab_path(&l, name), (uint64_t)(rand_r(&seed) % (2 << 20)),
				     1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 2 ? 3 << 20 : 3000), rand_r(&seed));
		}
		host_pay(&h, (uint64_t)(rand_r(&seed) % (1 << 20)));
		host_serve(&h, rand_r(&seed) % 20);
		if (rand_r(&seed) % 16 == 0)
			host_reopen(&h);
	}
	cr_assert_geq(h.asides, 1);
	let_go(&h, &l);
}

Test(ship, sync_without_replication_or_shipping_says_so)
{
	struct msg_SYNC m = { .call = 7 };
	union {
		struct msg_ERROR error;
		char room[512];
	} got;
	struct wire w;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	cr_assert(wire_dial(&l, &w, WIRE_CONTROL, l.token));
	wire_send(&w, MSG_SYNC, &m);
	cr_assert_eq(wire_next(&w, &got), MSG_ERROR);
	cr_assert(span_eq(got.error.slug, span_str("not-replicating")));
	wire_close(&w);
	lab_stop(&l);
}
