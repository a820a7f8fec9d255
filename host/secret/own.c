/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets that keys made for themselves, by the door of E2B's clients: the value comes in clear text, is sealed to our
 * own key at once, and is from then on like any other that is for the broker.
 */
#include "host/secret/inside.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

#define NOBODY "socket"

static const char *owner_of(const char *who)
{
	return who && *who ? who : NOBODY;
}

/* "key.ID." and its length. */
static size_t begin_of(const char *owner, char to[SEAL_NAME_MAX + 1])
{
	return (size_t)snprintf(to, SEAL_NAME_MAX + 1, SEAL_OWN_NAME, owner_of(owner), "");
}

static bool is_word(const char *s)
{
	size_t len = strlen(s);

	return len && len <= SECRETS_WORD_MAX && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-.") == len;
}

int secrets_own_name(const char *owner, const char *word, char to[SEAL_NAME_MAX + 1])
{
	size_t len = begin_of(owner, to);

	if (!is_word(word))
		return -EINVAL;
	snprintf(to + len, SEAL_NAME_MAX + 1 - len, "%s", word);
	return 0;
}

const char *secrets_own_word(const char *name)
{
	const char *dot = str_starts(name, SEAL_OWN_PREFIX) ? strchr(name + strlen(SEAL_OWN_PREFIX), '.') : NULL;

	return dot && dot[1] ? dot + 1 : NULL;
}

bool secrets_own_may(const char *name, const char *who)
{
	char begin[SEAL_NAME_MAX + 1];

	begin_of(who, begin);
	return !secrets_own_word(name) || str_starts(name, begin);
}

/* Nobody changes the table meanwhile. */
static int check_room(struct secrets *s, const char *owner, struct err *e)
{
	char begin[SEAL_NAME_MAX + 1];
	size_t i, mine = 0, all = 0;

	begin_of(owner, begin);
	for (i = 0; i < s->all.len; i++) {
		all += secrets_own_word(s->all.v[i]->policy.name) != NULL;
		mine += str_starts(s->all.v[i]->policy.name, begin);
	}
	if (mine >= SECRETS_OWN_MAX)
		return err_set(e, -EUSERS, "too-many-secrets", "this key has %d secrets, which is the limit",
			       SECRETS_OWN_MAX);
	return all < SECRETS_OWN_ALL ? 0
				     : err_set(e, -EUSERS, "too-many-secrets",
					       "the keys of this daemon have %d secrets, which is the limit",
					       SECRETS_OWN_ALL);
}

static int add_hosts(struct seal_policy *p, const char *hosts, struct err *e)
{
	int r = 0;

	if (!hosts)
		return seal_policy_add(p, SEAL_HOST, "*", e);
	for (hosts += strspn(hosts, " ,"); r == 0 && *hosts; hosts += strspn(hosts, " ,")) {
		size_t len = strcspn(hosts, " ,");
		AUTO(str_free) char *one = span_dup(SPAN(hosts, len));

		r = str_eq(one, "*") ? err_set(e, -EINVAL, "bad-policy", "hosts are named, \"*\" is none")
				     : seal_policy_add(p, SEAL_HOST, one, e);
		hosts += len;
	}
	if (r == 0 && !p->hosts.n)
		return err_set(e, -EINVAL, "bad-policy", "hosts, when they are given, are names with commas between");
	return r;
}

static int check_value(struct secret *value, struct err *e)
{
	size_t len = secret_len(value), i;
	const uint8_t *p = secret_use(value);
	bool bad = false;

	for (i = 0; i < len; i++)
		bad |= p[i] < 0x20 || p[i] == 0x7f;
	secret_rest(value);
	if (len > SECRETS_OWN_VALUE_MAX)
		return err_set(e, -EINVAL, "bad-secret", "a value has at most %d bytes", SECRETS_OWN_VALUE_MAX);
	return len && !bad ? 0
			   : err_set(e, -EINVAL, "bad-secret",
				     "a value is not empty and has no control characters: it goes into a header");
}

/* Sealed later than whatever was there. Nobody changes the table meanwhile. */
static int seal(struct secrets *s, const struct secrets_own *o, const char *name, struct entry *x, struct buf *to,
		struct err *e)
{
	const struct entry *old = secrets_find(s, name, NULL);
	struct seal_job job = { .policy = &x->policy, .to = &s->opener.pub, .n_to = 1, .form = SEAL_BINARY };
	uint64_t now_ms = (uint64_t)(clock_wall() / 1000000);
	int r;

	snprintf(x->policy.name, sizeof(x->policy.name), "%s", name);
	x->policy.delivery = SEAL_BROKER;
	x->policy.created_ms = x->newest_ms = old ? MAX(now_ms, old->newest_ms + 1) : now_ms;
	r = add_hosts(&x->policy, o->hosts, e);
	if (r == 0)
		r = seal_secret(&job, o->value, to, e);
	x->note = must_strdup(o->note);
	x->added_ns = clock_wall();
	x->is_here = true;
	return r;
}

int secrets_own_put(struct secrets *s, const struct secrets_own *o, bool is_new, struct err *e)
{
	AUTO(entry_free) struct entry *x = NEW(struct entry);
	AUTO(buf_fini) struct buf sealed;
	char name[SEAL_NAME_MAX + 1];
	int r = secrets_own_name(o->owner, o->word, name);

	buf_init(&sealed, SECRETS_SEALED_MAX);
	if (r < 0)
		return err_set(e, r, "bad-secret", "a name is 1 to %d small letters, digits, '-', '_' and '.'",
			       SECRETS_WORD_MAX);
	if (strlen(o->note) > SECRETS_NOTE_MAX)
		return err_set(e, -EINVAL, "bad-secret", "what is told of it is too long");
	r = check_value(o->value, e);
	if (r < 0)
		return r;
	secrets_begin(s);
	if (is_new)
		r = check_room(s, o->owner, e);
	else if (!secrets_find(s, name, NULL)) /* removed since it was looked up */
		r = err_set(e, -ENOENT, "no-such-secret", "secret '%.80s' not found", o->word);
	if (r == 0)
		r = seal(s, o, name, x, &sealed, e);
	if (r == 0)
		r = secrets_replace(s, buf_span(&sealed), &x, is_new, o->owner, e);
	secrets_end(s);
	return r;
}

int secrets_own_forget(struct secrets *s, const char *owner, const char *who, struct err *e)
{
	char begin[SEAL_NAME_MAX + 1], name[SEAL_NAME_MAX + 1];
	size_t i;
	int n = 0, r = 0;

	begin_of(owner, begin);
	do {
		name[0] = '\0';
		lock_take(&s->lock);
		for (i = 0; i < s->all.len && !name[0]; i++)
			if (s->all.v[i]->is_here && str_starts(s->all.v[i]->policy.name, begin))
				snprintf(name, sizeof(name), "%s", s->all.v[i]->policy.name);
		lock_drop(&s->lock);
		if (name[0])
			r = secrets_remove(s, name, who, e);
		if (r == -ENOENT) { /* somebody else was first */
			r = 0;
			if (e)
				*e = ERR_NULL;
		}
		n += name[0] != '\0';
	} while (name[0] && r == 0);
	return r < 0 ? r : n;
}
