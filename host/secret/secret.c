/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies are in memory, sealed files in the store: one is opened when it is delivered, and then only. The record of a
 * secret also knows the digests of the files that it had before and when the newest was sealed; both stay when it is
 * removed, so that an old value does not come back.
 *
 * Changes and rows of the audit are made one after the other (busy), because a row is chained to the one before; nobody
 * holds the lock while the disk works.
 */
#include "host/secret/inside.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"
#include "json/json.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>

struct entry *secrets_find(struct secrets *s, const char *name, size_t *ret_at)
{
	size_t i;

	for (i = 0; i < s->all.len && strcmp(s->all.v[i]->policy.name, name) < 0;)
		i++;
	if (ret_at)
		*ret_at = i;
	return i < s->all.len && str_eq(s->all.v[i]->policy.name, name) ? s->all.v[i] : NULL;
}

/* In its order. Held, or nobody else is there. */
static void put_entry(struct secrets *s, struct entry *x)
{
	size_t at, i;
	struct entry *old = secrets_find(s, x->policy.name, &at);

	if (old) {
		entry_free(&s->all.v[at]);
		s->all.v[at] = x;
		return;
	}
	vec_push(&s->all, x);
	for (i = s->all.len - 1; i > at; i--)
		s->all.v[i] = s->all.v[i - 1];
	s->all.v[at] = x;
}

/* The lock is held. */
static void take_out(struct secrets *s, struct entry *x)
{
	size_t at;

	(void)secrets_find(s, x->policy.name, &at);
	memmove(&s->all.v[at], &s->all.v[at + 1], (--s->all.len - at) * sizeof(s->all.v[0]));
	entry_free(&x);
}

static int load_one(void *ctx, const char *name, struct span record)
{
	AUTO(sealed_close) struct sealed *f = NULL;
	AUTO(entry_free) struct entry *x = NEW(struct entry);
	struct record_parts parts;
	struct secrets *s = ctx;
	struct span sealed;

	if (record_unpack(record, x, &parts) < 0 || str_copy(x->policy.name, sizeof(x->policy.name), name) < 0)
		return 0; /* fsck tells */
	sealed = parts.sealed;
	x->note = parts.note.len ? span_dup(parts.note) : NULL;
	if (sealed.len) {
		if (sealed_open(seal_source_span(&sealed), &f, NULL) < 0 || !str_eq(sealed_policy(f)->name, name))
			return 0;
		seal_policy_copy(&x->policy, sealed_policy(f));
		x->is_signed = sealed_signer(f) != NULL;
		x->is_here = true;
	}
	put_entry(s, take(&x));
	return 0;
}

static int load_last(void *ctx, const struct audit_row *row)
{
	struct secrets *s = ctx;

	s->seq = row->seq;
	s->link = row->link;
	return 0;
}

int secrets_new(struct store *store, const struct secrets_opener *opener, struct secrets **ret, struct err *e)
{
	AUTO(secrets_free) struct secrets *s = NEW(struct secrets);
	int r;

	s->store = store;
	s->opener = *opener;
	lock_init(&s->lock, "secrets", LOCK_LEAF);
	lock_cond_init(&s->cond);
	r = store_secret_each(store, load_one, s);
	if (r == 0)
		r = store_audit_each(store, 0, load_last, s);
	if (r < 0)
		return err_sys(e, r, "reading the secrets");
	*ret = take(&s);
	return 0;
}

void secrets_free(struct secrets **slot)
{
	struct secrets *s = take(slot);
	size_t i;

	if (!s)
		return;
	for (i = 0; i < s->all.len; i++)
		entry_free(&s->all.v[i]);
	vec_fini(&s->all);
	pthread_cond_destroy(&s->cond);
	lock_fini(&s->lock);
	free(s);
}

void secrets_pub(const struct secrets *s, struct buf *to, char id[SEAL_ID_TEXT])
{
	struct seal_id the_id = seal_pub_id(&s->opener.pub);

	seal_pub_text(&s->opener.pub, to);
	seal_id_text(&the_id, id);
}

/* --- one after the other ------------------------------------------------------------------------------------------ */

