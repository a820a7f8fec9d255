/* SPDX-License-Identifier: Apache-2.0 */
/* Large writes are cut, on demand only; those of a commit are. Pieces are seen as messages or counted by the kernel. */
#include "host/store/pace.h"
#include "store-lib.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { LARGE = 3 * PACE_PIECE_B + 1000, SMALL = 4096, PARTS = 64 };

static uint8_t bytes[LARGE], back[LARGE];
static int near_end, far_end;

static void setup(void)
{
	int ends[2], room = 4 * LARGE;

	fill(bytes, sizeof(bytes), 1);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	near_end = ends[0];
	far_end = ends[1];
	cr_assert_eq(setsockopt(near_end, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)), 0, "needs CAP_NET_ADMIN");
}

TestSuite(pace, .init = setup);

/* Takes every message that is there. Returns how many; *@ret_most: the longest. */
static int take_all(size_t *ret_len, size_t *ret_most)
{
	size_t at = 0, most = 0;
	ssize_t n;
	int k = 0;

	while (at < sizeof(back) && (n = recv(far_end, back + at, sizeof(back) - at, 0)) > 0) {
		at += (size_t)n;
		most = (size_t)n > most ? (size_t)n : most;
		k++;
	}
	*ret_len = at;
	*ret_most = most;
	return k;
}

Test(pace, a_message_stays_one_unless_it_is_asked_for)
{
	struct iovec two[2] = { { bytes, LARGE / 2 }, { bytes + LARGE / 2, LARGE - LARGE / 2 } };
	size_t len, most;

	cr_assert_eq(writev(near_end, two, 2), LARGE);
	cr_assert_eq(take_all(&len, &most), 1);
	cr_assert_eq(len, LARGE);
	pace_begin();
	cr_assert_eq(writev(near_end, two, 2), LARGE);
	pace_end();
	cr_assert_eq(take_all(&len, &most), 4);
	cr_assert_eq(len, LARGE);
	cr_assert_leq(most, PACE_PIECE_B);
	cr_assert_eq(memcmp(back, bytes, LARGE), 0);
	cr_assert_eq(writev(near_end, two, 2), LARGE);
	cr_assert_eq(take_all(&len, &most), 1);
}

Test(pace, small_parts_share_a_piece)
{
	struct iovec parts[PARTS];
	size_t len, most;
	int i;

	for (i = 0; i < PARTS; i++)
		parts[i] = (struct iovec){ bytes + i * SMALL, SMALL };
	pace_begin();
	cr_assert_eq(writev(near_end, parts, PARTS), PARTS * SMALL);
	cr_assert_eq(writev(near_end, parts, 0), 0);
	pace_end();
	cr_assert_eq(take_all(&len, &most), PARTS * SMALL / PACE_PIECE_B);
	cr_assert_eq(len, PARTS * SMALL);
	cr_assert_eq(most, PACE_PIECE_B);
	cr_assert_eq(memcmp(back, bytes, len), 0);
}

Test(pace, what_does_not_fit_is_a_short_count_and_then_an_error)
{
	struct rlimit most = { 2 * PACE_PIECE_B + 10, 2 * PACE_PIECE_B + 10 };
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct iovec one = { bytes, LARGE };

	cr_assert_geq(fd, 0);
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &most), 0);
	pace_begin();
	cr_assert_eq(pwrite(fd, bytes, LARGE, 0), 2 * PACE_PIECE_B + 10);
	cr_assert_eq(pwrite(fd, bytes, LARGE, PACE_PIECE_B), PACE_PIECE_B + 10);
	cr_assert_eq(lseek(fd, PACE_PIECE_B, SEEK_SET), PACE_PIECE_B);
	cr_assert_eq(writev(fd, &one, 1), PACE_PIECE_B + 10);
	cr_assert_eq(writev(fd, &one, 1), -1);
	cr_assert_eq(errno, EFBIG);
	cr_assert_eq(pwrite(fd, bytes, LARGE, 2 * PACE_PIECE_B + 10), -1);
	cr_assert_eq(errno, EFBIG);
	pace_end();
	cr_assert_eq(pread(fd, back, LARGE, 0), 2 * PACE_PIECE_B + 10);
	cr_assert_eq(memcmp(back + PACE_PIECE_B, bytes, PACE_PIECE_B + 10), 0);
	close(fd);
}

static uint64_t io(const char *name)
{
	FILE *f = fopen("/proc/self/io", "re");
	char word[32];
	unsigned long long value;
	bool found = false;

	cr_assert_not_null(f);
	while (!found && fscanf(f, "%31s %llu", word, &value) == 2)
		found = strcmp(word, name) == 0;
	fclose(f);
	cr_assert(found, "no %s in /proc/self/io", name);
	return value;
}

/* It fails where the library's writes pass the functions by. */
Test(pace, a_commit_is_written_in_pieces)
{
	static const char *const tables[] = { "t" };
	char dir[] = "/tmp/berth-store-XXXXXX";
	struct db_conf conf = { .path = dir, .map_size_b = 64 << 20, .tables = tables, .n_tables = 1 };
	static uint8_t value[16 << 20];
	uint64_t calls, written;
	struct db_txn *t = NULL;
	struct db *db = NULL;

	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(db_open(&conf, &db, NULL), 0);
	fill(value, sizeof(value), 2);
	cr_assert_eq(db_begin(db, true, &t, NULL), 0);
	cr_assert_eq(db_put(t, 0, span_str("large"), SPAN(value, sizeof(value)), DB_PUT_NEW), 0);
	calls = io("syscw:");
	written = io("wchar:");
	cr_assert_eq(db_commit(&t), 0);
	calls = io("syscw:") - calls;
	written = io("wchar:") - written;
	cr_expect_geq(written, sizeof(value));
	cr_expect_leq(written / calls, PACE_PIECE_B);
	db_close(&db);
	nftw(dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
}
