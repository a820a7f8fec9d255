/* SPDX-License-Identifier: Apache-2.0 */
/* Layers as the store sees them: what is written down of one, its digest, what fsck says of one that is not what it
 * was, and that a backup brings it back. Images are made at random, with holes where chance puts them. */
#include "store-lib.h"

#include "host/store/backup.h"

#include <fcntl.h>
#include <stdlib.h>

static struct place place;
static struct wsdb *ws;
static char layers_dir[256];
static struct digest tree;

static void setup(void)
{
	struct node root = make_node(1, S_IFDIR | 0755);
	struct txn *t = NULL;

	place_make(&place, 1 << 30);
	snprintf(layers_dir, sizeof(layers_dir), "%s.layers", place.dir);
	cr_assert_eq(mkdir(layers_dir, 0700), 0);
	cr_assert_eq(wsdb_open(place.store, "a", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &root);
	meta_put_u64(t, "root-fid", 1);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(ws, 0, &tree, NULL), 0);
}

static void teardown(void)
{
	wsdb_close(&ws);
	place_free(&place);
	nftw(layers_dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(layer, .init = setup, .fini = teardown);

/* --- images ------------------------------------------------------------------------------------------------------- */

static int image(const char *name, uint64_t size, unsigned seed)
{
	AUTO(str_free) char *path = str_printf("%s/%s", layers_dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint8_t block[9000];
	unsigned i;

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	srand(seed);
	for (i = 0; i < 60 && size; i++) {
		uint64_t at = ((uint64_t)rand() * 4096) % size;
		size_t most = (size_t)(rand() % (int)sizeof(block)) + 1, len = MIN(most, (size_t)(size - at));

		fill(block, len, seed + i);
		if (i % 7 == 0)
			memset(block, 0, len); /* data that are zeros */
		cr_assert_eq(pwrite(fd, block, len, (off_t)at), (ssize_t)len);
	}
	return fd;
}

/* The same bytes without a single hole. */
static int without_holes(int from, uint64_t size)
{
	char path[] = "/tmp/berth-layer-XXXXXX";
	uint8_t *all = must_calloc(size + 1, 1);
	int fd = mkostemp(path, O_CLOEXEC);

	unlink(path);
	cr_assert_eq(pread(from, all, size, 0), (ssize_t)size);
	cr_assert_eq(pwrite(fd, all, size, 0), (ssize_t)size);
	free(all);
	return fd;
}

static struct digest digest_is(int fd, uint64_t want)
{
	struct digest d;
	uint64_t size = 1;

	cr_assert_eq(layer_digest(fd, NULL, &size, &d), 0);
	cr_assert_eq(size, want, "%llu and not %llu", (unsigned long long)size, (unsigned long long)want);
	return d;
}

Test(layer, digest_breaks_off)
{
	int fd = image("stop", 1 << 20, 3);
	struct digest d = { .b = { 0 } };
	bool stop = true;
	uint64_t size = 7;

	cr_assert_eq(layer_digest(fd, &stop, &size, &d), -ECANCELED);
	cr_assert(size == 7 && digest_is_zero(&d), "it told something");
	stop = false;
	cr_assert_eq(layer_digest(fd, &stop, &size, &d), 0);
	cr_assert_eq(size, 1 << 20);
	close(fd);
}

Test(layer, digest_is_of_bytes_and_not_of_holes)
{
	static const uint64_t sizes[] = { 0, 1, 65536, 65537, 1 << 20, (6 << 20) + 4097 };
	struct digest a, b, c;
	size_t i;
	int fd, full;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		fd = image("one", sizes[i], 7 + (unsigned)i);
		full = without_holes(fd, sizes[i]);
		a = digest_is(fd, sizes[i]);
		b = digest_is(full, sizes[i]);
		cr_expect(digest_eq(&a, &b), "%llu bytes", (unsigned long long)sizes[i]);
		/* One byte, at the very end, and one more of size. */
		if (sizes[i]) {
			cr_assert_eq(pwrite(full, "\377", 1, (off_t)sizes[i] - 1), 1);
			c = digest_is(full, sizes[i]);
			cr_expect(!digest_eq(&a, &c));
		}
		cr_assert_eq(ftruncate(fd, (off_t)sizes[i] + 1), 0);
		c = digest_is(fd, sizes[i] + 1);
		cr_expect(!digest_eq(&a, &c));
		close(fd);
		close(full);
	}
}

/* The same bytes elsewhere are another image. */
Test(layer, digest_is_of_places)
{
	int a = image("one", 0, 1), b = image("two", 0, 1);
	struct digest x, y;

	cr_assert_eq(ftruncate(a, 1 << 20), 0);
	cr_assert_eq(ftruncate(b, 1 << 20), 0);
	cr_assert_eq(pwrite(a, "x", 1, 0), 1);
	cr_assert_eq(pwrite(b, "x", 1, 65536), 1);
	x = digest_is(a, 1 << 20);
	y = digest_is(b, 1 << 20);
	cr_expect(!digest_eq(&x, &y));
	close(a);
	close(b);
}

Test(layer, words_there_and_back)
{
	struct layer_words w = { .memory_b = 5, .cpu_milli = 6, .pids = 7, .size = 8, .digest = tree }, back;
	AUTO(str_free) char *old = NULL;
	struct buf b;

	memset(w.layer, 'a', LAYER_NAME_LEN);
	snprintf(w.template_, sizeof(w.template_), "base");
	buf_init(&b, LAYER_WORDS_MAX);
	layer_words_put(&b, &w);
	cr_assert_eq(layer_words_read(buf_span(&b), &back), 0);
	cr_expect_str_eq(back.layer, w.layer);
	cr_expect_str_eq(back.template_, "base");
	cr_expect(back.memory_b == 5 && back.cpu_milli == 6 && back.pids == 7 && back.size == 8);
	cr_expect(digest_eq(&back.digest, &tree));
	buf_fini(&b);
	/* As earlier versions wrote it; and what is none. */
	old = str_printf("layer %s\nnew 1\ncpu 6\n", w.layer);
	cr_expect_eq(layer_words_read(span_str(old), &back), 0);
	cr_expect_eq(back.size, 0U);
	cr_expect_eq(back.cpu_milli, 6U);
	cr_expect_eq(layer_words_read(span_str("layer ../../etc/shadow\n"), &back), -EIO);
	cr_expect_eq(layer_words_read(span_str("cpu 6\n"), &back), -EIO);
}

/* --- fsck --------------------------------------------------------------------------------------------------------- */

static char said[4096];

static void hear(UNUSED void *ctx, const char *words)
{
	size_t len = strlen(said);

	snprintf(said + len, sizeof(said) - len, "%s\n", words);
}

static int open_one(UNUSED void *ctx, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/%s", layers_dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int each_one(UNUSED void *ctx, int (*fn)(void *to, const char *name), void *to)
{
	static const char letters[] = "abc";
	char name[LAYER_NAME_LEN + 1] = "";
	int i, r = 0;

	for (i = 0; r == 0 && letters[i]; i++) {
		memset(name, letters[i], LAYER_NAME_LEN);
		r = fn(to, name);
	}
	return r;
}

static struct store_layers layers = { .open = open_one, .each = each_one };

static uint64_t problems(struct store *store)
{
	struct fsck_stats st = { .problems = 0 };
	struct err e = ERR_NULL;

	said[0] = '\0';
	cr_assert_eq(store_fsck_with(store, &layers, hear, NULL, &st, &e), 0, "%s", e.text);
	return st.problems;
}

static void fact(const char *key, const char *text)
{
	struct txn *t = NULL;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	meta_put(t, key, span_str(text));
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

/* A snapshot with a layer of this letter, and the layer. */
static void with_layer(const char *snapshot, char letter, uint64_t size)
{
	struct layer_words w = { .cpu_milli = 1000, .size = size };
	AUTO(str_free) char *key = str_printf("layer/%s", snapshot);
	AUTO(str_free) char *door = str_printf("door/%s", snapshot);
	struct snapshot s = { .root = tree };
	struct txn *t = NULL;
	struct buf b;
	int fd;

	memset(w.layer, letter, LAYER_NAME_LEN);
	snprintf(w.template_, sizeof(w.template_), "base");
	fd = image(w.layer, size, (unsigned char)letter);
	w.digest = digest_is(fd, size);
	close(fd);
	snprintf(s.name, sizeof(s.name), "%s", snapshot);
	buf_init(&b, LAYER_WORDS_MAX);
	layer_words_put(&b, &w);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(snapshot_put(t, &s, NULL), 0);
	meta_put(t, key, buf_span(&b));
	meta_put(t, door, span_str("{}"));
	cr_assert_eq(txn_commit(&t, NULL), 0);
	buf_fini(&b);
}

static char *path_of(char letter)
{
	char name[LAYER_NAME_LEN + 1] = "";

	memset(name, letter, LAYER_NAME_LEN);
	return str_printf("%s/%s", layers_dir, name);
}

static void expect(const char *words)
{
	cr_assert_eq(problems(place.store), 1U, "%s", said);
	cr_assert_not_null(strstr(said, words), "said: %s, want: %s", said, words);
}

Test(layer, fsck_names_what_is_not_what_it_was)
{
	AUTO(str_free) char *path = path_of('a');
	AUTO(str_free) char *other = path_of('b');
	int fd;

	with_layer("one", 'a', 1 << 20);
	with_layer("two", 'b', 1 << 20);
	cr_assert_eq(problems(place.store), 0U, "%s", said);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, "\1", 1, 700000), 1);
	expect("the layer of snapshot one, aaaaaaaaaaaaaaaa, is damaged");
	cr_assert_eq(ftruncate(fd, 1 << 19), 0);
	expect("has 524288 bytes and should have 1048576");
	close(fd);
	cr_assert_eq(unlink(path), 0);
	expect("the layer of snapshot one, aaaaaaaaaaaaaaaa, is missing");
	layers.may_lack = true;
	cr_expect_eq(problems(place.store), 0U, "%s", said);
	cr_expect_not_null(strstr(said, "snapshot one has no layer any more"), "%s", said);
	layers.may_lack = false;
	cr_assert_eq(mkdir(path, 0700), 0);
	expect("is no file");
	cr_assert_eq(rmdir(path), 0);
	cr_assert_eq(link(other, path), 0);
	expect("the layer of snapshot one, aaaaaaaaaaaaaaaa, is damaged"); /* it is another's */
}

Test(layer, fsck_names_rows_of_nobody)
{
	struct txn *t = NULL;

	with_layer("one", 'a', 1 << 20);
	fact("door/none", "{}");
	expect("there is a row door/none, and no such snapshot");
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(meta_del(t, "door/none"), 0);
	cr_assert_eq(snapshot_del(t, "one", NULL), 0);
	cr_assert_eq(meta_del(t, "door/one"), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	expect("there is a row layer/one, and no such snapshot");
}

Test(layer, fsck_names_rows_without_sense)
{
	with_layer("one", 'a', 1 << 20);
	fact("layer/one", "layer ../../etc/shadow\n");
	expect("the row layer/one names no layer");
}

/* --- in a backup -------------------------------------------------------------------------------------------------- */

static int to_fd(void *ctx, const void *p, size_t len)
{
	ssize_t n = write(*(int *)ctx, p, len);

	return n == (ssize_t)len ? 0 : -EIO;
}

static int backup(void)
{
	char path[] = "/tmp/berth-backup-XXXXXX";
	struct err e = ERR_NULL;
	int fd = mkostemp(path, O_CLOEXEC);

	unlink(path);
	cr_assert_eq(store_backup(place.store, &layers, to_fd, &fd, &e), 0, "%s", e.text);
	return fd;
}

/* Return: of store_restore(). What comes is at "DIR.again" and "LAYERS.again", and removed before. */
static int again(int fd, char dir[128], char to[256])
{
	struct err e = ERR_NULL;

	snprintf(dir, 128, "%s.again", place.dir);
	snprintf(to, 256, "%.200s.again", layers_dir);
	nftw(dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
	nftw(to, place_rm, 16, FTW_DEPTH | FTW_PHYS);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	return store_restore(fd, dir, to, &e);
}

Test(layer, backup_brings_them_back)
{
	struct store_conf conf = { .create = false };
	struct store *store = NULL;
	char dir[128], to[256], was[256];
	struct stat before, after;
	AUTO(str_free) char *path = NULL;
	int fd;

	with_layer("one", 'a', 64 << 20);
	with_layer("two", 'b', (5 << 20) + 4097);
	path = path_of('a');
	fd = backup();
	cr_assert_eq(again(fd, dir, to), 0);
	cr_assert_eq(store_open(dir, &conf, &store, NULL), 0);
	memcpy(was, layers_dir, sizeof(was));
	snprintf(layers_dir, sizeof(layers_dir), "%s", to);
	cr_expect_eq(problems(store), 0U, "%s", said);
	store_close(&store);
	cr_assert_eq(stat(path, &before), 0);
	str_free(&path);
	path = path_of('a');
	cr_assert_eq(stat(path, &after), 0);
	cr_expect_leq(after.st_blocks, before.st_blocks, "its holes are holes");
	cr_expect_eq(after.st_mode & 07777, 0600U);
	memcpy(layers_dir, was, sizeof(was));
	nftw(dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
	nftw(to, place_rm, 16, FTW_DEPTH | FTW_PHYS);
	close(fd);
}

/* Whatever byte of it is another: it is refused, or nothing of it was wrong. */
Test(layer, backup_that_was_changed_is_refused)
{
	char dir[128], to[256];
	int fd, i, refused = 0;
	uint64_t size, at;
	uint8_t byte;

	with_layer("one", 'a', 1 << 20);
	fd = backup();
	size = (uint64_t)lseek(fd, 0, SEEK_END);
	srand(3);
	for (i = 0; i < 40; i++) {
		at = (uint64_t)rand() % size;
		cr_assert_eq(pread(fd, &byte, 1, (off_t)at), 1);
		byte ^= 0x41;
		cr_assert_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
		refused += again(fd, dir, to) == -EBADMSG;
		byte ^= 0x41;
		cr_assert_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	cr_expect_gt(refused, 20); /* of tar's own fields and padding nobody depends */
	cr_expect_eq(again(fd, dir, to), 0);
	nftw(dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
	nftw(to, place_rm, 16, FTW_DEPTH | FTW_PHYS);
	close(fd);
}
