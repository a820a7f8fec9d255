/* SPDX-License-Identifier: Apache-2.0 */
/* What the options say about a secret, and what a sealed file says about itself. */
#include "sealtool/tool.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

uint64_t tool_now_ms(void)
{
	return (uint64_t)(clock_wall() / 1000000);
}

/* "90d", or a day: "2027-01-31", until its beginning in UTC. */
static int expiry(const char *text, uint64_t now_ms, uint64_t *ret, struct err *e)
{
	struct tm day = { 0 };
	const char *end = strptime(text, "%Y-%m-%d", &day);
	uint64_t ms;

	if (end && !*end) {
		*ret = (uint64_t)timegm(&day) * 1000;
		return 0;
	}
	if (num_duration_ms(text, &ms) < 0 || ms == 0 || ms > 100ULL * 366 * 86400 * 1000)
		return err_set(e, -EINVAL, "bad-policy", "\"%s\" is no expiry: 90d, 12h or 2027-01-31", text);
	*ret = now_ms + ms;
	return 0;
}

static int add_scope(struct seal_policy *p, const char *word, struct err *e)
{
	if (str_starts(word, "template="))
		return seal_policy_add(p, SEAL_TEMPLATE, word + 9, e);
	if (str_starts(word, "sandbox="))
		return seal_policy_add(p, SEAL_SANDBOX, word + 8, e);
	return err_set(e, -EINVAL, "bad-policy", "--for template=NAME or --for sandbox=ID, not \"%s\"", word);
}

static int limit(const char *text, const char *what, uint64_t max, uint64_t *ret, struct err *e)
{
	if (text && (num_size(text, ret) < 0 || *ret < 1 || *ret > max))
		return err_set(e, -EINVAL, "bad-policy", "\"%.40s\" is no %s", text, what);
	return 0;
}

/* "X-API-Key", or "Authorization: token ": one space behind the colon is of the writing. */
static int header(const char *text, struct seal_policy *p, struct err *e)
{
	const char *colon = strchr(text, ':'), *prefix = colon ? colon + 1 + (colon[1] == ' ') : "";
	AUTO(str_free) char *name = span_dup(SPAN(text, colon ? (size_t)(colon - text) : strlen(text)));

	if (!seal_header_ok(name) || str_copy(p->header, sizeof(p->header), name) < 0 ||
	    str_copy(p->prefix, sizeof(p->prefix), prefix) < 0)
		return err_set(e, -EINVAL, "bad-policy", "\"%.80s\" is no header that a value may be put in", text);
	return 0;
}

/* What requests it may be used for. */
static int add_request(struct tool *t, struct seal_policy *p, struct err *e)
{
	size_t i;
	int r = 0;

	for (i = 0; i < t->methods.n && r == 0; i++)
		r = seal_policy_add(p, SEAL_METHOD, t->methods.v[i], e);
	for (i = 0; i < t->paths.n && r == 0; i++)
		r = seal_policy_add(p, SEAL_PATH, t->paths.v[i], e);
	if (r == 0)
		r = limit(t->per_minute, "number of requests in a minute", SEAL_PER_MINUTE_MAX, &p->per_minute, e);
	if (r == 0)
		r = limit(t->body_max, "size of a body: 1M, 4096", SEAL_BYTES_MAX, &p->body_max, e);
	if (r == 0)
		r = limit(t->answer_max, "size of an answer: 1M, 4096", SEAL_BYTES_MAX, &p->answer_max, e);
	return r == 0 && t->header ? header(t->header, p, e) : r;
}

