/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replication: random operations, a barrier, and the model that was built only from CHANGES against the disk; shipping
 * of contents; reconnects. On an ext4 with a handed-down fanotify group where that is possible, and with inotify.
 */
#include "guest-lab.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct dice {
	uint64_t state;
	bool no_links;
	char log[6000]; /* operations of this round: number in operate(), and both paths */
	size_t log_len;
};

static unsigned roll(struct dice *d, unsigned n)
{
	d->state ^= d->state << 13;
	d->state ^= d->state >> 7;
	d->state ^= d->state << 17;
	return (unsigned)(d->state >> 11) % n;
}

/* A path of up to four names out of few, so that operations meet. */
static const char *anywhere(const struct lab *l, struct dice *d)
{
	static const char *const names[] = { "a", "b", "c", "d", "e" };
	char path[64] = "";
	unsigned i, depth = 1 + roll(d, 4);

	for (i = 0; i < depth; i++) {
		strcat(path, i ? "/" : "");
		strcat(path, names[roll(d, ARRAY_LEN(names))]);
	}
	return lab_path(l, path);
}

static void put(const char *path, int flags, size_t len, struct dice *d)
{
	char data[9000];
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | flags, 0644);

	if (fd < 0)
		return;
	memset(data, 'a' + (int)roll(d, 26), sizeof(data));
	(void)!write(fd, data, MIN(len, sizeof(data)));
	close(fd);
}

static void remove_any(const char *path)
{
	char cmd[256];

	if (unlink(path) == 0 || rmdir(path) == 0)
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", path);
	(void)!system(cmd);
}

static void operate(const struct lab *l, struct dice *d)
{
	const char *p = anywhere(l, d), *q = anywhere(l, d);
	unsigned kind;
	bool links =
		l->fan >= 0 &&
		!d->no_links; /* inotify does not say which file got another name: part of why it is the lower rung */

	kind = roll(d, 16);
	d->log_len += snprintf(d->log + d->log_len, sizeof(d->log) - d->log_len, "%u %s %s\n", kind,
			       p + strlen(l->ws), q + strlen(l->ws));
	switch (kind) {
	case 0:
	case 1:
	case 2:
		put(p, O_TRUNC, roll(d, 9000), d);
		break;
	case 3:
		put(p, O_APPEND, roll(d, 100), d);
		break;
	case 4:
	case 5:
	case 6:
		mkdir(p, 0755);
		break;
	case 7:
	case 8:
	case 9:
		rename(p, q);
		break;
	case 10:
		renameat2(AT_FDCWD, p, AT_FDCWD, q, 2);
		break;
	case 11:
		(void)!(links ? link(p, q) : mknod(p, S_IFIFO | 0600, 0));
		break;
	case 12:
		symlink("somewhere/else", p);
		break;
	case 13:
		if (roll(d, 2))
			chmod(p, 0600 + roll(d, 64));
		else
			(void)!truncate(p, roll(d, 5000));
		break;
	case 14:
		unlink(p);
		break;
	default:
		if (roll(d, 4) == 0)
			remove_any(p);
		else
			rmdir(p);
	}
}

static void model_check(const char *watcher, unsigned rounds, const char *keep)
{
	struct dice d = { .state = 0x9e3779b97f4a7c15ULL, .no_links = *keep };
	struct host h;
	struct lab l;
	unsigned i, k;

	if (!lab_start(&l, watcher)) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	for (i = 0; i < 50; i++)
		operate(&l, &d);
	host_open_keep(&h, &l, true, keep);
	cr_assert_eq(host_call(&h, MSG_INFO, &(struct msg_INFO){ 0 }), MSG_INFO_IS);
	cr_assert_str_eq(h.slug, str_eq(watcher, "fanotify") ? "fanotify-fs" : watcher);
	cr_assert_eq(host_check(&h, false), 0, "after the first scan");
	for (i = 0; i < rounds; i++) {
		for (k = 0; k < 30; k++)
			operate(&l, &d);
		host_barrier(&l, &h);
		cr_assert_eq(host_check(&h, false), 0, "round %u\n%s", i, d.log);
		d.log_len = 0;
		if (i % 50 == 49) {
			cr_assert_eq(host_sync(&h), MSG_OK);
			cr_assert_eq(host_check(&h, true), 0, "contents, round %u", i);
		}
		if (i % 70 == 69)
			host_reopen(&h);
	}
	cr_assert_eq(h.overflows, 0);
	host_close(&h);
	lab_stop(&l);
}

