/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel that takes what it is told only when a change through the mount was answered, whose pages it holds. */
#include "host/store/inside.h"
#include "ws-lab.h"

enum { MANY = 20, A_MOMENT_MS = 50, SCAN = WIRE_CHG_SCAN, SCAN_END = WIRE_CHG_SCAN | WIRE_CHG_SCAN_END };

static struct lab l;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool is_stuck;
	unsigned told; /* so often something was, or is about to be */
} kernel = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static uint64_t announce(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
	return 1;
}

static void retract(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
}

static void changed(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
	pthread_mutex_lock(&kernel.lock);
	kernel.told++;
	pthread_cond_broadcast(&kernel.cond);
	while (kernel.is_stuck)
		pthread_cond_wait(&kernel.cond, &kernel.lock);
	pthread_mutex_unlock(&kernel.lock);
}

static void stuck(bool is)
{
	pthread_mutex_lock(&kernel.lock);
	kernel.is_stuck = is;
	kernel.told = 0;
	pthread_cond_broadcast(&kernel.cond);
	pthread_mutex_unlock(&kernel.lock);
}

static void await_told(void)
{
	pthread_mutex_lock(&kernel.lock);
	while (!kernel.told)
		pthread_cond_wait(&kernel.cond, &kernel.lock);
	pthread_mutex_unlock(&kernel.lock);
}

static const struct ws_listener listener = { .announce = announce, .retract = retract, .changed = changed };

static void begin(void)
{
	lab_make(&l);
	ws_on_change(l.ws, &listener, NULL);
}

static void end(void)
{
	stuck(false);
	lab_fsck(&l);
	lab_free(&l);
}

TestSuite(ws_after, .init = begin, .fini = end, .timeout = 60);

static void file_in_scan(const char *name, uint64_t fid)
{
	struct msg_NODE n = lab_node(fid, S_IFREG | 0644, 0, 6);

	lab_add(&l, 0, LAB_ROOT, name, &n);
}

/* The agent tells no more than so many batches before the first is acknowledged. A change that was asked of an earlier
 * daemon waits for the end of the scan. */
Test(ws_after, the_first_scan_does_not_wait_for_the_kernel)
{
	struct ws_wait *w = ws_wait_new();
	struct err e = ERR_NULL;
	struct node n;

	stuck(true);
	ws_start(l.ws, l.address, l.token);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
	cr_assert_not(ws_is_told(l.ws));
	ws_when_told(l.ws, clock_after_ms(LAB_MS), ws_wait_done, w);
	lab_root(&l);
	file_in_scan("f", 12);
	lab_batch(&l, SCAN);
	file_in_scan("g", 13);
	lab_batch(&l, SCAN_END);
	await_told();
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	cr_assert(ws_is_told(l.ws));
	cr_assert_eq(ws_resolve(l.ws, "g", &n), 0);
	cr_assert_eq(ws_wait_ready(l.ws, clock_after_ms(A_MOMENT_MS), &e), -ETIMEDOUT, "the kernel does not know yet");
	stuck(false);
	cr_assert_eq(ws_wait_ready(l.ws, clock_after_ms(LAB_MS), &e), 0);
}

/* Behind it nothing is acknowledged that the kernel does not show: the end of a command waits for that. */
Test(ws_after, later_changes_wait_for_the_kernel)
{
	lab_start(&l);
	stuck(true);
	lab_file(&l, "f", 12, 0, 6);
	lab_tell(&l, 0);
	await_told();
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_CHANGES_ACK), 0);
	stuck(false);
	lab_acked(&l);
}

/* It is seen at once, and durable when it is acknowledged. */
Test(ws_after, what_is_acknowledged_is_durable)
{
	struct wsdb_late before, now;
	struct node n;
	uint64_t i;

	lab_start(&l);
	for (i = 0; i < MANY; i++) {
		wsdb_late(ws_db(l.ws), &before);
		lab_file(&l, "f", 12 + i, 0, 6);
		lab_tell(&l, 0);
		while (ws_resolve(l.ws, "f", &n) != 0 || n.fid != 12 + i)
			usleep(10);
		lab_acked(&l);
		wsdb_late(ws_db(l.ws), &now);
		cr_assert_gt(now.commits, before.commits, "it was not soon");
		cr_assert_eq(now.durable, now.commits);
	}
}

