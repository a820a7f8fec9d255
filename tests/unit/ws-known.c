/* SPDX-License-Identifier: Apache-2.0 */
/* What the mount has changed itself it is not told of, but for the inodes that an older answer may have described. */
#include "ws-lab.h"

static struct lab l;

enum { MANY = 50 };

/* What a listener heard. */
struct heard {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned announced, names, root, others, known;
};

static struct heard heard = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0, 0 };

static uint64_t announce(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
	return __atomic_add_fetch(&heard.announced, 1, __ATOMIC_RELAXED);
}

static void retract(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
}

static void changed(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	size_t i;

	(void)ctx, (void)ws;
	pthread_mutex_lock(&heard.lock);
	for (i = 0; i < n; i++) {
		heard.names += changes[i].parent != 0;
		heard.root += !changes[i].parent && changes[i].fid == LAB_ROOT;
		heard.others += !changes[i].parent && changes[i].fid != LAB_ROOT;
	}
	pthread_cond_broadcast(&heard.cond);
	pthread_mutex_unlock(&heard.lock);
}

static void known(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	size_t i;

	(void)ctx, (void)ws;
	for (i = 0; i < n; i++)
		heard.known += changes[i].parent != 0;
}

static const struct ws_listener listener = {
	.announce = announce, .retract = retract, .changed = changed, .known = known
};

static void made(void)
{
	lab_make(&l);
	ws_on_change(l.ws, &listener, NULL);
	lab_start(&l);
	ws_stop(l.ws);
	memset(&heard.announced, 0, sizeof(heard) - offsetof(struct heard, announced));
}

static void ended(void)
{
	lab_free(&l);
}

TestSuite(ws_known, .init = made, .fini = ended, .timeout = 60);

/* As the mount asks: it does not wait for the disk. */
static void answered(void *ctx, int result, const struct node *node)
{
	ws_wait_done(ctx, result, node);
}

static void await_root(unsigned n)
{
	pthread_mutex_lock(&heard.lock);
	while (heard.root < n)
		pthread_cond_wait(&heard.cond, &heard.lock);
	pthread_mutex_unlock(&heard.lock);
}

static struct node make(const char *name, ws_done_fn *fn)
{
	struct ws_wait *w = ws_wait_new();
	struct node n = { .fid = 0 };

	ws_make(l.ws, LAB_ROOT, span_str(name), S_IFREG | 0644, SPAN_NULL, fn, w);
	cr_assert_eq(ws_wait_end(&w, &n), 0);
	return n;
}

/* A listing or a stat of the directory may have been answered before each: it is told, once for many; what the answer
 * itself says is not. */
Test(ws_known, names_that_the_mount_made_are_not_told)
{
	struct ws_attr attr = { .which = WIRE_ATTR_MODE, .mode = 0600, .is_shown = true };
	struct ws_wait *w;
	char name[16];
	struct node n;
	int i;

	for (i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		n = make(name, answered);
		w = ws_wait_new();
		ws_write(l.ws, n.fid, 0, SPAN("text", 4), WS_SHOWN, answered, w);
		cr_assert_eq(ws_wait_end(&w, NULL), 0);
		w = ws_wait_new();
		ws_setattr(l.ws, n.fid, &attr, answered, w);
		cr_assert_eq(ws_wait_end(&w, NULL), 0);
	}
	w = ws_wait_new();
	ws_rename(l.ws, LAB_ROOT, span_str("f0"), LAB_ROOT, span_str("g0"), 0, answered, w);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	w = ws_wait_new();
	ws_remove(l.ws, LAB_ROOT, span_str("f1"), 0, answered, w);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	await_root(1);
	pthread_mutex_lock(&heard.lock);
	cr_assert_eq(heard.names, 0);
	cr_assert_eq(heard.known, MANY + 3);
	cr_assert_leq(heard.others, 2, "a file was told that was written: %u", heard.others);
	pthread_mutex_unlock(&heard.lock);
	/* The next change after that is told again. */
	i = (int)heard.root;
	make("later", answered);
	await_root((unsigned)i + 1);
	lab_fsck(&l);
}

Test(ws_known, what_others_did_is_told)
{
	make("f", ws_wait_done);
	await_root(1);
	cr_assert_eq(heard.names, 1);
	cr_assert_eq(heard.known, 0);
}