/* A directory that cannot be read is not an empty one: the host hears of no end of the scan, so that it removes
 * nothing. */
Test(watch, a_disk_that_fails_is_not_empty)
{
	char room[512];
	const struct msg_CHANGES *changes = (const void *)room;
	const struct msg_ERROR *error = (const void *)room;
	struct msg_REPLICATE ask = { .call = 1 };
	bool said = false;
	struct wire w;
	struct lab l;
	unsigned type;

	lab_unreadable = true;
	cr_assert(lab_start(&l, "inotify"));
	lab_fill(lab_path(&l, "a"), 0, 100, 1);
	cr_assert(wire_dial(&l, &w, WIRE_CONTROL, l.token));
	wire_send(&w, MSG_REPLICATE, &ask);
	while ((type = wire_next(&w, room))) {
		if (type == MSG_CHANGES)
			cr_expect(!(changes->flags & WIRE_CHG_SCAN_END), "the scan has an end");
		if (type == MSG_ERROR && error->call == 0)
			said = span_eq(error->slug, span_str("unreadable"));
	}
	cr_expect(said, "it hung up without a word");
	wire_close(&w);
	lab_stop(&l);
}

Test(watch, model_with_fanotify, .timeout = 200)
{
	model_check("fanotify", getenv("BERTH_LONG") ? 3000 : 150, "");
}

Test(watch, model_with_inotify, .timeout = 200)
{
	model_check("inotify", getenv("BERTH_LONG") ? 3000 : 150, "");
}

/* By names alone, and by places: then a directory that moves changes what is in it. */
static const char *const rules[] = { "[none]\na/\ne\n[names]\nc\n!b\n",
				     "[none]\n/a/b\n/b/**/c\nd/*/e/\n[names]\n/c\n**/e\n" };

static void model_kept(const char *watcher)
{
	unsigned rounds = getenv("BERTH_LONG") ? 3000 : 100;

	model_check(watcher, rounds, rules[0]);
	model_check(watcher, rounds, rules[1]);
}

Test(watch, model_of_what_is_kept_with_fanotify, .timeout = 2000)
{
	model_kept("fanotify");
}

Test(watch, model_of_what_is_kept_with_inotify, .timeout = 2000)
{
	model_kept("inotify");
}

/* Everything is changed by a process inside, and is known when its end is told. */
static void commands(const char *watcher)
{
	static const char script[] =
		"mkdir -p x/y/z w; for i in $(seq 200); do echo $i >x/y/f$i; done; mv x/y w/; ln w/y/f1 w/one; rm "
		"w/y/f2; "
		"echo more >>w/y/f3; mv w v; chmod 700 v/y; ln -s f3 v/y/link; truncate -s 5 v/y/f4; rm -r x";
	struct host h;
	struct run r;
	struct lab l;

	if (!lab_start(&l, watcher)) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	host_open(&h, &l, true);
	r = RUN(&l, &h, SPEC(0), "sh", "-c", script);
	cr_assert_eq(r.code, 0);
	run_fini(&r);
	cr_assert_eq(host_check(&h, false), 0);
	/* with inotify nobody knows whose name it was that is gone, if the file was told before it had two */
	r = RUN(&l, &h, SPEC(0), "sh", "-c", l.fan >= 0 ? "ln v/one v/y/two; rm -rf v/y" : "rm -rf v");
	run_fini(&r);
	cr_assert_eq(host_check(&h, false), 0);
	r = RUN(&l, &h, SPEC(0), "sh", "-c", "mkdir m; echo x >m/a; ln m/a m/b");
	run_fini(&r);
	/* m/a was told before it had two names */
	r = RUN(&l, &h, SPEC(0), "sh", "-c", l.fan >= 0 ? "rm m/b" : "rm -r m");
	run_fini(&r);
	cr_assert_eq(host_check(&h, false), 0);
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	host_close(&h);
	lab_stop(&l);
}

Test(watch, commands_with_fanotify)
{
	commands("fanotify");
}

Test(watch, commands_with_inotify)
{
	commands("inotify");
}

