/* SPDX-License-Identifier: Apache-2.0 */
/* The ground floor: buffers, maps, strings, paths, descriptors, loop and pool. */
#include "base/follow.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/map.h"
#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"
#include "loop/loop.h"
#include "loop/pool.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

Test(buf, keeps_its_limit_and_order)
{
	struct buf b;
	char out[64];
	unsigned i, want = 0;

	buf_init(&b, 64);
	for (i = 0; i < 10000; i++) {
		unsigned char c = (unsigned char)i;

		cr_assert_eq(buf_append(&b, &c, 1), 0);
		if (buf_len(&b) == 64) {
			cr_assert_eq(buf_append(&b, "x", 1), -E2BIG);
			memcpy(out, buf_span(&b).p, 40);
			for (size_t k = 0; k < 40; k++)
				cr_assert_eq((unsigned char)out[k], (unsigned char)want++);
			buf_consume(&b, 40);
		}
	}
	buf_fini(&b);
}

Test(buf, str_and_printf)
{
	struct buf b;

	buf_init(&b, 8);
	cr_assert_eq(buf_printf(&b, "%s", "1234567"), 0);
	cr_assert_str_eq(buf_str(&b), "1234567");
	cr_assert_lt(buf_printf(&b, "%s", "89"), 0);
	cr_assert(b.failed);
	buf_fini(&b);
}

Test(map, holds_what_was_put)
{
	struct map m = MAP_NULL;
	static int values[5000];
	char key[32];
	int i;

	for (i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "key-%d", i);
		cr_assert_null(map_put(&m, span_str(key), &values[i]));
		cr_assert_null(map_put_u64(&m, (uint64_t)i, &values[i]));
	}
	for (i = 0; i < 5000; i += 2) {
		snprintf(key, sizeof(key), "key-%d", i);
		cr_assert_eq(map_remove(&m, span_str(key)), &values[i]);
	}
	for (i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "key-%d", i);
		cr_assert_eq(map_get(&m, span_str(key)), i % 2 ? &values[i] : NULL);
		cr_assert_eq(map_get_u64(&m, (uint64_t)i), &values[i]);
	}
	cr_assert_eq(m.len, 7500);
	map_fini(&m);
}

Test(str, base64)
{
	static const char *const rows[][2] = { { "", "" },	     { "f", "Zg==" },	      { "fo", "Zm8=" },
					       { "foo", "Zm9v" },    { "foob", "Zm9vYg==" },  { "fooba", "Zm9vYmE=" },
					       { "foobar", "Zm9vYmFy" }, { "\xfb\xff\xfe", "+//+" } };
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) { /* RFC 4648, 10 */
		AUTO(buf_fini) struct buf b;

		buf_init(&b, 64);
		str_base64(&b, span_str(rows[i][0]));
		cr_assert_str_eq(buf_str(&b), rows[i][1]);
	}
}

Test(str, numbers_are_strict)
{
	uint64_t v;
	int64_t s;

	cr_assert_eq(num_u64("18446744073709551615", UINT64_MAX, &v), 0);
	cr_assert_eq(num_u64("18446744073709551616", UINT64_MAX, &v), -ERANGE);
	cr_assert_eq(num_u64("", UINT64_MAX, &v), -EINVAL);
	cr_assert_eq(num_u64("12x", UINT64_MAX, &v), -EINVAL);
	cr_assert_eq(num_i64("-5", &s), 0);
	cr_assert_eq(s, -5);
	cr_assert_eq(num_size("512M", &v), 0);
	cr_assert_eq(v, 512ULL << 20);
	cr_assert_eq(num_size("M", &v), -EINVAL);
	cr_assert_eq(num_duration_ms("2h", &v), 0);
	cr_assert_eq(v, 7200000);
	cr_assert_eq(num_duration_ms("7y", &v), -EINVAL);
}

Test(path, refuses_what_escapes)
{
	char *p = NULL;

	cr_assert(path_name_ok(span_str("a")));
	cr_assert(path_name_ok(span_str("...")));
	cr_assert_not(path_name_ok(span_str("..")));
	cr_assert_not(path_name_ok(span_str("a/b")));
	cr_assert_not(path_name_ok(SPAN("a\0b", 3)));
	cr_assert(path_ok(span_str("")));
	cr_assert(path_ok(span_str("a/b")));
	cr_assert_not(path_ok(span_str("/a")));
	cr_assert_not(path_ok(span_str("a//b")));
	cr_assert_not(path_ok(span_str("a/../b")));
	cr_assert_not(path_ok(span_str("a/")));
	cr_assert_eq(path_normalise("/workspace/a/./b//", "/workspace", &p), 0);
	cr_assert_str_eq(p, "a/b");
	str_free(&p);
	cr_assert_eq(path_normalise("/workspacex", "/workspace", &p), -EINVAL);
	cr_assert_eq(path_normalise("/etc/passwd", "/workspace", &p), -EINVAL);
	cr_assert_eq(path_normalise("a/../../b", "/workspace", &p), -EINVAL);
}

