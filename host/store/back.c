/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slot is 4,096 bytes: magic, kind, number, life of the machine, which page, size of a page, BACK_META_B bytes of the
 * page; then the digest of all that. The one with the higher number counts. Kinds: noted (go back to it when the
 * machine was another one), forgotten (nothing to do), and doomed (go back to it in any case: a sync has failed, and
 * what the page cache shows may be gone from it tomorrow).
 */
#include "host/store/back.h"

#include "base/io.h"
#include "base/str.h"
#include "host/store/key.h"
#include "seal/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

enum { SLOT_B = 4096, NOTED = 1, FORGOTTEN = 2, DOOMED = 3, MAGIC = 0x6261636b, PAGES_MAX_B = 65536 };

/* Where things are in a slot. */
enum { AT_MAGIC = 0, AT_KIND = 4, AT_NUMBER = 8, AT_BOOT = 16, AT_SLOT = 32, AT_PAGE = 36, AT_META = 40 };
enum { BODY_B = AT_META + BACK_META_B };

/* LMDB's own layout of a meta page: its number, and behind the page's header the meta, which ends with the number of
 * the transaction. In the machine's byte order. */
enum { META_PGNO = 0, META_TXNID = 144 };

struct state {
	unsigned kind; /* 0: no slot is valid */
	uint64_t number;
	uint8_t boot[BACK_BOOT_B];
	unsigned slot;
	size_t page_b;
	uint8_t meta[BACK_META_B];
};