/* Four writers that move directories into each other's trees while the first scan, and a second one, are under way. */
static void crowd(const char *watcher)
{
	static const char script[] =
		"i=$0; o=$(( (i + 1) % 4 )); for j in $(seq 150); do mkdir -p t$i/$j/x/y; echo $j >t$i/$j/x/f; "
		"echo $j >t$i/$j/x/y/g; mv t$i/$j t$o/m$i-$j; echo more >>t$o/m$i-$j/x/y/g; "
		"[ $((j % 3)) = 0 ] && rm -rf t$o/m$i-$j; [ $((j % 5)) = 0 ] && mv t$o/m$i-$j/x t$i/x$j; done; :";
	struct run r[4];
	struct wire w[4];
	struct host h;
	struct lab l;
	unsigned i;

	if (!lab_start(&l, watcher)) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	for (i = 0; i < 4; i++) {
		char name[8] = { 't', (char)('0' + i), 0 };

		cr_assert_eq(mkdir(lab_path(&l, name), 0755), 0);
	}
	for (i = 0; i < 4; i++) {
		char number[8] = { (char)('0' + i), 0 };

		exec_send(&l, &w[i], SPEC(0), (const char *const[]){ "sh", "-c", script, number, NULL });
	}
	host_open(&h, &l, true);
	host_reopen(&h);
	for (i = 0; i < 4; i++) {
		r[i] = (struct run){ .slug = "" };
		exec_finish(&w[i], &h, SPEC(0), &r[i]);
		cr_assert_eq(r[i].how, WIRE_EXITED);
		run_fini(&r[i]);
		wire_close(&w[i]);
	}
	cr_assert_eq(host_check(&h, false), 0);
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	host_close(&h);
	lab_stop(&l);
}

Test(watch, a_crowd_with_fanotify, .timeout = 100)
{
	crowd("fanotify");
}

Test(watch, a_crowd_with_inotify, .timeout = 100)
{
	crowd("inotify");
}

/* EXIT waits for the acknowledgement of what the process changed. */
Test(watch, exit_comes_after_the_acknowledgement)
{
	struct host h;
	struct wire w;
	struct run r = { .slug = "" };
	struct lab l;
	char room[512];
	uint64_t before;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, false);
	host_barrier(&l, &h);
	h.hold_acks = true;
	before = h.seq;
	exec_send(&l, &w, SPEC(0), (const char *const[]){ "sh", "-c", "echo x >new", NULL });
	cr_assert_eq(wire_next(&w, room), MSG_STARTED);
	while (h.seq == before)
		host_serve(&h, 100);
	cr_assert_not(wire_ready(&w, 50)); /* told, not acknowledged: no EXIT yet */
	h.hold_acks = false;
	wire_send(&h.control, MSG_CHANGES_ACK, &(struct msg_CHANGES_ACK){ .seq = h.seq });
	exec_finish(&w, &h, SPEC(0), &r);
	cr_assert_eq(r.how, WIRE_EXITED);
	cr_assert_eq(host_check(&h, false), 0);
	run_fini(&r);
	wire_close(&w);
	host_close(&h);
	lab_stop(&l);
}

Test(watch, another_root_is_refused_and_control_is_replaced)
{
	struct msg_REPLICATE rep = { .call = 1, .root_fid = 1 };
	union {
		struct msg_ERROR error;
		char room[512];
	} got;
	struct wire a, b;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	cr_assert(wire_dial(&l, &a, WIRE_CONTROL, l.token));
	wire_send(&a, MSG_REPLICATE, &rep);
	cr_assert_eq(wire_next(&a, &got), MSG_ERROR);
	cr_assert(span_eq(got.error.slug, span_str("root-changed")));
	cr_assert(wire_dial(&l, &b, WIRE_CONTROL, l.token));
	cr_assert_eq(wire_next(&a, &got), 0);
	wire_close(&a);
	wire_close(&b);
	lab_stop(&l);
}

static void inside(const struct lab *l, struct host *h, const char *script)
{
	struct run r = RUN(l, h, SPEC(0), "sh", "-c", script);

	cr_assert_eq(r.code, 0, "%s: %.*s", script, (int)buf_len(&r.err), buf_str(&r.err));
	run_fini(&r);
}

/* A directory that was made, filled and renamed at once, also over an empty one: its name is told before what is in it,
 * and nothing has to be scanned for it. guest-lab.c fails when a name in an unknown directory is told. */
