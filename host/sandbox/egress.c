/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of what is put on a sandbox's requests (host/broker/rules.h). They are a line of its record; the broker is told
 * them when the sandbox begins to run, goes on, or has others, and forgets them with its end.
 */
#include "host/sandbox/state.h"

#include "base/log.h"
#include "base/str.h"
#include "host/broker/client.h"
#include "json/json.h"

#include <errno.h>

/* What the rules may do is what the network may, now: the words "off" and "led" of when they were asked for count only
 * where the sandbox has no network. */
struct writing {
	struct json_writer w;
	const struct policy *policy; /* NULL: it has no network */
	bool is_led;		     /* nor has any, now */
};

static int put_header(void *ctx, const char *key, const struct json *value)
{
	jw_kstr(ctx, key, json_text(value));
	return 0;
}

static int put_host(void *ctx, const char *key, const struct json *value)
{
	AUTO(str_free) char *name = span_dup(SPAN(key, strcspn(key, ":")));
	bool off = json_get_bool(value, "off", false), led = json_get_bool(value, "led", false);
	struct writing *x = ctx;

	if (x->policy) {
		off = policy_name(x->policy, name) == POLICY_REFUSED;
		led = !off && x->is_led;
	}
	jw_key(&x->w, key);
	jw_open(&x->w, '{');
	jw_key(&x->w, "headers");
	jw_open(&x->w, '{');
	(void)json_each(json_get(value, "headers"), put_header, &x->w);
	jw_close(&x->w, '}');
	if (off || led) {
		jw_key(&x->w, off ? "off" : "led");
		jw_bool(&x->w, true);
	}
	jw_close(&x->w, '}');
	return 0;
}

/* NULL: it has none. */
static char *copy_of(struct hub *hub, const char *id)
{
	struct policy now = POLICY_NULL;
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *text = NULL;
	AUTO(buf_fini) struct buf to;
	struct writing x = { .w = { .b = &to }, .is_led = !network_has(hub->conf.network) };
	struct sandbox *s;

	buf_init(&to, HUB_EGRESS_MAX + HUB_EGRESS_MAX);
	lock_take(&hub->lock);
	s = hub_get(hub, id);
	if (s && s->egress) {
		text = must_strdup(s->egress);
		if (s->has_network) {
			policy_copy(&now, &s->network);
			x.policy = &now;
		}
	}
	lock_drop(&hub->lock);
	if (text && json_parse(span_str(text), &j, NULL) == 0) {
		jw_open(&x.w, '{');
		(void)json_each(j, put_host, &x);
		jw_close(&x.w, '}');
	}
	policy_fini(&now);
	return text && !to.failed ? must_strdup(buf_str(&to)) : NULL;
}

int egress_begin(struct sandbox *s, struct span asked, struct err *e)
{
	if (!asked.len)
		return 0;
	if (asked.len > HUB_EGRESS_MAX || memchr(asked.p, '\n', asked.len))
		return err_set(e, -E2BIG, "limit", "rules of a sandbox: at most %d bytes", (int)HUB_EGRESS_MAX);
	if (s->network.proxy)
		return network_no_rules(e);
	if (!s->hub->conf.broker)
		return err_set(e, -EOPNOTSUPP, "no-broker", "this daemon has no broker, which rules are for");
	s->egress = span_dup(asked);
	s->info.has_egress = true;
	return 0;
}

int egress_tell(struct hub *hub, const char *id, struct err *e)
{
	AUTO(str_free) char *text = copy_of(hub, id);

	return hub->conf.broker ? broker_rules(hub->conf.broker, id, span_str(text), e) : 0;
}

void egress_forget(struct sandbox *s)
{
	struct err e = ERR_NULL;
	char *old;

	lock_take(&s->hub->lock);
	old = take(&s->egress);
	s->info.has_egress = false;
	lock_drop(&s->hub->lock);
	if (old && egress_tell(s->hub, s->info.id, &e) < 0)
		log_warn("sandbox", "the broker still has its rules", "id=%s why=%s", s->info.id, e.text);
	free(old);
}

int hub_egress(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e)
{
	AUTO(str_free) char *now = NULL;
	AUTO(str_free) char *text = NULL;
	struct sandbox *s;

	lock_take(&hub->lock);
	s = hub_get(hub, id_or_name);
	if (s)
		now = must_strdup(s->info.id);
	lock_drop(&hub->lock);
	text = now ? copy_of(hub, now) : NULL;
	if (text)
		buf_append(to, text, strlen(text));
	return now ? 0 : err_set(e, -ENOENT, "no-such-sandbox", "no sandbox is called \"%.64s\"", id_or_name);
}

/* It is held meanwhile, so that two changes come one after the other everywhere. */
int hub_set_egress(struct hub *hub, const char *id_or_name, struct span text, struct err *e)
{
	struct sandbox now = { .hub = hub };
	struct sandbox *s;
	char *old = NULL;
	int r = egress_begin(&now, text, e);

	if (r == 0)
		r = past_hold(hub, id_or_name, &s, e);
	if (r < 0) {
		str_free(&now.egress);
		return r;
	}
	if (now.egress && s->network.proxy) {
		r = network_no_rules(e);
	} else if (s->info.state >= SANDBOX_STOPPING) {
		r = err_set(e, -EAGAIN, "not-running", "sandbox %s does not run", s->info.id);
	} else if (!str_eq(s->egress, now.egress)) {
		lock_take(&hub->lock);
		old = s->egress;
		s->egress = take(&now.egress);
		s->info.has_egress = s->egress != NULL;
		lock_drop(&hub->lock);
		r = egress_tell(hub, s->info.id, e);
		if (r == 0)
			r = record_save(s, e);
		if (r == 0 && s->info.state == SANDBOX_RUNNING)
			r = broker_offer_others(s, e);
	}
	past_release(s);
	free(old);
	str_free(&now.egress);
	return r;
}
