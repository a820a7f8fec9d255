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

static char handed[256]; /* what the opener was told to keep, newest last */

static int open_one(void *ctx UNUSED, struct span sealed, struct secret **ret, struct err *e)
{
	struct secret *value = NULL;
	struct sealed *f = NULL;
	int r = sealed_open(seal_source_span(&sealed), &f, e);

	if (r == 0)
		r = sealed_value(f, key, SECRETS_VALUE_MAX, &value, e);
	sealed_close(&f);
	if (r == 0 && ret)
		*ret = take(&value);
	secret_free(&value);
	return r;
}

static void keep_one(void *ctx UNUSED, const char *name, struct span sealed)
{
	size_t len = strlen(handed);

	snprintf(handed + len, sizeof(handed) - len, "%c%s ", sealed.len ? '+' : '-', name);
}

static void start(void)
{
	const struct secrets_opener o = { .pub = pub, .open = open_one, .keep = keep_one };

	cr_assert_eq(secrets_new(place.store, &o, &all, NULL), 0);
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

static enum seal_delivery how = SEAL_ENV;

static const char *called = "TOKEN";

/* Sealed at a moment, of a template. */
static void make(struct buf *b, const char *value, uint64_t created_ms, uint64_t expires_ms, const char *template_)
{
	struct secret *v = secret_of(span_str(value));
	struct seal_policy p = { .delivery = how, .created_ms = created_ms, .expires_ms = expires_ms };
	struct seal_job job = { .policy = &p, .to = &pub, .n_to = 1 };

	snprintf(p.name, sizeof(p.name), "%s", called);
	if (how == SEAL_BROKER)
		cr_assert_eq(seal_policy_add(&p, SEAL_HOST, "api.github.com", NULL), 0);
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
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&one), NULL, "k", &e), -ENOENT);
	cr_assert_eq(secrets_add(all, buf_span(&one), "k", &e), 0, "%s", e.text);
	told("\"what\":\"added\"");
	cr_assert_eq(secrets_add(all, buf_span(&two), "k", &e), -EEXIST);
	cr_assert_eq(deliver("base", "value-1", &e), 0, "%s", e.text);
	told("\"what\":\"delivered\",\"secret\":\"TOKEN\",\"key\":\"k\",\"sandbox\":\"s1\",\"command\":\"sh\"");
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&two), NULL, "k", &e), 0, "%s", e.text);
	cr_assert_eq(deliver("base", "value-2", &e), 0);
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&third), NULL, "k", &e), -EEXIST, "of the same moment");
	cr_assert_str_eq(e.slug, "old-secret");
	told("\"why\":\"old-secret\"");
	secrets_free(&all); /* a new start remembers it all */
	start();
	cr_assert_eq(deliver("base", "value-2", &e), 0);
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&one), NULL, "k", &e), -EEXIST);
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
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&b), NULL, "", &e), -EINVAL);
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