static void renamed_at_once(const char *watcher)
{
	AUTO(str_free) char *script = NULL;
	struct host h;
	unsigned scans;
	struct lab l;

	if (!lab_start(&l, watcher)) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	host_open(&h, &l, true);
	inside(&l, &h, "mkdir -p deep/er there");
	scans = h.scans;
	script = str_printf(
		"cd %s && mkdir a a/b a/b/c && echo f >a/b/c/f && mv a/b/c a/b/d && mv a/b a/e && mv a deep/er/g && "
		"mkdir h && echo i >h/i && mv -T h there && mkdir j && echo k >j/k && mv j there/l",
		l.ws);
	cr_assert_eq(kill(l.pid, SIGSTOP), 0);
	cr_assert_eq(system(script), 0);
	cr_assert_eq(kill(l.pid, SIGCONT), 0);
	host_barrier(&l, &h);
	cr_assert_eq(host_check(&h, false), 0);
	if (l.fan >= 0)
		cr_assert_eq(h.scans, scans);
	host_close(&h);
	lab_stop(&l);
}

Test(watch, renamed_at_once_with_fanotify)
{
	renamed_at_once("fanotify");
}

Test(watch, renamed_at_once_with_inotify)
{
	renamed_at_once("inotify");
}

/* Watches that the kernel holds for the agent. */
static unsigned watches(const struct lab *l)
{
	AUTO(str_free) char *path = str_printf("/proc/%d/fdinfo", (int)l->pid);
	DIR *dir = opendir(path);
	struct dirent *d;
	unsigned n = 0;

	cr_assert_not_null(dir);
	while ((d = readdir(dir))) {
		AUTO(str_free) char *name = str_printf("%s/%s", path, d->d_name);
		AUTO(buf_fini) struct buf b;
		const char *at;

		buf_init(&b, 0);
		if (d->d_name[0] == '.' || io_read_file(AT_FDCWD, name, &b) < 0)
			continue;
		for (at = buf_str(&b); (at = strstr(at, "inotify wd:")); at++)
			n++;
	}
	closedir(dir);
	return n;
}

static uint64_t known(struct host *h)
{
	cr_assert_eq(host_call(h, MSG_INFO, &(struct msg_INFO){ 0 }), MSG_INFO_IS);
	return h->dirs;
}

static void what_is_kept(const char *watcher)
{
	struct host h;
	struct lab l;
	unsigned before;
	uint64_t dirs;

	if (!lab_start(&l, watcher)) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	cr_assert_eq(mkdir(lab_path(&l, "node_modules"), 0755), 0);
	cr_assert_eq(mkdir(lab_path(&l, "node_modules/old"), 0755), 0);
	host_open_keep(&h, &l, true, "[none]\nnode_modules/\n/tmp/x\n[names]\n*.bin\n");
	inside(&l, &h, "mkdir -p src/lib tmp; echo x >src/lib/f");
	dirs = known(&h);
	cr_assert_eq(h.rules, 3);
	cr_assert_eq(dirs, l.fan >= 0 ? 5 : 4); /* with lost+found */
	before = watches(&l);
	/* What is not kept takes no watch, and nothing of it is told or shipped. */
	inside(&l, &h,
	       "for i in $(seq 300); do mkdir -p node_modules/$i/lib src/node_modules/$i; echo $i "
	       ">node_modules/$i/lib/f; done");
	cr_assert_eq(known(&h), dirs);
	cr_assert_eq(watches(&l), before);
	cr_assert_eq(host_check(&h, false), 0);
	/* Into what is not kept and back, and a second time; and from there to a place that is kept. */
	inside(&l, &h, "mv src/lib node_modules/lib; echo y >>node_modules/lib/f; mkdir -p node_modules/lib/deep/er");
	cr_assert_eq(known(&h), dirs - 1);
	cr_assert_eq(watches(&l), before - (before > 0));
	cr_assert_eq(host_check(&h, false), 0);
	inside(&l, &h, "mv node_modules/lib src/lib");
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	inside(&l, &h, "mv src/lib tmp/x; mv node_modules/7 src/seven");
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	inside(&l, &h, "mv tmp/x src/node_modules/x; mv src/node_modules src/was; mv src/was tmp/");
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	/* A file where a directory was, and the other way round: only directories of this name are not kept. */
	inside(&l, &h, "rm -rf node_modules; echo file >node_modules");
	cr_assert_eq(host_check(&h, false), 0);
	inside(&l, &h, "rm node_modules; mkdir -p node_modules/x");
	cr_assert_eq(host_check(&h, false), 0);
	host_close(&h);
	lab_stop(&l);
}