Test(io, passes_descriptors)
{
	int sv[2], pipefd[2], got[2];
	size_t n = 2;
	char c = 0;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	cr_assert_eq(pipe(pipefd), 0);
	cr_assert_eq(io_send_fds(sv[0], "hi", 2, pipefd, 2), 0);
	char word[2];
	cr_assert_eq(io_recv_fds(sv[1], word, 2, got, &n), 2);
	cr_assert_eq(n, 2);
	cr_assert_eq(io_write_full(got[1], "z", 1), 0);
	cr_assert_eq(io_read_full(pipefd[0], &c, 1), 0);
	cr_assert_eq(c, 'z');
	cr_assert_eq(io_send_fds(sv[0], "hi", 2, pipefd, 2), 0);
	n = 1;
	cr_assert_eq(io_recv_fds(sv[1], word, 2, got, &n), -EMSGSIZE);
}

struct tick {
	struct loop *loop;
	int fired[3], len;
};

static void fire_a(void *ctx)
{
	struct tick *t = ctx;

	t->fired[t->len++] = 'a';
}

static void fire_stop(void *ctx)
{
	struct tick *t = ctx;

	t->fired[t->len++] = 'z';
	loop_stop(t->loop);
}

Test(loop, timers_fire_in_order_and_mail_arrives)
{
	struct tick t = { .len = 0 };
	struct loop_timer *late, *early;

	cr_assert_eq(loop_new(&t.loop, NULL), 0);
	late = loop_timer(t.loop, clock_after_ms(5), fire_stop, &t);
	early = loop_timer(t.loop, clock_after_ms(1), fire_a, &t);
	loop_post(t.loop, fire_a, &t);
	cr_assert_eq(loop_run(t.loop), 0);
	cr_assert_eq(t.len, 3);
	cr_assert_eq(t.fired[2], 'z');
	loop_untimer(&late);
	loop_untimer(&early);
	loop_free(&t.loop);
}

struct count {
	int next, broken;
};

struct step {
	struct count *c;
	int i;
};

static void step_run(void *ctx)
{
	struct step *s = ctx;

	if (s->c->next++ != s->i)
		s->c->broken++;
}

Test(pool, a_strand_keeps_its_order)
{
	struct pool *pool = NULL;
	static struct step steps[4][1000];
	struct count counts[4] = { 0 };
	struct strand *strands[4];
	int i, k;

	cr_assert_eq(pool_new("test", 4, &pool, NULL), 0);
	for (k = 0; k < 4; k++)
		strands[k] = strand_new(pool);
	for (i = 0; i < 1000; i++) {
		for (k = 0; k < 4; k++) {
			steps[k][i] = (struct step){ &counts[k], i };
			strand_run(strands[k], step_run, &steps[k][i]);
		}
	}
	for (k = 0; k < 4; k++) {
		strand_free(&strands[k]);
		cr_assert_eq(counts[k].next, 1000);
		cr_assert_eq(counts[k].broken, 0);
	}
	pool_free(&pool);
}

struct trying {
	struct strand *strand;
	struct count *counts;
	int *next; /* guarded by the strand */
};

static void next_run(void *ctx)
{
	struct trying *t = ctx;
	struct step s = { t->counts, (*t->next)++ };

	step_run(&s);
}

static void *try_often(void *ctx)
{
	struct trying *t = ctx;
	int i;

	for (i = 0; i < 1000; i++)
		if (!strand_try(t->strand, next_run, t))
			strand_run(t->strand, next_run, t);
	return NULL;
}

/* Threads of others do its jobs when it has none: one at a time, all of them. */
Test(pool, a_strand_is_worked_on_by_who_asks)
{
	struct pool *pool = NULL;
	struct count counts = { 0 };
	pthread_t others[4];
	struct strand *strand;
	struct trying t;
	int i, next = 0;

	cr_assert_eq(pool_new("test", 4, &pool, NULL), 0);
	strand = strand_new(pool);
	t = (struct trying){ strand, &counts, &next };
	cr_assert(strand_try(strand, next_run, &t));
	cr_assert_eq(counts.next, 1);
	for (i = 0; i < 4; i++)
		pthread_create(&others[i], NULL, try_often, &t);
	for (i = 0; i < 4; i++)
		pthread_join(others[i], NULL);
	strand_free(&strand);
	cr_assert_eq(counts.next, 4001);
	cr_assert_eq(counts.broken, 0);
	pool_free(&pool);
}