void secrets_begin(struct secrets *s)
{
	lock_take(&s->lock);
	while (s->busy)
		lock_wait(&s->lock, &s->cond, CLOCK_NEVER);
	s->busy = true;
	lock_drop(&s->lock);
}

void secrets_end(struct secrets *s)
{
	lock_take(&s->lock);
	s->busy = false;
	pthread_cond_broadcast(&s->cond);
	lock_drop(&s->lock);
}

/* What is told of it; never a value. */
struct told {
	const char *what; /* added, rotated, removed, delivered, refused, seen */
	const char *name, *who, *sandbox, *command, *why;
	const char *where, *form; /* it was seen */
	const char *how; /* it was delivered */
	uint32_t number;
};

/* A control character would be six in JSON, and the row has a limit. */
static void put_words(struct json_writer *w, const char *key, const char *words)
{
	char plain[200];
	size_t i;

	snprintf(plain, sizeof(plain), "%s", words ? words : "");
	for (i = 0; plain[i]; i++)
		if ((unsigned char)plain[i] < 0x20 || plain[i] == 0x7f || plain[i] == '"' || plain[i] == '\\')
			plain[i] = '?';
	if (i)
		jw_kstr(w, key, plain);
}

static void put_told(struct buf *b, const struct told *t)
{
	struct json_writer w = { .b = b };
	char name[SEAL_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s", t->name);
	jw_open(&w, '{');
	jw_kstr(&w, "what", t->what);
	jw_kstr(&w, "secret", name);
	jw_kstr(&w, "key", t->who && *t->who ? t->who : "socket");
	if (t->number)
		jw_ku64(&w, "number", t->number);
	if (t->sandbox)
		jw_kstr(&w, "sandbox", t->sandbox);
	put_words(&w, "command", t->command);
	put_words(&w, "where", t->where);
	if (t->form)
		jw_kstr(&w, "form", t->form);
	if (t->how)
		jw_kstr(&w, "delivery", t->how);
	if (t->why)
		jw_kstr(&w, "why", t->why);
	jw_close(&w, '}');
}

/* Busy is ours. @name NULL: only the row. */
static int keep_text(struct secrets *s, const char *name, struct span record, struct buf *text, struct err *e)
{
	struct audit_row row = { .seq = s->seq + 1, .time_ns = clock_wall() };
	int r;

	if (text->failed)
		return err_set(e, -E2BIG, "audit", "what is to be told of a secret is too long");
	row.text = buf_span(text);
	row.link = audit_link(&s->link, &row);
	r = store_secret_put(s->store, name, record, &row, e);
	if (r == 0) {
		s->seq = row.seq;
		s->link = row.link;
	}
	return r;
}

static int keep(struct secrets *s, const char *name, struct span record, const struct told *t, struct err *e)
{
	AUTO(buf_fini) struct buf text;
	int r;

	buf_init(&text, STORE_AUDIT_TEXT_MAX);
	put_told(&text, t);
	r = keep_text(s, name, record, &text, e);
	if (r == 0)
		log_info("secret", t->what, "name=%s key=%s sandbox=%s%s%s", t->name,
			 t->who && *t->who ? t->who : "socket", t->sandbox ? t->sandbox : "-", t->why ? " why=" : "",
			 t->why ? t->why : "");
	return r;
}

static void put_used(struct buf *b, const struct secrets_used *u)
{
	struct json_writer w = { .b = b };
	const struct {
		const char *key, *value;
	} texts[] = { { "secret", u->secret }, { "key", u->key }, { "sandbox", u->sandbox }, { "process", u->exec },
		      { "command", u->command }, { "service", u->service },
		      { "method", u->method }, { "host", u->host }, { "path", u->path }, { "why", u->rule } };
	size_t i;

	jw_open(&w, '{');
	jw_kstr(&w, "what", u->refused ? "refused" : "used");
	for (i = 0; i < ARRAY_LEN(texts); i++)
		if (*texts[i].value || i < 2)
			jw_kstr(&w, texts[i].key, texts[i].value);
	jw_kstr(&w, "delivery", seal_delivery_word(SEAL_BROKER));
	if (u->first) {
		jw_key(&w, "first");
		jw_bool(&w, true);
	} else {
		jw_ku64(&w, "count", u->count);
		if (u->status)
			jw_ku64(&w, "status", u->status);
		jw_ku64(&w, "sent", u->up_b);
		jw_ku64(&w, "received", u->down_b);
	}
	jw_close(&w, '}');
}

int secrets_told(struct secrets *s, const struct secrets_used *u, struct err *e)
{
	AUTO(buf_fini) struct buf text;
	int r;

	buf_init(&text, STORE_AUDIT_TEXT_MAX);
	put_used(&text, u);
	secrets_begin(s);
	r = keep_text(s, NULL, SPAN_NULL, &text, e);
	secrets_end(s);
	return r;
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

/* What is wrong with a file is wrong with the request. */
static int reword(struct err *e)
{
	bool has_word = e && (e->code == -ENOKEY || e->code == -EKEYEXPIRED);

	if (e)
		e->code = -EINVAL;
	if (e && !has_word)
		snprintf(e->slug, sizeof(e->slug), "bad-secret");
	return -EINVAL;
}

/* What came, as an entry: it is whole, it is for us, and it has not expired. */
static int inspect(struct secrets *s, struct span sealed, struct entry **ret, struct err *e)
{
	AUTO(sealed_close) struct sealed *f = NULL;
	AUTO(entry_free) struct entry *x = NEW(struct entry);
	struct seal_use use = { .any = true, .now_ms = (uint64_t)(clock_wall() / 1000000) };
	struct span left = sealed;
	int r = sealed.len > SECRETS_SEALED_MAX ? -E2BIG : sealed_open(seal_source_span(&left), &f, e);

	if (r == -E2BIG)
		return err_set(e, -EINVAL, "bad-secret", "a sealed file of at most %d bytes is wanted",
			       SECRETS_SEALED_MAX);
	if (r == 0)
		r = seal_policy_allows(sealed_policy(f), &use, e);
	if (r == 0)
		r = s->opener.open(s->opener.ctx, sealed, NULL, e);
	if (r == -ENOKEY && e) {
		struct seal_id ours = seal_pub_id(&s->opener.pub);
		char id[SEAL_ID_TEXT];

		seal_id_text(&ours, id);
		*e = ERR_NULL;
		return err_set(
			e, -EINVAL, "wrong-key",
			"it is not sealed to the key of this daemon, which is %s: \"berth secret key\" prints it", id);
	}
	if (r < 0 && r != -ENOMEM && r != -EPIPE)
		return reword(e);
	if (r < 0)
		return r;
	if (secrets_own_word(sealed_policy(f)->name))
		return err_set(e, -EINVAL, "bad-secret", "names like %s are of secrets that keys made for themselves",
			       sealed_policy(f)->name);
	seal_policy_copy(&x->policy, sealed_policy(f));
	x->is_signed = sealed_signer(f) != NULL;
	x->is_here = true;
	x->newest_ms = x->policy.created_ms;
	x->added_ns = clock_wall();
	*ret = take(&x);
	return 0;
}

/* The new one goes on from what was there under its name. Busy is ours. */
static int succeed(struct entry *x, const struct entry *old, const struct digest *d, struct err *e)
{
	size_t i, skip;

	for (i = 0; old && i < old->n_past; i++)
		if (digest_eq(&old->past[i], d))
			return err_set(e, -EEXIST, "old-secret", "this file was here before");
	if (old && x->newest_ms <= old->newest_ms)
		return err_set(e, -EEXIST, "old-secret", "it was not sealed later than the one that is or was here");
	skip = old && old->n_past == SECRETS_PAST_MAX;
	if (old) {
		x->n_past = old->n_past - skip;
		memcpy(x->past, old->past + skip, x->n_past * sizeof(x->past[0]));
	}
	x->past[x->n_past++] = *d;
	x->number = (old ? old->number : 0) + 1;
	return 0;
}

static size_t count_here(struct secrets *s)
{
	size_t i, n = 0;

	for (i = 0; i < s->all.len; i++)
		n += s->all.v[i]->is_here;
	return n;
}

/* Whoever uses it himself has it as we have it: empty when it goes, or is for another delivery. Busy is ours. */
static void hand(struct secrets *s, const struct seal_policy *p, struct span sealed)
{
	if (s->opener.keep)
		s->opener.keep(s->opener.ctx, p->name, p->delivery == SEAL_BROKER ? sealed : SPAN_NULL);
}

int secrets_replace(struct secrets *s, struct span sealed, struct entry **slot, bool is_new, const char *who,
		    struct err *e)
{
	AUTO(buf_fini) struct buf record;
	struct entry *x = *slot, *old = secrets_find(s, x->policy.name, NULL);
	struct digest d = digest_of("sealed", sealed);
	struct told t = { .what = is_new ? "added" : "rotated", .name = x->policy.name, .who = who };
	int r;

	buf_init(&record, STORE_SECRET_MAX);
	if (is_new && old && old->is_here)
		return err_set(e, -EEXIST, "secret-exists", "a secret called %s exists: rotate it", x->policy.name);
	if (!is_new && (!old || !old->is_here))
		return err_set(e, -ENOENT, "no-such-secret", "no secret is called %s", x->policy.name);
	if (is_new && (count_here(s) >= SECRETS_MAX || s->all.len >= 10 * SECRETS_MAX))
		return err_set(e, -EUSERS, "too-many-secrets", "there are %d secrets, which is the limit", SECRETS_MAX);
	r = succeed(x, old, &d, e);
	if (r < 0) {
		t.what = "refused";
		t.why = "old-secret";
		(void)!keep(s, NULL, SPAN_NULL, &t, NULL);
		return r;
	}
	t.number = x->number;
	record_pack(x, sealed, &record);
	r = record.failed ? err_set(e, -E2BIG, "bad-secret", "it is too long")
			  : keep(s, x->policy.name, buf_span(&record), &t, e);
	if (r == 0) {
		hand(s, &x->policy, sealed);
		lock_take(&s->lock);
		put_entry(s, take(slot));
		lock_drop(&s->lock);
	}
	return r;
}

int secrets_add(struct secrets *s, struct span sealed, const char *who, struct err *e)
{
	AUTO(entry_free) struct entry *x = NULL;
	int r = inspect(s, sealed, &x, e);

	if (r < 0)
		return r;
	secrets_begin(s);
	r = secrets_replace(s, sealed, &x, true, who, e);
	secrets_end(s);
	return r;
}

/* A value that commands had as a variable and that is in a file from now on, or with the broker, is not there where
 * they look for it: whoever wants that says so. Busy is ours. */
static int same_way(struct secrets *s, const struct seal_policy *p, const char *deliver, struct err *e)
{
	const struct entry *old = secrets_find(s, p->name, NULL);
	const char *is = seal_delivery_word(p->delivery);

	if (deliver ? str_eq(deliver, is) : !old || !old->is_here || old->policy.delivery == p->delivery)
		return 0;
	return deliver ? err_set(e, -EINVAL, "other-delivery", "it was sealed for delivery %s, not %.32s", is, deliver)
		       : err_set(e, -EINVAL, "other-delivery",
				 "it was sealed for delivery %s, and what is there is for %s: say so when that is "
				 "meant",
				 is, seal_delivery_word(old->policy.delivery));
}

int secrets_rotate(struct secrets *s, const char *name, struct span sealed, const char *deliver, const char *who,
		   struct err *e)
{
	AUTO(entry_free) struct entry *x = NULL;
	int r = inspect(s, sealed, &x, e);

	if (r < 0)
		return r;
	if (!str_eq(x->policy.name, name))
		return err_set(e, -EINVAL, "wrong-name", "it was sealed as %s, not as %.100s", x->policy.name, name);
	secrets_begin(s);
	r = same_way(s, &x->policy, deliver, e);
	if (r == 0)
		r = secrets_replace(s, sealed, &x, false, who, e);
	secrets_end(s);
	return r;
}

int secrets_remove(struct secrets *s, const char *name, const char *who, struct err *e)
{
	AUTO(buf_fini) struct buf record;
	struct told t = { .what = "removed", .name = name, .who = who };
	struct entry *x;
	int r;

	buf_init(&record, STORE_SECRET_MAX);
	secrets_begin(s);
	x = secrets_find(s, name, NULL);
	if (!x || !x->is_here) {
		r = err_set(e, -ENOENT, "no-such-secret", "no secret is called \"%.100s\"", name);
	} else {
		/* Of a key's own nobody has an old file that could come back: nothing of it stays. */
		if (!secrets_own_word(name))
			record_pack(x, SPAN_NULL, &record);
		r = keep(s, name, buf_span(&record), &t, e);
	}
	if (r == 0) {
		hand(s, &x->policy, SPAN_NULL);
		lock_take(&s->lock);
		x->is_here = false;
		if (!buf_len(&record))
			take_out(s, x);
		lock_drop(&s->lock);
	}
	secrets_end(s);
	return r;
}

void secrets_hand_over(struct secrets *s)
{
	size_t i;

	secrets_begin(s);
	for (i = 0; i < s->all.len; i++) { /* nobody changes it while we are busy */
		const struct entry *x = s->all.v[i];
		AUTO(buf_fini) struct buf record;
		struct record_parts parts;
		struct entry kept;

		buf_init(&record, STORE_SECRET_MAX);
		if (!x->is_here || x->policy.delivery != SEAL_BROKER)
			continue;
		if (store_secret_get(s->store, x->policy.name, &record) == 0 &&
		    record_unpack(buf_span(&record), &kept, &parts) == 0)
			hand(s, &x->policy, parts.sealed);
	}
	secrets_end(s);
}

int secrets_each(struct secrets *s, int (*fn)(void *ctx, const struct secrets_info *info), void *ctx)
{
	size_t i;
	int r = 0;

	lock_take(&s->lock);
	for (i = 0; r == 0 && i < s->all.len; i++) {
		struct entry *x = s->all.v[i];
		struct secrets_info info = { &x->policy, x->number, x->added_ns, x->is_signed, x->note };

		if (x->is_here)
			r = fn(ctx, &info);
	}
	lock_drop(&s->lock);
	return r;
}

int secrets_audit(struct secrets *s, uint64_t from, int (*fn)(void *ctx, const struct audit_row *row), void *ctx)
{
	return store_audit_each(s->store, from, fn, ctx);
}

/* --- delivery ----------------------------------------------------------------------------------------------------- */

static int refuse(struct secrets *s, const struct secrets_wish *w, struct err *e)
{
	struct told t = { .what = "refused",
			  .name = w->name,
			  .who = w->who,
			  .sandbox = w->sandbox,
			  .command = w->command,
			  .why = e->slug };
	int r = e->code;

	if (!seal_name_ok(w->name))
		return r; /* nobody's words go into the audit unchecked */
	secrets_begin(s);
	(void)!keep(s, NULL, SPAN_NULL, &t, NULL);
	secrets_end(s);
	return r;
}

/* @p is ended. */
static int may(struct seal_policy *p, const struct secrets_wish *w, enum seal_delivery *ret,
	       char owner[SEAL_OWNER_MAX + 1], struct err *e)
{
	struct seal_use use = { .name = w->name, .template = w->template_, .sandbox = w->sandbox,
				.now_ms = (uint64_t)(clock_wall() / 1000000) };
	int r;

	*ret = p->delivery;
	memcpy(owner, p->owner, sizeof(p->owner));
	while (p->hosts.n) /* the broker asks about hosts, request by request */
		str_free(&p->hosts.v[--p->hosts.n]);
	r = seal_policy_allows(p, &use, e);
	seal_policy_fini(p);
	if (r < 0) {
		e->code = -EACCES;
		err_wrap(e, "secret %s", w->name);
		return -EACCES;
	}
	return 0;
}

static int look(struct secrets *s, const struct secrets_wish *w, enum seal_delivery *ret,
		char owner[SEAL_OWNER_MAX + 1], struct err *e)
{
	struct seal_policy p = { .name = "" };
	struct entry *x;
	bool here;

	lock_take(&s->lock);
	x = secrets_find(s, w->name, NULL);
	here = x && x->is_here && secrets_own_may(w->name, w->who);
	if (here)
		seal_policy_copy(&p, &x->policy);
	lock_drop(&s->lock);
	if (!here)
		return err_set(e, -ENOENT, "no-such-secret", "no secret is called \"%.100s\"", w->name);
	return may(&p, w, ret, owner, e);
}

int secrets_look(struct secrets *s, const struct secrets_wish *w, enum seal_delivery *ret, struct err *e)
{
	char owner[SEAL_OWNER_MAX + 1];
	struct err why = ERR_NULL;
	int r = look(s, w, ret, owner, &why);

	if (r < 0)
		refuse(s, w, &why);
	if (r < 0 && e)
		*e = why;
	return r;
}

static int wrong_delivery(const struct secrets_wish *w, enum seal_delivery is, enum seal_delivery how, struct err *e)
{
	return err_set(e, -EACCES, "wrong-delivery", "secret %s is for delivery as %s, not as %s", w->name,
		       seal_delivery_word(is), seal_delivery_word(how));
}

/* Opened here, from the store. What was looked up may be of another version by now, so the file itself is asked. */
static int open_kept(struct secrets *s, const struct secrets_wish *w, enum seal_delivery how, struct secret **ret,
		     char owner[SEAL_OWNER_MAX + 1], struct err *e)
{
	struct seal_policy p = { .name = "" };
	enum seal_delivery is;
	const char *name = w->name;
	AUTO(sealed_close) struct sealed *f = NULL;
	AUTO(buf_fini) struct buf record;
	struct record_parts parts;
	struct entry x;
	struct span sealed, whole;
	int r;

	buf_init(&record, STORE_SECRET_MAX);
	r = store_secret_get(s->store, name, &record);
	if (r == 0)
		r = record_unpack(buf_span(&record), &x, &parts);
	if (r < 0)
		return err_sys(e, r, "reading the secret %s", name);
	sealed = whole = parts.sealed;
	r = sealed_open(seal_source_span(&sealed), &f, e);
	if (r == 0 && !str_eq(sealed_policy(f)->name, name))
		r = err_set(e, -EBADMSG, "damaged", "the secret %s is another one", name);
	if (r == 0) {
		seal_policy_copy(&p, sealed_policy(f));
		r = may(&p, w, &is, owner, e);
	}
	if (r == 0 && is != how)
		r = wrong_delivery(w, is, how, e);
	return r < 0 ? r : s->opener.open(s->opener.ctx, whole, ret, e);
}

int secrets_deliver(struct secrets *s, const struct secrets_wish *w, enum seal_delivery how, struct secret **ret,
		    char owner[SEAL_OWNER_MAX + 1], struct err *e)
{
	AUTO(secret_free) struct secret *value = NULL;
	struct told t = { .what = "delivered",
			  .name = w->name,
			  .who = w->who,
			  .sandbox = w->sandbox,
			  .command = w->command,
			  .how = seal_delivery_word(how) };
	struct err why = ERR_NULL;
	enum seal_delivery is;
	int r = look(s, w, &is, owner, &why);

	if (r == 0 && is != how)
		r = wrong_delivery(w, is, how, &why);
	if (r == 0)
		r = open_kept(s, w, how, &value, owner, &why);
	if (r < 0) {
		refuse(s, w, &why);
	} else {
		secrets_begin(s);
		r = keep(s, NULL, SPAN_NULL, &t, &why); /* what cannot be audited is not delivered */
		secrets_end(s);
	}
	if (r < 0 && e)
		*e = why;
	if (r == 0)
		*ret = take(&value);
	return r;
}

int secrets_seen(struct secrets *s, const char *name, const char *sandbox, const char *who, const char *where,
		 const char *form, struct err *e)
{
	struct told t = { .what = "seen", .name = name, .who = who, .sandbox = sandbox, .where = where, .form = form };
	int r;

	secrets_begin(s);
	r = keep(s, NULL, SPAN_NULL, &t, e);
	secrets_end(s);
	return r;
}