int tool_policy(struct tool *t, const char *name, struct seal_policy *ret, struct err *e)
{
	struct seal_policy p = { .created_ms = tool_now_ms() };
	size_t i;
	int r = 0;

	if (str_copy(p.name, sizeof(p.name), name) < 0)
		return err_set(e, -EINVAL, "bad-policy", "the name is longer than %d", SEAL_NAME_MAX);
	p.delivery = t->deliver ? seal_delivery_of(t->deliver) : t->hosts.n ? SEAL_BROKER : SEAL_FILE;
	if (t->owner && str_copy(p.owner, sizeof(p.owner), t->owner) < 0)
		r = err_set(e, -EINVAL, "bad-policy", "\"%s\" is no account", t->owner);
	for (i = 0; i < t->for_what.n && r == 0; i++)
		r = add_scope(&p, t->for_what.v[i], e);
	for (i = 0; i < t->hosts.n && r == 0; i++)
		r = seal_policy_add(&p, SEAL_HOST, t->hosts.v[i], e);
	if (r == 0)
		r = add_request(t, &p, e);
	if (r == 0 && t->expires)
		r = expiry(t->expires, p.created_ms, &p.expires_ms, e);
	if (r == 0)
		r = seal_policy_check(&p, e);
	if (r < 0)
		seal_policy_fini(&p);
	else
		*ret = p;
	return r;
}

int tool_use(struct tool *t, struct seal_use *ret, struct err *e)
{
	size_t i;

	*ret = (struct seal_use){ .any = t->any_scope, .name = t->name, .now_ms = tool_now_ms() };
	for (i = 0; i < t->for_what.n; i++) {
		const char *word = t->for_what.v[i];

		if (str_starts(word, "template=") && !ret->template)
			ret->template = word + 9;
		else if (str_starts(word, "sandbox=") && !ret->sandbox)
			ret->sandbox = word + 8;
		else
			return err_set(e, -EINVAL, "bad-policy", "--for template=NAME and --for sandbox=ID, once each");
	}
	if (t->hosts.n > 1)
		return err_set(e, -EINVAL, "bad-policy", "--host once: it is opened for one");
	ret->host = t->hosts.n ? t->hosts.v[0] : NULL;
	return 0;
}

static int check_signer(struct tool *t, struct sealed *s, struct err *e)
{
	struct seal_pub pubs[SEAL_TO_MAX];
	const uint8_t *signer = sealed_signer(s);
	int i, n = tool_pubs(&t->signers, pubs, e);

	for (i = 0; i < n && signer; i++)
		if (memcmp(pubs[i].sign, signer, 32) == 0)
			return 0;
	if (n < 0)
		return n;
	return err_set(e, -ENOKEY, "wrong-signer", signer ? "it is signed by another key" : "it is not signed");
}

int tool_allowed(struct tool *t, struct sealed *s, const char *name, struct err *e)
{
	struct seal_use use;
	int r = tool_use(t, &use, e);

	if (r < 0)
		return r;
	if (name)
		use.name = name;
	r = t->signers.n ? check_signer(t, s, e) : 0;
	return r < 0 ? r : seal_policy_allows(sealed_policy(s), &use, e);
}

static void time_text(uint64_t ms, char ret[32])
{
	time_t at = (time_t)(ms / 1000);
	struct tm tm;

	if (!gmtime_r(&at, &tm) || !strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(ret, 32, "%" PRIu64, ms);
}

static void signer_text(const struct sealed *s, char ret[65])
{
	str_hex(sealed_signer(s), 32, ret);
}

static void show_list(FILE *to, const char *what, const struct seal_list *l)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		fprintf(to, "%-10s %s\n", i ? "" : what, l->v[i]);
}

/* Of version 2: what is not said is not shown. */
static void show_request(FILE *to, const struct seal_policy *p)
{
	show_list(to, "methods", &p->methods);
	show_list(to, "paths", &p->paths);
	if (p->per_minute)
		fprintf(to, "per minute %" PRIu64 "\n", p->per_minute);
	if (p->body_max)
		fprintf(to, "body max   %" PRIu64 "\n", p->body_max);
	if (p->answer_max)
		fprintf(to, "answer max %" PRIu64 "\n", p->answer_max);
	if (p->header[0])
		fprintf(to, "header     %s: %s\n", p->header, p->prefix);
}

