/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of the store, one JSON line each: goal, unit, figure, peer, ratio (figure / peer, 0 without a peer). The peer
 * is a file for each content, named by its hash: written under a temporary name, fsynced, renamed, its directory
 * fsynced.
 *
 *	bench-store [DIR] [MIB]
 *
 * DIR must be on the disk that is meant. MIB is the size of the big file, 1024 by default.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/store/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 20, SMALL_FILES = 2000, SMALL_B = 4096, NODES = 16000, PER_DIR = 100, SPINS = 200000 };

struct bench {
	char dir[200], peer[220];
	struct store *store;
	uint64_t big_b;
	struct content big;
	uint8_t *piece;
};

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, err_name(r));
	exit(1);
}

static void tell(const char *name, const char *goal, const char *unit, double figure, double peer)
{
	printf("{\"name\":\"%s\",\"goal\":\"%s\",\"unit\":\"%s\",\"figure\":%.3f,\"peer\":%.3f,\"ratio\":%.3f}\n", name,
	       goal, unit, figure, peer, peer > 0 ? figure / peer : 0);
	fflush(stdout);
}

static double since(uint64_t t)
{
	return (double)(clock_now() - t) / 1e9;
}

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		memcpy(p + i, &seed, 8);
	}
}

/* The peer: a content of @b bytes from pieces @seed, seed + 1 …; named by @name. */
static void peer_put(struct bench *b, const char *name, uint64_t len, uint64_t seed, bool do_fill)
{
	AUTO(str_free) char *temp = str_printf("%s/%s.new", b->peer, name);
	AUTO(str_free) char *path = str_printf("%s/%s", b->peer, name);
	AUTO(fd_close) int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	AUTO(fd_close) int dir = open(b->peer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t at;

	for (at = 0; at < len; at += PIECE, seed++) {
		size_t part = MIN(len - at, (uint64_t)PIECE);

		if (do_fill)
			fill(b->piece, part, seed);
		digest_of("chunk", SPAN(b->piece, part));
		must(io_write_full(fd, b->piece, part), "peer write");
	}
	must(fsync(fd), "peer fsync");
	must(rename(temp, path), "peer rename");
	must(fsync(dir), "peer fsync of the directory");
}

/* The peer's new version of a big content: all of it again, with the kernel's own copy. */
static void peer_version(struct bench *b, const char *from, const char *to, uint64_t grow)
{
	AUTO(str_free) char *a = str_printf("%s/%s", b->peer, from);
	AUTO(str_free) char *t = str_printf("%s/%s", b->peer, to);
	AUTO(fd_close) int in = open(a, O_RDONLY | O_CLOEXEC), out = open(t, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	struct stat st;
	ssize_t n = 1;

	while (n > 0)
		n = copy_file_range(in, NULL, out, NULL, 1 << 30, 0);
	must((int)n, "peer copy");
	must(fstat(out, &st), "peer stat");
	fill(b->piece, PIECE, 5);
	if (pwrite(out, b->piece, grow ? grow : 4096, grow ? st.st_size : st.st_size / 2) < 0)
		must(-errno, "peer change");
	must(fsync(out), "peer fsync");
}

static double peer_read(struct bench *b, const char *name, bool cold)
{
	AUTO(str_free) char *path = str_printf("%s/%s", b->peer, name);
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t t;

	if (cold)
		must(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "forget the peer");
	t = clock_now();
	while (read(fd, b->piece, PIECE) > 0)
		;
	return since(t);
}

static void reopen(struct bench *b, bool cold)
{
	struct store_conf conf = { .create = true };
	AUTO(str_free) char *path = str_printf("%s/store/content/data.mdb", b->dir);
	AUTO(str_free) char *dir = str_printf("%s/store", b->dir);

	store_close(&b->store);
	if (cold) {
		AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

		must(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "forget the store");
	}
	must(store_open(dir, &conf, &b->store, NULL), "open the store");
}

static double read_all(struct bench *b)
{
	uint64_t at, t = clock_now();

	for (at = 0; at < b->big_b; at += PIECE)
		must((int)content_read(b->store, &b->big, at, b->piece, PIECE, false), "read");
	return since(t);
}

static void big_write(struct bench *b)
{
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(b->store, NULL);
	uint64_t at, t = clock_now();
	double mine, peer;

	for (at = 0; at < b->big_b; at += PIECE) {
		fill(b->piece, PIECE, at / PIECE);
		must(content_write(w, at, SPAN(b->piece, PIECE)), "write");
	}
	must(content_finish(w, &b->big), "finish");
	must(store_settle(b->store, NULL), "settle");
	mine = since(t);
	t = clock_now();
	peer_put(b, "big", b->big_b, 0, true);
	peer = since(t);
	tell("write_big", "durable, hashed", "MB/s", (double)b->big_b / mine / 1e6, (double)b->big_b / peer / 1e6);
}

static void big_read(struct bench *b)
{
	double cold, warm, peer_cold, peer_warm, mb = (double)b->big_b / 1e6;

	reopen(b, true);
	cold = read_all(b);
	warm = read_all(b);
	peer_cold = peer_read(b, "big", true);
	peer_warm = peer_read(b, "big", false);
	tell("read_big_cold", "half of a file", "MB/s", mb / cold, mb / peer_cold);
	tell("read_big_warm", "half of a file", "MB/s", mb / warm, mb / peer_warm);
}

static void big_change(struct bench *b, uint64_t grow)
{
	struct store_stats before, after;
	struct content c;
	uint64_t t, i;
	double mine, peer;

	must(store_stat(b->store, &before, NULL), "stat");
	t = clock_now();
	for (i = 0; i < 10; i++) {
		AUTO(content_writer_free) struct content_writer *w = content_writer_new(b->store, &b->big);

		fill(b->piece, PIECE, 1000000 + i + grow);
		must(content_write(w, grow ? b->big_b : b->big_b / 11 * i, SPAN(b->piece, grow ? grow : 4096)),
		     "change");
		must(content_finish(w, &c), "finish");
		must(store_settle(b->store, NULL), "settle");
	}
	mine = since(t) / 10;
	must(store_stat(b->store, &after, NULL), "stat");
	t = clock_now();
	peer_version(b, "big", "second", grow);
	peer = since(t);
	tell(grow ? "append_1mib" : "change_4kib", "below 20 ms", "ms", mine * 1e3, peer * 1e3);
	tell(grow ? "append_1mib_stored" : "change_4kib_stored", "of one more version", "KiB",
	     (double)(after.content_used_b - before.content_used_b) / 10 / 1024, (double)(b->big_b + grow) / 1024);
}

static void storage(struct bench *b)
{
	struct store_stats st;

	must(store_stat(b->store, &st, NULL), "stat");
	tell("stored_versions_21", "file / bytes of one version", "ratio", (double)st.content_used_b / (double)b->big_b,
	     21);
}

static void small_node(struct txn *t, uint64_t fid, const struct content *c)
{
	struct node n = { .fid = fid, .mode = S_IFREG | 0644, .nlink = 1, .size = c->size, .content = *c };
	char name[32];

	snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
	node_put(t, &n);
	entry_put(t, 1, span_str(name), fid);
}

static double small_files(struct bench *b, const char *id, int group, uint64_t seed)
{
	struct wsdb *ws = NULL;
	uint64_t t;
	int i, k;

	must(wsdb_open(b->store, id, true, &ws, NULL), "open a workspace");
	t = clock_now();
	for (i = 0; i < SMALL_FILES; i += group) {
		struct content c[64];
		struct txn *x = NULL;

		for (k = 0; k < group; k++) {
			AUTO(content_writer_free) struct content_writer *w = content_writer_new(b->store, NULL);

			fill(b->piece, SMALL_B, seed + (uint64_t)(i + k));
			must(content_write(w, 0, SPAN(b->piece, SMALL_B)), "write");
			must(content_finish(w, &c[k]), "finish");
		}
		must(store_settle(b->store, NULL), "settle");
		must(txn_write(ws, &x, NULL), "begin");
		for (k = 0; k < group; k++)
			small_node(x, (uint64_t)(i + k) + 2, &c[k]);
		must(txn_commit(&x, NULL), "commit");
	}
	wsdb_close(&ws);
	return SMALL_FILES / since(t);
}

static void small(struct bench *b)
{
	double one = small_files(b, "single", 1, 7000000), many = small_files(b, "grouped", 40, 8000000), peer;
	uint64_t t = clock_now();
	char name[32];
	int i;

	for (i = 0; i < SMALL_FILES; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		fill(b->piece, SMALL_B, (uint64_t)i + 9000000);
		peer_put(b, name, SMALL_B, 0, false);
	}
	peer = SMALL_FILES / since(t);
	tell("small_files_one_by_one", "each durable", "files/s", one, peer);
	tell("small_files_groups_of_40", "2000", "files/s", many, peer);
}

struct flood {
	struct bench *b;
	_Atomic bool stop;
};

static void *flood_main(void *ctx)
{
	struct flood *f = ctx;
	AUTO(mem_free) uint8_t *piece = malloc(PIECE);
	uint64_t at;
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(f->b->store, NULL);

	for (at = 0; !f->stop && at < (UINT64_C(4) << 30); at += PIECE) {
		fill(piece, PIECE, 50000000 + at);
		must(content_write(w, at, SPAN(piece, PIECE)), "flood");
	}
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void fairness(struct bench *b)
{
	struct flood f = { .b = b };
	static double ms[20000];
	uint64_t until;
	pthread_t thread;
	size_t i;

	must(-pthread_create(&thread, NULL, flood_main, &f), "start a flood");
	until = clock_after_ms(1500);
	for (i = 0; i < ARRAY_LEN(ms) && clock_now() < until; i++) {
		AUTO(content_writer_free) struct content_writer *w = content_writer_new(b->store, NULL);
		struct content c;
		uint64_t t;

		fill(b->piece, SMALL_B, 60000000 + i);
		t = clock_now();
		must(content_write(w, 0, SPAN(b->piece, SMALL_B)), "write");
		must(content_finish(w, &c), "finish");
		must(store_settle(b->store, NULL), "settle");
		ms[i] = since(t) * 1e3;
	}
	f.stop = true;
	pthread_join(thread, NULL);
	qsort(ms, i, sizeof(ms[0]), by_number);
	tell("small_settle_in_a_flood_p50", "below 100 ms", "ms", ms[i / 2], 0);
	tell("small_settle_in_a_flood_p99", "below 200 ms", "ms", ms[i * 99 / 100], 0);
}

static void make_tree(struct wsdb *ws, const struct content *c)
{
	struct node dir = { .mode = S_IFDIR | 0755, .nlink = 2 };
	struct txn *t = NULL;
	uint64_t i;

	must(txn_write(ws, &t, NULL), "begin");
	dir.fid = 1;
	node_put(t, &dir);
	meta_put_u64(t, "root-fid", 1);
	for (i = 0; i < NODES; i++) {
		uint64_t parent = 1000000 + i / PER_DIR;
		struct node n = { .fid = i + 10, .mode = S_IFREG | 0644, .nlink = 1, .content = *c, .size = c->size };
		char name[32];

		if (i % PER_DIR == 0) {
			dir.fid = parent;
			snprintf(name, sizeof(name), "dir%llu", (unsigned long long)(i / PER_DIR));
			node_put(t, &dir);
			entry_put(t, 1, span_str(name), parent);
		}
		snprintf(name, sizeof(name), "file%llu", (unsigned long long)i);
		node_put(t, &n);
		entry_put(t, parent, span_str(name), n.fid);
	}
	must(txn_commit(&t, NULL), "commit");
}

static double peer_snapshot(struct bench *b)
{
	AUTO(str_free) char *base = str_printf("%s/s0", b->peer);
	uint64_t t = clock_now();
	AUTO(fd_close) int fd = -1;
	char path[300];
	int i;

	for (i = 0; i < NODES; i++) {
		if (i % PER_DIR == 0) {
			snprintf(path, sizeof(path), "%s/snap%d", b->peer, i / PER_DIR);
			must(mkdir(path, 0750), "peer mkdir");
		}
		snprintf(path, sizeof(path), "%s/snap%d/%d", b->peer, i / PER_DIR, i);
		must(link(base, path), "peer link");
	}
	fd = open(b->peer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(syncfs(fd), "peer syncfs");
	return since(t) * 1e3;
}

static void snapshot(struct bench *b)
{
	struct wsdb *ws = NULL;
	struct digest d;
	struct txn *x = NULL;
	struct node n;
	double first, one, none, peer = peer_snapshot(b);
	uint64_t t;

	must(wsdb_open(b->store, "tree", true, &ws, NULL), "open a workspace");
	make_tree(ws, &b->big);
	t = clock_now();
	must(tree_seal(ws, 0, &d, NULL), "seal");
	first = since(t) * 1e3;
	must(txn_write(ws, &x, NULL), "begin");
	must(node_get(x, 500, &n), "get");
	n.mtime_ns++;
	node_put(x, &n);
	must(txn_commit(&x, NULL), "commit");
	t = clock_now();
	must(tree_seal(ws, 0, &d, NULL), "seal");
	one = since(t) * 1e3;
	t = clock_now();
	must(tree_seal(ws, 0, &d, NULL), "seal");
	none = since(t) * 1e3;
	wsdb_close(&ws);
	tell("snapshot_16000_files_first", "-", "ms", first, peer);
	tell("snapshot_one_file_changed", "below 10 ms", "ms", one, peer);
	tell("snapshot_nothing_changed", "below 1 ms", "ms", none, peer);
}

static void micro(struct bench *b)
{
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct node n;
	uint64_t start, fid, i;
	char name[32];
	double us;

	must(wsdb_open(b->store, "tree", false, &ws, NULL), "open a workspace");
	start = clock_now();
	for (i = 0; i < SPINS; i++) {
		must(txn_read(ws, &t, NULL), "read");
		txn_abort(&t);
	}
	tell("txn_read_and_abort", "1", "us", since(start) * 1e6 / SPINS, 0);
	must(txn_read(ws, &t, NULL), "read");
	start = clock_now();
	for (i = 0; i < SPINS; i++)
		must(node_get(t, i * 7919 % NODES + 10, &n), "get");
	tell("node_get", "1", "us", since(start) * 1e6 / SPINS, 0);
	start = clock_now();
	for (i = 0; i < SPINS; i++) {
		uint64_t k = i * 7919 % NODES;

		snprintf(name, sizeof(name), "file%llu", (unsigned long long)k);
		must(entry_get(t, 1000000 + k / PER_DIR, span_str(name), &fid), "get");
	}
	tell("entry_get", "1", "us", since(start) * 1e6 / SPINS, 0);
	start = clock_now();
	for (i = 0; i < NODES / PER_DIR; i++) {
		struct span at = SPAN_NULL;

		while (entry_next(t, 1000000 + i, at, &at, &fid) == 0)
			;
	}
	us = since(start) * 1e6;
	tell("entry_next", "1", "us", us / NODES, 0);
	txn_abort(&t);
	start = clock_now();
	for (i = 0; i < SPINS; i++)
		must((int)content_read(b->store, &b->big, i * 7919 * 4096 % b->big_b, b->piece, 4096, false), "read");
	tell("content_read_4kib_random", "3", "us", since(start) * 1e6 / SPINS, 0);
	start = clock_now();
	for (i = 0; i < 300; i++) {
		must(txn_write(ws, &t, NULL), "write");
		n.fid = i + 10;
		node_put(t, &n);
		must(txn_commit(&t, NULL), "commit");
	}
	us = since(start) * 1e6 / 300;
	tell("txn_commit_one_node", "durable, below 2 ms", "us", us, 0);
	wsdb_close(&ws);
}

static int rm(const char *path, UNUSED const struct stat *st, UNUSED int type, UNUSED struct FTW *f)
{
	return remove(path);
}

int main(int argc, char **argv)
{
	struct bench b = { .store = NULL };

	b.big_b = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1024) << 20;
	snprintf(b.dir, sizeof(b.dir), "%s/berth-bench-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
	if (!mkdtemp(b.dir))
		must(-errno, "make a directory");
	snprintf(b.peer, sizeof(b.peer), "%s/peer", b.dir);
	must(mkdir(b.peer, 0750), "make a directory");
	b.piece = must_calloc(1, PIECE);
	reopen(&b, false);
	big_write(&b);
	big_read(&b);
	big_change(&b, 0);
	big_change(&b, PIECE);
	storage(&b);
	small(&b);
	snapshot(&b);
	micro(&b);
	fairness(&b);
	store_close(&b.store);
	nftw(b.dir, rm, 16, FTW_DEPTH | FTW_PHYS);
	mem_free(&b.piece);
	return 0;
}