Test(secret_host, those_for_the_broker_are_handed_over)
{
	const struct secrets_used used = { .secret = "TOKEN",
					   .service = "github",
					   .sandbox = "s1",
					   .key = "k",
					   .method = "GET",
					   .host = "api.github.com",
					   .path = "/user",
					   .rule = "",
					   .exec = "e1",
					   .command = "gh",
					   .status = 200,
					   .count = 3,
					   .up_b = 1,
					   .down_b = 2 };
	struct buf one, two;

	handed[0] = '\0';
	how = SEAL_BROKER;
	make(&one, "value-1", 1000, 0, NULL);
	how = SEAL_ENV;
	make(&two, "value-2", 2000, 0, NULL);
	cr_assert_eq(secrets_add(all, buf_span(&one), "k", NULL), 0);
	cr_assert_str_eq(handed, "+TOKEN ");
	secrets_free(&all);
	start();
	secrets_hand_over(all);
	cr_assert_str_eq(handed, "+TOKEN +TOKEN ");
	cr_assert_eq(secrets_told(all, &used, NULL), 0);
	told("\"what\":\"used\",\"secret\":\"TOKEN\",\"key\":\"k\",\"sandbox\":\"s1\",\"process\":\"e1\","
	     "\"command\":\"gh\",\"service\":\"github\","
	     "\"method\":\"GET\",\"host\":\"api.github.com\",\"path\":\"/user\",\"delivery\":\"broker\",\"count\":3,"
	     "\"status\":200,\"sent\":1,\"received\":2");
	cr_assert_eq(deliver("base", "value-1", NULL), -EACCES, "a value of the broker's was delivered");
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&two), NULL, "k", NULL), -EINVAL, "another delivery");
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&two), "file", "k", NULL), -EINVAL, "nor that one");
	cr_assert_str_eq(handed, "+TOKEN +TOKEN ");
	cr_assert_eq(secrets_rotate(all, "TOKEN", buf_span(&two), "env", "k", NULL), 0);
	cr_assert_str_eq(handed, "+TOKEN +TOKEN -TOKEN ", "one that is for variables now");
	cr_assert_eq(secrets_remove(all, "TOKEN", "k", NULL), 0);
	cr_assert_str_eq(handed, "+TOKEN +TOKEN -TOKEN -TOKEN ");
	buf_fini(&one);
	buf_fini(&two);
}

/* --- those that keys made for themselves -------------------------------------------------------------------------- */

static int own(const char *owner, const char *word, const char *value, const char *hosts, bool is_new, struct err *e)
{
	struct secret *v = secret_of(span_str(value));
	const struct secrets_own o = {
		.owner = owner, .word = word, .value = v, .hosts = hosts, .note = "{\"a\":\"b\"}"
	};
	int r = secrets_own_put(all, &o, is_new, e);

	secret_free(&v);
	return r;
}

static int look_for(const char *name, const char *who, struct err *e)
{
	const struct secrets_wish w = { .name = name, .template_ = "base", .sandbox = "s1", .who = who };
	enum seal_delivery is;

	return secrets_look(all, &w, &is, e);
}

struct one {
	char name[SEAL_NAME_MAX + 1], note[64], host[SEAL_HOST_MAX + 1];
	uint32_t number;
	size_t n;
};

static int last_own(void *ctx, const struct secrets_info *info)
{
	struct one *o = ctx;

	snprintf(o->name, sizeof(o->name), "%s", info->policy->name);
	snprintf(o->note, sizeof(o->note), "%s", info->note ? info->note : "none");
	snprintf(o->host, sizeof(o->host), "%s", info->policy->hosts.n ? info->policy->hosts.v[0] : "");
	o->number = info->number;
	o->n++;
	return 0;
}