void tool_show(FILE *to, const struct sealed *s, uint64_t len)
{
	static const char *const forms[] = { [SEAL_TEXT] = "text", [SEAL_BINARY] = "binary", [SEAL_WORD] = "word" };
	const struct seal_policy *p = sealed_policy(s);
	const struct seal_id *ids;
	size_t i, n = sealed_to(s, &ids);
	char text[65];

	fprintf(to, "name       %s\ndelivery   %s\n", p->name, seal_delivery_word(p->delivery));
	if (p->owner[0])
		fprintf(to, "owner      %s\n", p->owner);
	show_list(to, "templates", &p->templates);
	show_list(to, "sandboxes", &p->sandboxes);
	show_list(to, "hosts", &p->hosts);
	show_request(to, p);
	time_text(p->created_ms, text);
	fprintf(to, "created    %s\n", text);
	time_text(p->expires_ms, text);
	fprintf(to, "expires    %s%s\n", p->expires_ms ? text : "never",
		p->expires_ms && p->expires_ms <= tool_now_ms() ? ", which is past" : "");
	for (i = 0; i < n; i++) {
		seal_id_text(&ids[i], text);
		fprintf(to, "%-10s %s\n", i ? "" : "keys", text);
	}
	if (sealed_signer(s))
		signer_text(s, text);
	fprintf(to, "signed by  %s\n", sealed_signer(s) ? text : "nobody");
	fprintf(to, "length     %" PRIu64 "\nformat     %u, %s\n", len, seal_policy_version(p), forms[sealed_form(s)]);
}

static void json_list(FILE *to, const char *key, const struct seal_list *l)
{
	size_t i;

	fprintf(to, ",\"%s\":[", key);
	for (i = 0; i < l->n; i++)
		fprintf(to, "%s\"%s\"", i ? "," : "", l->v[i]);
	fputc(']', to);
}

static void json_request(FILE *to, const struct seal_policy *p)
{
	json_list(to, "methods", &p->methods);
	json_list(to, "paths", &p->paths);
	if (p->per_minute)
		fprintf(to, ",\"per_minute\":%" PRIu64, p->per_minute);
	if (p->body_max)
		fprintf(to, ",\"body_max\":%" PRIu64, p->body_max);
	if (p->answer_max)
		fprintf(to, ",\"answer_max\":%" PRIu64, p->answer_max);
	if (!p->header[0])
		return;
	fprintf(to, ",\"header\":\"%s\",\"prefix\":", p->header);
	tool_quote(to, p->prefix);
}

void tool_show_json(FILE *to, const char *file, const struct sealed *s, uint64_t len)
{
	const struct seal_policy *p = sealed_policy(s);
	const struct seal_id *ids;
	size_t i, n = sealed_to(s, &ids);
	char text[65];

	fputs("{\"file\":", to);
	tool_quote(to, file);
	fprintf(to, ",\"name\":\"%s\",\"delivery\":\"%s\"", p->name, seal_delivery_word(p->delivery));
	if (p->owner[0])
		fprintf(to, ",\"owner\":\"%s\"", p->owner);
	json_list(to, "templates", &p->templates);
	json_list(to, "sandboxes", &p->sandboxes);
	json_list(to, "hosts", &p->hosts);
	json_request(to, p);
	time_text(p->created_ms, text);
	fprintf(to, ",\"created\":\"%s\"", text);
	time_text(p->expires_ms, text);
	if (p->expires_ms)
		fprintf(to, ",\"expires\":\"%s\"", text);
	fputs(",\"keys\":[", to);
	for (i = 0; i < n; i++) {
		seal_id_text(&ids[i], text);
		fprintf(to, "%s\"%s\"", i ? "," : "", text);
	}
	fputs("]", to);
	if (sealed_signer(s)) {
		signer_text(s, text);
		fprintf(to, ",\"signer\":\"%s\"", text);
	}
	fprintf(to, ",\"length\":%" PRIu64 ",\"format\":%u}", len, seal_policy_version(p));
}
