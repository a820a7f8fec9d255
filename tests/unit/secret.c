/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets of a daemon: who gets one, which file may take another's place, and that all of it is told, also after a new
 * start. */
#include "store-lib.h"

#include "base/clock.h"
#include "host/secret/secret.h"

static struct place place;
static struct secrets *all;
static struct seal_pub pub;
static struct seal_key *key;

static void start(void)
{
	struct secret *text = NULL;
	struct seal_key *mine = NULL;

	cr_assert_eq(seal_key_text(key, NULL, true, &text), 0);
	cr_assert_eq(seal_key_parse(text, NULL, &mine, NULL), 0);
	secret_free(&text);
	cr_assert_eq(secrets_new(place.store, &mine, &all, NULL), 0);
}

static void setup(void)
{
	place_make(&place, 1 << 28);
	cr_assert_eq(seal_key_new(&key), 0);
	pub = *seal_key_pub(key);
	start();
}

static void teardown(void)
{
	secrets_free(&all);
	seal_key_free(&key);
	place_free(&place);
}

TestSuite(secret_host, .init = setup, .fini = teardown);

/* Sealed at a moment, of a template. */
static void make(struct buf *b, const char *value, uint64_t created_ms, uint64_t expires_ms, const char *template_)
{
	struct secret *v = secret_of(span_str(value));
	struct seal_policy p = {
		.name = "TOKEN", .delivery = SEAL_ENV, .created_ms = created_ms, .expires_ms = expires_ms
	};
	struct seal_job job = { .policy = &p, .to = &pub, .n_to = 1 };

	if (template_)
		cr_assert_eq(seal_policy_add(&p, SEAL_TEMPLATE, template_, NULL), 0);
	buf_init(b, 0);
	cr_assert_eq(seal_secret(&job, v, b, NULL), 0);
	secret_free(&v);
	seal_policy_fini(&p);
}

static int deliver(const char *template_, const char *want, struct err *e)
{
	struct secrets_wish w = {
		.name = "TOKEN", .template_ = template_, .sandbox = "s1", .who = "k", .command = "sh"
	};
	char owner[SEAL_OWNER_MAX + 1];
	struct secret *v = NULL;
	int r = secrets_deliver(all, &w, SEAL_ENV, &v, owner, e);

	if (r < 0)
		return r;
	cr_assert(span_eq(SPAN(secret_use(v), secret_len(v)), span_str(want)));
	secret_rest(v);
	secret_free(&v);
	return 0;
}

static int keep_last(void *ctx, const struct audit_row *row)
{
	char **last = ctx;

	str_free(last);
	*last = span_dup(row->text);
	return 0;
}

static void told(const char *words)
{
	AUTO(str_free) char *last = NULL;

	cr_assert_eq(secrets_audit(all, 0, keep_last, &last), 0);
	cr_assert(strstr(last, words), "%s", last);
	cr_assert_null(strstr(last, "value"), "%s", last);
}

Test(secret_host, newer_ones_only)
{
	struct buf one, two, third;
	struct err e = ERR_NULL;

	make(&one, "value-1", 1000, 0, NULL);
	make(&two, "value-2", 2000, 0, NULL);
	make(&third, "value-3", 2000, 0, NULL);
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&one), "k", &e), -ENOENT);
	cr_assert_eq(secrets_add(all, buf_span(&one), "k", &e), 0, "%s", e.text);
	told("\"what\":\"added\"");
	cr_assert_eq(secrets_add(all, buf_span(&two), "k", &e), -EEXIST);
	cr_assert_eq(deliver("base", "value-1", &e), 0, "%s", e.text);
	told("\"what\":\"delivered\",\"secret\":\"TOKEN\",\"key\":\"k\",\"sandbox\":\"s1\",\"command\":\"sh\"");
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&two), "k", &e), 0, "%s", e.text);
	cr_assert_eq(deliver("base", "value-2", &e), 0);
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&third), "k", &e), -EEXIST, "of the same moment");
	cr_assert_str_eq(e.slug, "old-secret");
	told("\"why\":\"old-secret\"");
	secrets_free(&all); /* a new start remembers it all */
	start();
	cr_assert_eq(deliver("base", "value-2", &e), 0);
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&one), "k", &e), -EEXIST);
	cr_assert_eq(secrets_remove(all, "TOKEN", "k", &e), 0);
	cr_assert_eq(secrets_remove(all, "TOKEN", "k", &e), -ENOENT);
	cr_assert_eq(deliver("base", "", &e), -ENOENT);
	secrets_free(&all);
	start();
	cr_assert_eq(secrets_add(all, buf_span(&two), "k", &e), -EEXIST, "it was here before it was removed");
	buf_fini(&third);
	make(&third, "value-4", 3000, 0, NULL);
	cr_assert_eq(secrets_add(all, buf_span(&third), "k", &e), 0, "%s", e.text);
	cr_assert_eq(deliver("base", "value-4", &e), 0);
	buf_fini(&one);
	buf_fini(&two);
	buf_fini(&third);
}