/* As when a sync fails. */
static void give_up(void)
{
	struct db *db;

	cr_assert_eq(wsdb_map(ws_db(l.ws), &db, NULL), 0);
	db_give_up(db);
	cr_assert_eq(db_went_back(db), 1);
	wsdb_unmap(ws_db(l.ws));
}

static void is_seen(const char *name)
{
	struct node n;

	while (ws_resolve(l.ws, name, &n) != 0)
		usleep(10);
}

/* Two share a sync that fails: neither is acknowledged, also when the next sync succeeds; the agent tells both again.
 * And whoever asks for a sync hears of it all the same. */
Test(ws_after, what_became_void_is_not_acknowledged)
{
	struct node n;

	lab_start(&l);
	stuck(true);
	lab_file(&l, "f", 12, 0, 6);
	lab_tell(&l, 0);
	is_seen("f");
	lab_file(&l, "g", 13, 0, 6);
	lab_tell(&l, 0);
	is_seen("g");
	give_up();
	stuck(false);
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_CHANGES_ACK), 0);
	cr_assert_eq(wsdb_sync(ws_db(l.ws), NULL), -EIO);
	cr_assert_eq(wsdb_sync(ws_db(l.ws), NULL), 0);
	cr_assert_eq(ws_resolve(l.ws, "f", &n), -ENOENT);
	lab_hangup(&l);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
	lab_root(&l);
	lab_file(&l, "f", 12, 0, 6);
	lab_file(&l, "g", 13, 0, 6);
	lab_batch(&l, SCAN_END);
	cr_assert_eq(ws_resolve(l.ws, "f", &n), 0);
	cr_assert_eq(ws_resolve(l.ws, "g", &n), 0);
}

static void answered(void *ctx, int result, const struct node *n)
{
	(void)n;
	__atomic_store_n((int *)ctx, result, __ATOMIC_RELEASE);
}

/* Who holds the pages of a file hears of its content, or that there is none, before the kernel; who opens it, after. */
static void a_content_comes(bool is_there)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, 5, 6);
	struct ws_wait *w = ws_wait_new();
	struct msg_FETCH fetch;
	struct msg_SHIP_ACK ack;
	int opened = 1;

	lab_start(&l);
	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	stuck(true);
	ws_held_content(l.ws, 12, clock_after_ms(LAB_MS), ws_wait_done, w);
	ws_open_content(l.ws, 12, clock_after_ms(LAB_MS), answered, &opened);
	lab_expect(l.control, &l.control_in, MSG_FETCH, &fetch);
	file_in_scan("g", 13); /* so that the kernel is told something in any case */
	if (!is_there)
		lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "f", NULL);
	lab_tell(&l, 0);
	await_told();
	lab_ship_begin(&l, 1, 0, &n);
	lab_ship_data(&l, 0, SPAN("hello", 5));
	lab_ship_end(&l, is_there, !is_there);
	cr_assert_eq(ws_wait_end(&w, NULL), is_there ? 0 : -ESTALE);
	cr_assert_eq(__atomic_load_n(&opened, __ATOMIC_ACQUIRE), 1);
	if (is_there) /* the next one is not sent before: it may be that one which is waited for */
		lab_expect(l.ship, &l.ship_in, MSG_SHIP_ACK, &ack);
	stuck(false);
	while (__atomic_load_n(&opened, __ATOMIC_ACQUIRE) == 1)
		usleep(1000);
	cr_assert_eq(opened, is_there ? 0 : -ESTALE);
}

Test(ws_after, who_holds_the_pages_does_not_wait_for_the_kernel)
{
	a_content_comes(true);
}

Test(ws_after, who_holds_the_pages_hears_of_no_content)
{
	a_content_comes(false);
}
