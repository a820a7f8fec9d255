/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of a collection, one JSON line each as bench-store has them: how fast it marks and sweeps, and what somebody
 * who writes sees of it (a small file, settled and committed, again and again).
 *
 *	bench-gc [DIR] [FILES]
 *
 * FILES live ones and as many dead, of 4 KiB, 100,000 by default; half of the directories are only in a snapshot.
 */
#include "base/clock.h"
#include "base/str.h"
#include "host/store/inside.h"

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 4096, PER_DIR = 100, BATCH = 1000, PROBES = 20000, ROOT = 1 };

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, err_name(r));
	exit(1);
}

static void tell(const char *name, const char *unit, double figure, double peer)
{
	printf("{\"name\":\"%s\",\"goal\":\"\",\"unit\":\"%s\",\"figure\":%.3f,\"peer\":%.3f,\"ratio\":%.3f}\n", name,
	       unit, figure, peer, peer > 0 ? figure / peer : 0);
	fflush(stdout);
}

static struct node plain(uint64_t fid, uint32_t mode)
{
	return (struct node){ .fid = fid, .ino = fid, .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1 };
}

static void put(struct store *store, struct txn *t, uint64_t fid, uint64_t dir, uint64_t seed)
{
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(store, NULL);
	struct node n = plain(fid, S_IFREG | 0644);
	uint64_t piece[SIZE / 8];
	char name[32];
	size_t i;

	for (i = 0; i < ARRAY_LEN(piece); i++)
		piece[i] = seed * 0x9e3779b97f4a7c15u + i;
	must(content_write(w, 0, SPAN(piece, sizeof(piece))), "write");
	must(content_finish(w, &n.content), "finish");
	n.size = SIZE;
	node_put(t, &n);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
	entry_put(t, dir, span_str(name), fid);
}

static void fill(struct store *store, struct wsdb *ws, uint64_t files, uint64_t seed)
{
	uint64_t i, dir = 0;

	for (i = 0; i < files;) {
		uint64_t end = MIN(i + BATCH, files);
		struct txn *t = NULL;

		must(txn_write(ws, &t, NULL), "begin");
		for (; i < end; i++) {
			if (i % PER_DIR == 0) {
				struct node d = plain(10 + i / PER_DIR, S_IFDIR | 0755);
				char name[32];

				dir = d.fid;
				node_put(t, &d);
				snprintf(name, sizeof(name), "d%llu", (unsigned long long)dir);
				entry_put(t, ROOT, span_str(name), dir);
			}
			put(store, t, 1000000 + i, dir, seed + i);
		}
		must(store_settle(store, NULL), "settle");
		must(txn_commit(&t, NULL), "commit");
	}
}

static struct wsdb *make(struct store *store, const char *id)
{
	struct node root = plain(ROOT, S_IFDIR | 0755);
	struct wsdb *ws = NULL;
	struct txn *t = NULL;

	must(wsdb_open(store, id, true, &ws, NULL), "make a workspace");
	must(txn_write(ws, &t, NULL), "begin");
	node_put(t, &root);
	meta_put_u64(t, "root-fid", ROOT);
	must(txn_commit(&t, NULL), "commit");
	return ws;
}

struct probe {
	struct store *store;
	struct wsdb *ws;
	uint64_t ns[PROBES], seed;
	size_t n;
	bool stop; /* atomic */
};

static void *probe(void *ctx)
{
	struct probe *p = ctx;

	for (p->n = 0; p->n < PROBES && !__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE); p->n++) {
		uint64_t began = clock_now();
		struct txn *t = NULL;

		must(txn_write(p->ws, &t, NULL), "begin");
		put(p->store, t, 5, ROOT, p->seed++);
		must(store_settle(p->store, NULL), "settle");
		must(txn_commit(&t, NULL), "commit");
		p->ns[p->n] = clock_now() - began;
	}
	return NULL;
}

static int up(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double percentile(struct probe *p, unsigned of)
{
	qsort(p->ns, p->n, sizeof(p->ns[0]), up);
	return p->n ? (double)p->ns[p->n * of / 100] / 1e6 : 0;
}

/* A collection beside the probe, and the same length of time without one. */
static void beside(struct store *store, struct wsdb *ws, unsigned flags, const char *what)
{
	static struct probe p;
	pthread_t thread;
	struct gc_stats st;
	struct timespec nap;
	char name[64];
	double p50, p99;

	p = (struct probe){ .store = store, .ws = ws, .seed = UINT64_C(1) << 40 };
	must(-pthread_create(&thread, NULL, probe, &p), "thread");
	must(store_gc(store, flags, &st, NULL), "collect");
	__atomic_store_n(&p.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	p50 = percentile(&p, 50);
	p99 = percentile(&p, 99);
	snprintf(name, sizeof(name), "gc_%s_mark", what);
	tell(name, "objects/s", (double)st.live * 1000 / (double)MAX(st.mark_ms, (uint64_t)1), 0);
	snprintf(name, sizeof(name), "gc_%s_sweep", what);
	tell(name, "objects/s", (double)st.freed * 1000 / (double)MAX(st.took_ms - st.mark_ms, (uint64_t)1), 0);
	snprintf(name, sizeof(name), "gc_%s_memory", what);
	tell(name, "bytes/object", (double)st.memory_b / (double)(st.live + st.freed), 0);
	nap = (struct timespec){ .tv_sec = (time_t)(st.took_ms / 1000),
				 .tv_nsec = (long)(st.took_ms % 1000) * 1000000 };
	p.stop = false;
	must(-pthread_create(&thread, NULL, probe, &p), "thread");
	nanosleep(&nap, NULL);
	__atomic_store_n(&p.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	snprintf(name, sizeof(name), "commit_p50_beside_gc_%s", what);
	tell(name, "ms", p50, percentile(&p, 50));
	snprintf(name, sizeof(name), "commit_p99_beside_gc_%s", what);
	tell(name, "ms", p99, percentile(&p, 99));
}

static int rm(const char *path, UNUSED const struct stat *st, UNUSED int type, UNUSED struct FTW *f)
{
	return remove(path);
}

int main(int argc, char **argv)
{
	AUTO(str_free) char *dir = str_printf("%s/bench-gc-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
	struct store_conf conf = { .create = true };
	uint64_t files = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
	struct snapshot s = { .name = "s" };
	struct wsdb *live, *prober;
	struct store *store = NULL;
	struct txn *t = NULL;
	unsigned round;

	must(mkdtemp(dir) ? 0 : -1, "make a directory");
	must(store_open(dir, &conf, &store, NULL), "open");
	live = make(store, "live");
	prober = make(store, "prober");
	fill(store, live, files / 2, 1);
	must(tree_seal(live, 0, &s.root, NULL), "seal");
	must(txn_write(live, &t, NULL), "begin");
	must(snapshot_put(t, &s, NULL), "snapshot");
	must(txn_commit(&t, NULL), "commit");
	fill(store, live, files / 2, 1000000); /* over the others, which the snapshot has */
	for (round = 0; round < 2; round++) {
		struct wsdb *dead = make(store, "dead");
		struct digest root;

		fill(store, dead, files, 10000000 * (round + 1));
		must(tree_seal(dead, 0, &root, NULL), "seal");
		wsdb_close(&dead);
		must(wsdb_remove(store, "dead", NULL), "remove");
		beside(store, prober, round ? GC_EAGER : 0, round ? "eager" : "resting");
	}
	wsdb_close(&live);
	wsdb_close(&prober);
	store_close(&store);
	nftw(dir, rm, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}