Test(secret_host, scope_and_expiry_are_asked_each_time)
{
	uint64_t now = (uint64_t)(clock_wall() / 1000000);
	struct err e = ERR_NULL;
	struct buf b;
	int r;

	make(&b, "value", now, now + 2000, "ci");
	cr_assert_eq(secrets_add(all, buf_span(&b), "", &e), 0, "%s", e.text);
	cr_assert_eq(deliver("base", "", &e), -EACCES);
	cr_assert_str_eq(e.slug, "wrong-template");
	told("\"why\":\"wrong-template\"");
	cr_assert_eq(deliver(NULL, "", &e), -EACCES);
	while ((r = deliver("ci", "value", &e)) == 0)
		cr_assert_lt((uint64_t)(clock_wall() / 1000000), now + 30000, "it does not expire");
	cr_assert_eq(r, -EACCES);
	cr_assert_str_eq(e.slug, "expired");
	cr_assert_geq((uint64_t)(clock_wall() / 1000000), now + 2000);
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&b), "", &e), -EINVAL);
	cr_assert_str_eq(e.slug, "expired");
	buf_fini(&b);
}

Test(secret_host, what_is_not_taken)
{
	struct err e = ERR_NULL;
	struct buf b;

	make(&b, "value", 1000, 0, NULL);
	b.p[b.end - 40] ^= 1;
	cr_assert_eq(secrets_add(all, buf_span(&b), "", &e), -EINVAL);
	cr_assert_str_eq(e.slug, "bad-secret");
	b.p[b.end - 40] ^= 1;
	seal_key_free(&key);
	cr_assert_eq(seal_key_new(&key), 0);
	secrets_free(&all);
	start(); /* a daemon with another key */
	cr_assert_eq(secrets_add(all, buf_span(&b), "", &e), -EINVAL);
	cr_assert_str_eq(e.slug, "wrong-key");
	buf_fini(&b);
}

static void *many(UNUSED void *ctx)
{
	int i;

	for (i = 0; i < 20; i++)
		cr_assert_eq(deliver("base", "value", NULL), 0);
	return NULL;
}

static int chained(void *ctx, const struct audit_row *row)
{
	struct audit_row *before = ctx;
	struct digest is = audit_link(&before->link, row);

	cr_assert_eq(row->seq, before->seq + 1);
	cr_assert(digest_eq(&is, &row->link));
	before->seq = row->seq;
	before->link = row->link;
	return 0;
}

Test(secret_host, several_at_a_time_make_one_chain)
{
	struct audit_row last = { .seq = 0 };
	pthread_t threads[4];
	struct buf b;
	size_t i;

	make(&b, "value", 1000, 0, NULL);
	cr_assert_eq(secrets_add(all, buf_span(&b), "", NULL), 0);
	for (i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, many, NULL), 0);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(secrets_audit(all, 0, chained, &last), 0);
	cr_assert_eq(last.seq, 81);
	buf_fini(&b);
}