/* Lines "1" to "last"; the one that is asked for while there is none may come at that very moment. */
struct counter {
	struct follow *follow;
	uint64_t last;
	bool comes_late;
	int suspended, resumed;
};

static char *count_next(void *ctx, uint64_t *at)
{
	struct counter *c = ctx;

	if (*at <= c->last)
		return str_printf("%llu\n", (unsigned long long)(*at)++);
	if (c->comes_late) {
		c->comes_late = false;
		c->last++;
		follow_publish(c->follow, "mine");
	}
	return NULL;
}

static void count_suspend(void *ctx)
{
	((struct counter *)ctx)->suspended++;
}

static void count_resume(void *ctx)
{
	((struct counter *)ctx)->resumed++;
}

Test(follow, nothing_is_slept_through)
{
	struct counter c = { .follow = follow_new(), .last = 12 };
	struct follow_source source = { .topic = "mine", .next = count_next, .ctx = &c };
	struct follow_waiter waiter = { count_suspend, count_resume, &c };
	struct follower *r = follower_new(c.follow, &source, 12, true, &waiter);
	char got[8];

	cr_assert_eq(follower_read(r, got, 2), 2); /* a line in pieces */
	cr_assert_eq(follower_read(r, got, 2), 1);
	cr_assert_eq(follower_read(r, got, sizeof(got)), -EAGAIN);
	cr_assert_eq(c.suspended, 1);
	follow_publish(c.follow, "another");
	cr_assert_eq(c.resumed, 0);
	c.last = 13;
	follow_publish(c.follow, "mine");
	follow_publish(c.follow, "mine");
	cr_assert_eq(c.resumed, 1); /* once for each wait */
	cr_assert_eq(follower_read(r, got, sizeof(got)), 3);
	c.comes_late = true;
	cr_assert_eq(follower_read(r, got, sizeof(got)), 3); /* it came between the look and the wait */
	cr_assert(memcmp(got, "14\n", 3) == 0);
	cr_assert_eq(c.suspended, 1);
	cr_assert_eq(follower_read(r, got, sizeof(got)), -EAGAIN);
	follow_tick(c.follow);
	cr_assert_eq(follower_read(r, got, sizeof(got)), 1);
	cr_assert_eq(got[0], '\n');
	cr_assert_eq(follower_read(r, got, sizeof(got)), -EAGAIN);
	follow_end(c.follow, "another");
	cr_assert_eq(c.resumed, 2);
	follow_end(c.follow, "mine");
	cr_assert_eq(c.resumed, 3);
	cr_assert_eq(follower_read(r, got, sizeof(got)), 0);
	cr_assert_eq(c.suspended, c.resumed);
	follower_free(&r);
	follow_end(c.follow, NULL);
	r = follower_new(c.follow, &source, 15, true, &waiter);
	cr_assert_eq(follower_read(r, got, sizeof(got)), 0);
	follower_free(&r);
	follow_free(&c.follow);
}

/* What a line is in each form; and that nothing in it makes a second one. */
Test(log, forms)
{
	char got[512];
	int fds[2];
	ssize_t n;

	cr_assert_eq(pipe(fds), 0);
	log_setup(LOG_LVL_INFO, LOG_FORM_JOURNAL, fds[1]);
	log_warn("box", "it\n<3>went", "id=%s", "x\n<0>y");
	n = read(fds[0], got, sizeof(got) - 1);
	cr_assert_gt(n, 0);
	got[n] = '\0';
	cr_assert_str_eq(got, "<4>box: it\\x0a<3>went id=x\\x0a<0>y\n");
	log_error("box", "gone", NULL);
	n = read(fds[0], got, sizeof(got) - 1);
	got[MAX(n, 0)] = '\0';
	cr_assert_str_eq(got, "<3>box: gone\n");
	log_setup(LOG_LVL_INFO, LOG_FORM_TEXT, -1);
	log_info("box", "gone", "id=%s", "x");
	n = read(fds[0], got, sizeof(got) - 1);
	got[MAX(n, 0)] = '\0';
	cr_assert(strncmp(got, "time=", 5) == 0 && strstr(got, " level=info room=box msg=\"gone\" id=x\n"), "%s", got);
	log_setup(LOG_LVL_INFO, LOG_FORM_TEXT, STDERR_FILENO);
	close(fds[0]);
	close(fds[1]);
}

/* --- extended attributes, packed ---------------------------------------------------------------------------------- */