Test(watch, what_is_not_kept_with_fanotify)
{
	what_is_kept("fanotify");
}

Test(watch, what_is_not_kept_with_inotify)
{
	what_is_kept("inotify");
}

static struct inode *inode_at(struct host *h, const char *name)
{
	struct map_slot *slot;
	size_t pos = 0;

	while ((slot = map_next(&h->entries, &pos))) {
		struct entry *e = slot->value;

		if (str_eq(e->name, name))
			return map_get_u64(&h->inodes, e->fid);
	}
	return NULL;
}

static void fetch(struct host *h, const char *name)
{
	struct msg_FETCH m = { .fid = inode_at(h, name)->node.fid, .path = span_str(name) };

	wire_send(&h->control, MSG_FETCH, &m);
	cr_assert_eq(host_call(h, MSG_SYNC, &(struct msg_SYNC){ 0 }), MSG_OK);
}

Test(watch, names_alone_are_told_and_contents_fetched)
{
	struct host h;
	struct inode *i;
	struct lab l;
	uint64_t shipped;

	cr_assert(lab_start(&l, "inotify"));
	host_open_keep(&h, &l, true, "[names]\n*.bin\n");
	inside(&l, &h, "head -c 3000000 /dev/zero | tr '\\0' x >big.bin; echo small >a.txt; : >empty.bin");
	cr_assert_eq(host_call(&h, MSG_SYNC, &(struct msg_SYNC){ 0 }), MSG_OK);
	i = inode_at(&h, "big.bin");
	cr_assert(i && i->names && !i->has_data);
	cr_assert_eq(i->node.size, 3000000);
	cr_assert(inode_at(&h, "a.txt")->has_data && !inode_at(&h, "a.txt")->names);
	cr_assert_lt(h.ship_bytes, 1000);
	fetch(&h, "big.bin");
	cr_assert(inode_at(&h, "big.bin")->has_data);
	shipped = h.ship_bytes;
	/* It changes: told, and not shipped again. */
	inside(&l, &h, "echo more >>big.bin; mv a.txt b.bin; echo more >>b.bin; mkdir d; mv b.bin d/c.txt");
	cr_assert_eq(host_call(&h, MSG_SYNC, &(struct msg_SYNC){ 0 }), MSG_OK);
	cr_assert_eq(inode_at(&h, "big.bin")->node.size, 3000005);
	cr_assert_lt(h.ship_bytes - shipped, 1000, "the large one was shipped again");
	inside(&l, &h, "mv big.bin big.txt");
	cr_assert_eq(host_sync(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	host_close(&h);
	lab_stop(&l);
}

/* A file with a name that is kept and one that is not: what is written under the latter is told under the former. */
Test(watch, a_link_across_the_border)
{
	struct host h;
	struct lab l;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	host_open_keep(&h, &l, true, "[none]\nout/\n[names]\n*.bin\n");
	inside(&l, &h, "mkdir out; echo a >f; ln f g; ln f out/f; ln f f.bin");
	cr_assert_eq(host_call(&h, MSG_SYNC, &(struct msg_SYNC){ 0 }), MSG_OK);
	cr_assert_not(inode_at(&h, "f.bin")->names);
	inside(&l, &h, "echo b >>out/f");
	cr_assert_eq(host_call(&h, MSG_SYNC, &(struct msg_SYNC){ 0 }), MSG_OK);
	cr_assert_eq(inode_at(&h, "f")->node.size, 4);
	cr_assert_eq(inode_at(&h, "f")->data_len, 4);
	host_close(&h);
	lab_stop(&l);
}

Test(watch, rules_that_cannot_be_read_are_refused)
{
	struct msg_REPLICATE rep = { .rules = span_str("no heading\n") };
	struct host h;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, false);
	cr_assert_eq(host_call(&h, MSG_REPLICATE, &rep), MSG_ERROR);
	cr_assert_str_eq(h.slug, "bad-rules");
	host_close(&h);
	lab_stop(&l);
}