Test(secret_host, a_keys_own_is_its_own)
{
	struct err e = ERR_NULL;
	struct one o = { .n = 0 };
	struct buf b;

	handed[0] = '\0';
	cr_assert_eq(own("0123abcd", "github", "value-1", NULL, true, &e), 0, "%s", e.text);
	cr_assert_str_eq(handed, "+key.0123abcd.github ");
	told("\"what\":\"added\",\"secret\":\"key.0123abcd.github\",\"key\":\"0123abcd\",\"number\":1");
	cr_assert_eq(own("0123abcd", "github", "value-1", NULL, true, &e), -EEXIST);
	cr_assert_eq(own("89abcdef", "github", "value-2", NULL, true, &e), 0, "another key's is another");
	cr_assert_eq(own("89abcdef", "none", "value-2", NULL, false, &e), -ENOENT);
	cr_assert_eq(look_for("key.0123abcd.github", "0123abcd", &e), 0);
	cr_assert_eq(look_for("key.0123abcd.github", "89abcdef", &e), -ENOENT);
	cr_assert_eq(look_for("key.0123abcd.github", "", &e), -ENOENT, "the socket is nobody's key");
	/* twice within a moment, each time a newer one */
	cr_assert_eq(own("0123abcd", "github", "value-3", "a.example,b.example", false, &e), 0, "%s", e.text);
	cr_assert_eq(own("0123abcd", "github", "value-3", NULL, false, &e), 0, "%s", e.text);
	cr_assert_eq(secrets_remove(all, "key.89abcdef.github", "89abcdef", &e), 0);
	secrets_free(&all);
	start();
	secrets_each(all, last_own, &o);
	cr_assert_eq(o.n, 1);
	cr_assert_str_eq(o.name, "key.0123abcd.github");
	cr_assert_str_eq(o.note, "{\"a\":\"b\"}");
	cr_assert_str_eq(o.host, "*");
	cr_assert_eq(o.number, 3);
	handed[0] = '\0';
	secrets_hand_over(all);
	cr_assert_str_eq(handed, "+key.0123abcd.github ");
	cr_assert_eq(secrets_remove(all, "key.0123abcd.github", "0123abcd", &e), 0);
	cr_assert_eq(own("0123abcd", "github", "value-4", NULL, true, &e), 0, "%s", e.text);
	secrets_each(all, last_own, &o);
	cr_assert_eq(o.number, 1, "nothing of the one before was left");
	/* no file comes under such a name */
	called = "key.0123abcd.github";
	how = SEAL_BROKER;
	make(&b, "value", 3000, 0, NULL);
	called = "TOKEN";
	cr_assert_eq(secrets_add(all, buf_span(&b), "", &e), -EINVAL);
	cr_assert_eq(secrets_rotate(all, "key.0123abcd.github", buf_span(&b), NULL, "", &e), -EINVAL);
	buf_fini(&b);
}

Test(secret_host, what_cannot_be_a_keys_own)
{
	struct err e = ERR_NULL;
	AUTO(str_free) char *big = must_calloc(SECRETS_OWN_VALUE_MAX + 2, 1);
	AUTO(str_free) char *name = must_calloc(SECRETS_WORD_MAX + 2, 1);
	size_t i;

	memset(big, 'x', SECRETS_OWN_VALUE_MAX);
	memset(name, 'n', SECRETS_WORD_MAX);
	cr_assert_eq(own("k", name, big, NULL, true, &e), 0, "%s", e.text);
	big[SECRETS_OWN_VALUE_MAX] = 'x';
	name[SECRETS_WORD_MAX] = 'n';
	cr_assert_eq(own("k", "big", big, NULL, true, &e), -EINVAL);
	cr_assert_eq(own("k", name, "value", NULL, true, &e), -EINVAL);
	cr_assert_eq(own("k", "", "value", NULL, true, &e), -EINVAL);
	cr_assert_eq(own("k", "A", "value", NULL, true, &e), -EINVAL);
	cr_assert_eq(own("k", "a,b", "value", NULL, true, &e), -EINVAL);
	cr_assert_eq(own("k", "a", "", NULL, true, &e), -EINVAL);
	cr_assert_eq(own("k", "a", "x\ny", NULL, true, &e), -EINVAL);
	cr_assert_eq(own("k", "a", "value", "*", true, &e), -EINVAL, "* is for those that name none");
	cr_assert_eq(own("k", "a", "value", " , ", true, &e), -EINVAL);
	cr_assert_eq(own("k", "a", "value", "no host", true, &e), 0, "two of them");
	cr_assert_eq(own("k", "b", "value", "no/host", true, &e), -EINVAL);
	for (i = 0; i < SECRETS_OWN_MAX - 2; i++) {
		AUTO(str_free) char *word = str_printf("w%zu", i);

		cr_assert_eq(own("k", word, "value", NULL, true, &e), 0, "%s", e.text);
	}
	cr_assert_eq(own("k", "more", "value", NULL, true, &e), -EUSERS);
	cr_assert_eq(own("k", "w1", "value", NULL, false, &e), 0, "one that is there may change");
	cr_assert_eq(own("l", "more", "value", NULL, true, &e), 0, "%s", e.text);
}
