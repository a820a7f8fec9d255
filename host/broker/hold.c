/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/hold.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/map.h"
#include "base/str.h"

#include <errno.h>
#include <unistd.h>

struct hold {
	struct seal_key *key;
	struct map all; /* of struct held, by name */
};

static int make_key(int fd, struct seal_key **ret)
{
	AUTO(seal_key_free) struct seal_key *k = NULL;
	AUTO(secret_free) struct secret *text = NULL;
	int r = seal_key_new(&k);

	if (r == 0)
		r = seal_key_text(k, NULL, false, &text);
	if (r == 0) {
		r = io_write_full(fd, secret_use(text), secret_len(text));
		secret_rest(text);
	}
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0) {
		(void)!ftruncate(fd, 0);
		return r;
	}
	*ret = take(&k);
	return 0;
}

int hold_new(int fd, struct hold **ret, struct err *e)
{
	AUTO(secret_free) struct secret *text = NULL;
	AUTO(hold_free) struct hold *h = NEW(struct hold);
	int r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : secret_read(fd, SEAL_KEY_FILE_MAX, &text);

	if (r == 0 && secret_len(text) == 0)
		r = make_key(fd, &h->key);
	else if (r == 0)
		r = seal_key_parse(text, NULL, &h->key, e);
	if (r < 0)
		return e && e->code ? r : err_sys(e, r, "the key");
	*ret = take(&h);
	return 0;
}

struct held *held_ref(struct held *x)
{
	x->refs++;
	return x;
}

void held_unref(struct held **slot)
{
	struct held *x = take(slot);

	if (!x || --x->refs)
		return;
	seal_policy_fini(&x->policy);
	buf_fini(&x->sealed);
	secret_free(&x->value);
	mask_free(&x->mask);
	free(x);
}

void hold_free(struct hold **slot)
{
	struct hold *h = take(slot);
	struct held *x;

	if (!h)
		return;
	while ((x = map_take_any(&h->all)))
		held_unref(&x);
	map_fini(&h->all);
	seal_key_free(&h->key);
	free(h);
}

void hold_pub(struct hold *h, struct buf *to)
{
	seal_pub_text(seal_key_pub(h->key), to);
}

int hold_open(struct hold *h, struct span sealed, struct secret **ret, struct err *e)
{
	AUTO(sealed_close) struct sealed *f = NULL;
	int r = sealed_open(seal_source_span(&sealed), &f, e);

	return r < 0 ? r : sealed_value(f, h->key, HOLD_ANY_MAX, ret, e);
}

/* Whoever asks has looked already; that he may have a value is decided by who has it. */
int hold_give(struct hold *h, struct span sealed, struct secret **ret, struct err *e)
{
	const struct seal_use use = { .any = true, .now_ms = (uint64_t)(clock_wall() / 1000000) };
	AUTO(sealed_close) struct sealed *f = NULL;
	int r = sealed_open(seal_source_span(&sealed), &f, e);

	if (r == 0 && sealed_policy(f)->delivery == SEAL_BROKER)
		r = err_set(e, -EACCES, "wrong-delivery", "%s is for the broker, nobody else has its value",
			    sealed_policy(f)->name);
	if (r == 0)
		r = seal_policy_allows(sealed_policy(f), &use, e);
	/* What was asked of is authenticated with the value. */
	return r < 0 ? r : sealed_value(f, h->key, HOLD_ANY_MAX, ret, e);
}

int hold_keep(struct hold *h, const char *name, struct span sealed, struct err *e)
{
	AUTO(sealed_close) struct sealed *f = NULL;
	AUTO(held_unref) struct held *x = NULL;
	struct span left = sealed;
	struct held *old;
	int r = sealed.len > HOLD_SEALED_MAX ? -E2BIG : sealed_open(seal_source_span(&left), &f, e);

	if (r < 0)
		return e && e->code ? r : err_sys(e, r, "a sealed file");
	if (!str_eq(sealed_policy(f)->name, name) || sealed_policy(f)->delivery != SEAL_BROKER)
		return err_set(e, -EINVAL, "bad-secret", "%s is another one, or not for the broker", name);
	if (h->all.len >= HOLD_MAX && !hold_find(h, name))
		return err_set(e, -EUSERS, "too-many-secrets", "there are too many secrets");
	x = NEW(struct held);
	x->refs = 1;
	seal_policy_copy(&x->policy, sealed_policy(f));
	buf_init(&x->sealed, HOLD_SEALED_MAX);
	if (buf_append(&x->sealed, sealed.p, sealed.len) < 0)
		return err_sys(e, -ENOMEM, "memory");
	old = map_put(&h->all, span_str(name), take(&x));
	held_unref(&old);
	return 0;
}

void hold_drop(struct hold *h, const char *name)
{
	struct held *x = map_remove(&h->all, span_str(name));

	held_unref(&x);
}

struct held *hold_find(struct hold *h, const char *name)
{
	return map_get(&h->all, span_str(name));
}

/* One newline at the end is what a file of one line has; any other control character would end a header. */
static int check(struct held *x, struct err *e)
{
	size_t len = secret_len(x->value), i;
	const uint8_t *p = secret_use(x->value);
	bool bad = false;

	if (len && p[len - 1] == '\n')
		len--;
	for (i = 0; i < len; i++)
		bad |= p[i] < 0x20 || p[i] == 0x7f;
	secret_rest(x->value);
	if (bad || len == 0)
		return err_set(e, -EINVAL, "bad-value", "the value of %s is empty or has control characters",
			       x->policy.name);
	if (len > HOLD_VALUE_MAX)
		return err_set(e, -E2BIG, "secret-too-long", "the value of %s is longer than %d bytes", x->policy.name,
			       HOLD_VALUE_MAX);
	secret_cut(x->value, len);
	return 0;
}

int hold_value(struct hold *h, struct held *x, struct err *e)
{
	int r;

	if (x->value)
		return 0;
	r = hold_open(h, buf_span(&x->sealed), &x->value, e);
	if (r == 0)
		r = check(x, e);
	if (r == 0)
		r = mask_new(x->value, &x->mask);
	if (r < 0) {
		secret_free(&x->value);
		return e && e->code ? r : err_sys(e, r, "the value of %s", x->policy.name);
	}
	return 0;
}