struct back {
	char *dir;
	int fd;
	struct state now;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct digest this_life;

static void look_boot(void)
{
	AUTO(fd_close) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

	if (n > 0)
		this_life = digest_of("boot", SPAN(text, (size_t)n));
	else /* what is not known to be the same life is another one */
		random_bytes(this_life.b, sizeof(this_life.b));
}

__attribute__((weak)) void back_boot(uint8_t to[BACK_BOOT_B])
{
	pthread_once(&once, look_boot);
	memcpy(to, this_life.b, BACK_BOOT_B);
}

/* Its digest is that of its body. */
static void slot_read(int fd, unsigned which, struct state *best)
{
	uint8_t b[BODY_B + DIGEST_LEN];
	struct digest d;

	if (pread(fd, b, sizeof(b), (off_t)which * SLOT_B) != (ssize_t)sizeof(b) || get_u32(b + AT_MAGIC) != MAGIC)
		return;
	d = digest_of("back", SPAN(b, BODY_B));
	if (memcmp(d.b, b + BODY_B, DIGEST_LEN) != 0 || (best->kind && get_u64(b + AT_NUMBER) < best->number))
		return;
	best->kind = get_u32(b + AT_KIND);
	best->number = get_u64(b + AT_NUMBER);
	memcpy(best->boot, b + AT_BOOT, BACK_BOOT_B);
	best->slot = get_u32(b + AT_SLOT) & 1;
	best->page_b = get_u32(b + AT_PAGE);
	memcpy(best->meta, b + AT_META, BACK_META_B);
}

static int state_write(struct back *b, struct state *s, bool durable)
{
	uint8_t slot[SLOT_B] = { 0 };
	struct digest d;

	s->number = b->now.number + 1;
	put_u32(slot + AT_MAGIC, MAGIC);
	put_u32(slot + AT_KIND, s->kind);
	put_u64(slot + AT_NUMBER, s->number);
	back_boot(slot + AT_BOOT);
	put_u32(slot + AT_SLOT, s->slot);
	put_u32(slot + AT_PAGE, (uint32_t)s->page_b);
	memcpy(slot + AT_META, s->meta, BACK_META_B);
	d = digest_of("back", SPAN(slot, BODY_B));
	memcpy(slot + BODY_B, d.b, DIGEST_LEN);
	if (pwrite(b->fd, slot, SLOT_B, (off_t)(s->number % 2) * SLOT_B) != SLOT_B)
		return errno ? -errno : -EIO;
	if (durable && fdatasync(b->fd) < 0)
		return -errno;
	b->now = *s;
	return 0;
}

int back_open(const char *dir, struct back **ret)
{
	AUTO(str_free) char *path = str_printf("%s/back", dir);
	AUTO(back_close) struct back *b = NEW(struct back);
	off_t size;
	int r = 0;

	b->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (b->fd < 0)
		return -errno;
	b->dir = must_strdup(dir);
	slot_read(b->fd, 0, &b->now);
	slot_read(b->fd, 1, &b->now);
	size = lseek(b->fd, 0, SEEK_END);
	if (size < (off_t)2 * SLOT_B) { /* so that later writes change no length */
		AUTO(fd_close) int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		static const uint8_t zeros[2 * SLOT_B];

		if (pwrite(b->fd, zeros, sizeof(zeros), 0) != (ssize_t)sizeof(zeros))
			r = errno ? -errno : -EIO;
		if (r == 0 && (fsync(b->fd) < 0 || at < 0 || fsync(at) < 0))
			r = -errno;
	}
	if (r == 0)
		*ret = take(&b);
	return r;
}

void back_close(struct back **slot)
{
	struct back *b = take(slot);

	if (!b)
		return;
	fd_close(&b->fd);
	str_free(&b->dir);
	free(b);
}

int back_note(struct back *b, const void *meta, unsigned slot, size_t page_b)
{
	struct state s = { .kind = NOTED, .slot = slot, .page_b = page_b };

	memcpy(s.meta, meta, BACK_META_B);
	return state_write(b, &s, true);
}

int back_forget(struct back *b)
{
	struct state s = { .kind = FORGOTTEN };

	return state_write(b, &s, true);
}

static int put_page(int fd, const struct state *s, unsigned slot, uint64_t txnid)
{
	uint8_t meta[BACK_META_B];
	uint64_t pgno = slot;

	memcpy(meta, s->meta, BACK_META_B);
	memcpy(meta + META_PGNO, &pgno, sizeof(pgno));
	memcpy(meta + META_TXNID, &txnid, sizeof(txnid));
	return pwrite(fd, meta, BACK_META_B, (off_t)(slot * s->page_b)) == BACK_META_B ? 0 : errno ? -errno : -EIO;
}

/* Both meta pages: the one that was noted, and in the place of the other the same under the number before, which LMDB
 * takes for the older one. */
static int put_back(const char *dir, const struct state *s)
{
	AUTO(str_free) char *path = str_printf("%s/data.mdb", dir);
	AUTO(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t txnid;
	int r;

	if (fd < 0)
		return -errno;
	if (s->page_b < SLOT_B || s->page_b > PAGES_MAX_B)
		return -EPROTO;
	memcpy(&txnid, s->meta + META_TXNID, sizeof(txnid));
	r = put_page(fd, s, s->slot ^ 1, txnid - 1);
	return r ? r : put_page(fd, s, s->slot, txnid);
}

int back_go(struct back *b)
{
	struct state s = b->now;

	if (s.kind != NOTED && s.kind != DOOMED)
		return 0;
	s.kind = DOOMED;
	(void)!state_write(b, &s, false); /* the disk may refuse: then nobody learns of it but us */
	return put_back(b->dir, &s);
}

static int sync_data(const char *dir)
{
	AUTO(str_free) char *path = str_printf("%s/data.mdb", dir);
	AUTO(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || fdatasync(fd) < 0 ? -errno : 0;
}

int back_recover(const char *dir, bool read_only, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/back", dir);
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO(back_close) struct back *b = NULL;
	struct state s = { .kind = 0 };
	uint8_t boot[BACK_BOOT_B];
	bool is_same;
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "open %s", path);
	slot_read(fd, 0, &s);
	slot_read(fd, 1, &s);
	if (s.kind != NOTED && s.kind != DOOMED)
		return 0;
	back_boot(boot);
	is_same = s.kind == NOTED && memcmp(boot, s.boot, BACK_BOOT_B) == 0;
	if (read_only)
		return is_same ? 0
			       : err_set(e, -EROFS, "store-format",
					 "%s was left by a power loss: let berthd open it once", dir);
	r = is_same ? 0 : put_back(dir, &s);
	if (r == 0)
		r = sync_data(dir);
	if (r == 0)
		r = back_open(dir, &b);
	if (r == 0)
		r = back_forget(b);
	return r ? err_sys(e, r, "bring %s to its last durable state", dir) : 0;
}