Test(xattr, packed_lists_are_sorted_and_bounded)
{
	AUTO(buf_fini) struct buf a, b;
	AUTO(mem_free) char *big = must_calloc(1, XATTR_PACKED_LEN);
	struct span one = SPAN("1", 1), two = SPAN("\0x", 2), value, name, rest;

	buf_init(&a, XATTR_PACKED_LEN);
	buf_init(&b, XATTR_PACKED_LEN);
	cr_assert(xattrs_ok(SPAN_NULL));
	cr_assert_eq(xattrs_with(SPAN_NULL, span_str("user.b"), &one, XATTR_REPLACE, &a), -ENODATA);
	cr_assert_eq(xattrs_with(SPAN_NULL, span_str("user.b"), &one, XATTR_CREATE, &a), 0);
	cr_assert_eq(xattrs_with(buf_span(&a), span_str("user.a"), &two, 0, &b), 0);
	rest = buf_span(&b);
	cr_assert(xattrs_ok(rest));
	cr_assert(xattrs_next(&rest, &name, &value));
	cr_assert(span_eq(name, span_str("user.a")) && span_eq(value, two));
	cr_assert(xattrs_next(&rest, &name, &value));
	cr_assert(span_eq(name, span_str("user.b")) && span_eq(value, one));
	cr_assert_not(xattrs_next(&rest, &name, &value));
	cr_assert_eq(xattrs_with(buf_span(&b), span_str("user.b"), &one, XATTR_CREATE, &a), -EEXIST);
	cr_assert_eq(xattrs_with(buf_span(&b), span_str("user.c"), NULL, 0, &a), -ENODATA);
	buf_consume(&a, buf_len(&a));
	cr_assert_eq(xattrs_with(buf_span(&b), span_str("user.a"), NULL, 0, &a), 0);
	cr_assert_eq(xattrs_get(buf_span(&a), span_str("user.a"), &value), -ENODATA);
	cr_assert_eq(xattrs_get(buf_span(&a), span_str("user.b"), &value), 0);
	buf_consume(&b, buf_len(&b));
	value = SPAN(big, XATTR_PACKED_LEN - buf_len(&a) - 6 - 6);
	cr_assert_eq(xattrs_with(buf_span(&a), span_str("user.z"), &value, 0, &b), 0);
	cr_assert_eq(buf_len(&b), XATTR_PACKED_LEN);
	buf_consume(&b, buf_len(&b));
	value.len++;
	cr_assert_eq(xattrs_with(buf_span(&a), span_str("user.z"), &value, 0, &b), -ENOSPC);
}

Test(xattr, what_is_no_packed_list_is_refused)
{
	static const struct {
		const char *p;
		size_t len;
	} bad[] = {
		{ "\0", 1 },			       /* shorter than a head */
		{ "\0\6\0\0\0\2user.a1", 13 },	       /* a value beyond the end */
		{ "\0\6\377\377\377\377user.a", 12 },  /* far beyond */
		{ "\0\5\0\0\0\0user.", 11 },	       /* no name of a user's */
		{ "\0\7\0\0\0\0root.ab", 13 },	       /* somebody else's */
		{ "\0\7\0\0\0\0user.\0a", 13 },	       /* a NUL in it */
		{ "\0\6\0\0\0\0user.b\0\6\0\0\0\0user.a", 24 }, /* out of order */
		{ "\0\6\0\0\0\0user.a\0\6\0\0\0\0user.a", 24 }, /* twice */
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_not(xattrs_ok(SPAN(bad[i].p, bad[i].len)), "%zu", i);
	cr_assert(xattrs_ok(SPAN("\0\6\0\0\0\0user.a\0\6\0\0\0\1user.bx", 25)));
}

/* That would take minutes if each looked for its entry from the beginning. */
Test(map, is_emptied_in_one_walk, .timeout = 30)
{
	struct map m = MAP_NULL;
	size_t i, n = 0;
	static int value;

	for (i = 0; i < 400000; i++)
		map_put_u64(&m, i, &value);
	while (map_take_any(&m)) {
		if (n++ == 1000)
			map_put_u64(&m, 1000000, &value);
	}
	cr_assert_eq(n, 400001);
	cr_assert_eq(m.len, 0);
	map_fini(&m);
}

Test(clock, utc_is_what_gmtime_says)
{
	char got[CLOCK_UTC_LEN + 1], want[32];
	time_t t;
	struct tm tm;

	for (t = 0; t < 253402300799; t += 7776000 + 86399) { /* a quarter and a bit, to the end of 9999 */
		clock_utc(t, got);
		gmtime_r(&t, &tm);
		strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S", &tm);
		cr_assert_str_eq(got, want);
	}
	for (t = 951782300; t < 951782400 + 2 * 86400; t += 3599) { /* a leap day of a century */
		clock_utc(t, got);
		gmtime_r(&t, &tm);
		strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S", &tm);
		cr_assert_str_eq(got, want);
	}
	clock_utc(-1, got);
	cr_assert_str_eq(got, "1970-01-01T00:00:00");
	clock_utc(INT64_MAX, got);
	cr_assert_str_eq(got, "9999-12-31T23:59:59");
}
