/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets in memory, keys as text, sealed files: what goes in comes out, and what was touched does not open. */
#include "base/io.h"
#include "base/str.h"
#include "seal/sealed.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define VALUE "ghp_0123456789abcdef"
enum { NOW = 2 }; /* milliseconds: everything below is from the beginning of 1970 */

static struct seal_key *new_key(void)
{
	struct seal_key *k = NULL;

	cr_assert_eq(seal_key_new(&k), 0);
	return k;
}

static struct seal_key *vector_key(int first)
{
	AUTO(secret_free) struct secret *seed = secret_new(32);
	struct seal_key *k = NULL;
	int i;

	for (i = 0; i < 32; i++) {
		secret_use(seed)[i] = (uint8_t)(first + i);
		secret_rest(seed);
	}
	cr_assert_eq(seal_key_of(seed, &k), 0);
	return k;
}

static struct seal_policy policy(void)
{
	return (struct seal_policy){ .name = "GITHUB_TOKEN", .delivery = SEAL_ENV, .created_ms = 1 };
}

/* All that version 2 can say and version 1 cannot. */
static struct seal_policy policy_of_requests(void)
{
	struct seal_policy p = { .name = "A", .delivery = SEAL_BROKER, .created_ms = 1, .per_minute = 60,
				 .body_max = 4096, .answer_max = 1 << 20, .header = "X-Key", .prefix = "token " };

	cr_assert_eq(seal_policy_add(&p, SEAL_HOST, "a.b", NULL), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_HOST, "*", NULL), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_METHOD, "POST", NULL), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_METHOD, "GET", NULL), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_PATH, "/v1/**", NULL), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_PATH, "/me", NULL), 0);
	return p;
}

static void seal_as(const struct seal_policy *p, struct seal_key *to, struct seal_key *signer, enum seal_form form,
		    struct span value, struct buf *b)
{
	AUTO(secret_free) struct secret *s = secret_of(value);
	struct seal_pub pub = *seal_key_pub(to);
	struct seal_job job = { .policy = p, .to = &pub, .n_to = 1, .signer = signer, .form = form };
	struct err e = ERR_NULL;

	buf_init(b, 4 * 1024 * 1024);
	cr_assert_eq(seal_secret(&job, s, b, &e), 0, "%s", e.text);
}

static void seal(struct seal_key *to, struct seal_key *signer, enum seal_form form, struct span value, struct buf *b)
{
	const struct seal_policy p = policy();

	seal_as(&p, to, signer, form, value, b);
}

/* 0 and the value is @want, where there is one; or the refusal. */
static int try_open(struct seal_key *k, struct span file, struct span want)
{
	AUTO(sealed_close) struct sealed *s = NULL;
	AUTO(secret_free) struct secret *v = NULL;
	struct err e = ERR_NULL;
	int r = sealed_open(seal_source_span(&file), &s, &e);

	if (r == 0)
		r = sealed_value(s, k, SECRET_MAX, &v, &e);
	cr_assert(r == 0 || (v == NULL && e.text[0]));
	if (r < 0 || !want.p)
		return r;
	cr_assert(span_eq(SPAN(secret_use(v), secret_len(v)), want));
	secret_rest(v);
	return 0;
}

/* --- in memory ---------------------------------------------------------------------------------------------------- */

static bool flags_of(const void *p, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long from, to;
	bool inside = false, found = false;
	char line[512];

	cr_assert(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= (uintptr_t)p && (uintptr_t)p < to;
		else if (inside && str_starts(line, "VmFlags:"))
			found = strstr(line, flag) != NULL;
	}
	fclose(f);
	return found;
}

/* Whether mlock(2) does what it says: sanitizers leave it away. */
static bool locks(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool yes = mlock(page, 4096) == 0 && flags_of(page, " lo");

	munmap(page, 4096);
	return yes;
}

Test(secret, lies_in_memory_of_its_own)
{
	AUTO(secret_free) struct secret *s = secret_of(span_str(VALUE));
	const uint8_t *p = secret_use(s);

	cr_assert(flags_of(p, " dd"), "it would be in a core dump");
	cr_assert(flags_of(p, " wf"), "a child would have it");
	cr_assert(!secret_is_locked() || !locks() || flags_of(p, " lo"), "it could be in the swap");
	cr_assert(flags_of(p, " rd"));
	secret_rest(s);
	cr_assert_not(flags_of(p, " rd"), "it can be read while nobody uses it");
}

static int signal_of(const volatile uint8_t *p)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		_exit(*p == 'g');
	}
	cr_assert(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

Test(secret, a_stray_read_faults)
{
	AUTO(secret_free) struct secret *s = secret_of(span_str(VALUE));
	const uint8_t *p = secret_use(s);

	cr_assert_eq(signal_of(p), 0, "a child has zeroes, and may read them");
	cr_assert_eq(signal_of(p + secret_len(s)), SIGSEGV, "behind it is a guard page");
	secret_rest(s);
	cr_assert_eq(signal_of(p), SIGSEGV, "nobody uses it");
}

Test(secret, compares_cuts_and_reads)
{
	AUTO(secret_free) struct secret *a = secret_of(span_str(VALUE)), *b = NULL, *c = NULL;
	static char big[70000];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(write(fds[1], VALUE, strlen(VALUE)), (ssize_t)strlen(VALUE));
	close(fds[1]);
	cr_assert_eq(secret_read(fds[0], 100, &b), 0);
	close(fds[0]);
	cr_assert(secret_same(a, b));
	secret_cut(b, 4);
	cr_assert_not(secret_same(a, b));
	cr_assert_eq(secret_len(b), 4);
	cr_assert_eq(secret_use(b)[4], 0, "what was cut off is gone");
	secret_rest(b);
	cr_assert_null(secret_new(SECRET_MAX + 1));
	fds[0] = memfd_create("big", 0);
	memset(big, 'x', sizeof(big));
	cr_assert_eq(io_write_full(fds[0], big, sizeof(big)), 0);
	cr_assert_eq(lseek(fds[0], 0, SEEK_SET), 0);
	cr_assert_eq(secret_read(fds[0], sizeof(big) - 1, &c), -E2BIG);
	cr_assert_eq(lseek(fds[0], 0, SEEK_SET), 0);
	cr_assert_eq(secret_read(fds[0], sizeof(big), &c), 0);
	cr_assert_eq(secret_len(c), sizeof(big));
	close(fds[0]);
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

static bool same_key(const struct seal_key *a, const struct seal_key *b)
{
	return memcmp(seal_key_pub(a), seal_key_pub(b), sizeof(struct seal_pub)) == 0;
}

Test(key, text_and_back)
{
	AUTO(seal_key_free) struct seal_key *k = new_key(), *again = NULL, *none = NULL;
	AUTO(secret_free) struct secret *text = NULL, *wrapped = NULL, *pass = secret_of(span_str("correct horse"));
	AUTO(secret_free) struct secret *other = secret_of(span_str("correct house"));
	struct err e = ERR_NULL;

	cr_assert_eq(seal_key_text(k, NULL, false, &text), 0);
	cr_assert_eq(seal_key_parse(text, NULL, &again, &e), 0, "%s", e.text);
	cr_assert(same_key(k, again));
	seal_key_free(&again);
	cr_assert_eq(seal_key_text(k, pass, true, &wrapped), 0);
	cr_assert_eq(seal_key_parse(wrapped, NULL, &none, &e), -ENOKEY);
	cr_assert_str_eq(e.slug, "passphrase-needed");
	cr_assert_eq(seal_key_parse(wrapped, other, &none, &e), -ENOKEY);
	cr_assert_str_eq(e.slug, "passphrase-wrong");
	cr_assert_eq(seal_key_parse(wrapped, pass, &again, &e), 0, "%s", e.text);
	cr_assert(same_key(k, again));
}

/* Any letter of a key as text, a typing error. */
Test(key, typing_errors_are_told)
{
	AUTO(seal_key_free) struct seal_key *k = new_key(), *none = NULL;
	AUTO(secret_free) struct secret *text = NULL;
	AUTO(buf_fini) struct buf pub;
	struct seal_pub p;
	size_t i, begin;
	char *s;

	buf_init(&pub, 0);
	seal_pub_text(seal_key_pub(k), &pub);
	cr_assert_eq(seal_pub_parse(buf_span(&pub), &p, NULL), 0);
	cr_assert_eq(memcmp(&p, seal_key_pub(k), sizeof(p)), 0);
	for (i = 0; i < buf_len(&pub); i++) {
		pub.p[pub.start + i] ^= 1;
		cr_assert_eq(seal_pub_parse(buf_span(&pub), &p, NULL), -EINVAL, "letter %zu", i);
		pub.p[pub.start + i] ^= 1;
		cr_assert_eq(seal_pub_parse(SPAN(pub.p + pub.start, i), &p, NULL), -EINVAL, "%zu letters", i);
	}
	cr_assert_eq(seal_key_text(k, NULL, false, &text), 0);
	s = (char *)secret_use(text);
	begin = (size_t)(strstr(s, "\nberth-key-1:") + 1 - s);
	for (i = begin; i + 1 < secret_len(text); i++) {
		s[i] ^= 1;
		cr_assert_lt(seal_key_parse(text, NULL, &none, NULL), 0, "letter %zu", i);
		s[i] ^= 1;
	}
	secret_rest(text);
}

Test(key, a_file_that_others_may_read_is_refused)
{
	AUTO(seal_key_free) struct seal_key *k = new_key(), *again = NULL;
	AUTO(secret_free) struct secret *text = NULL;
	char name[] = "/tmp/berth-key-XXXXXX";
	int fd = mkstemp(name);
	struct err e = ERR_NULL;

	cr_assert_geq(fd, 0);
	cr_assert_eq(seal_key_text(k, NULL, false, &text), 0);
	cr_assert_eq(io_write_full(fd, secret_use(text), secret_len(text)), 0);
	secret_rest(text);
	cr_assert_eq(seal_key_load(name, NULL, &again, &e), 0, "%s", e.text);
	cr_assert(same_key(k, again));
	seal_key_free(&again);
	cr_assert_eq(fchmod(fd, 0640), 0);
	cr_assert_eq(seal_key_load(name, NULL, &again, &e), -EPERM);
	cr_assert_str_eq(e.slug, "key-open");
	close(fd);
	unlink(name);
	cr_assert_eq(seal_key_load(name, NULL, &again, &e), -ENOENT);
}

Test(key, lists_of_recipients)
{
	AUTO(buf_fini) struct buf b;
	AUTO(seal_key_free) struct seal_key *k = new_key(), *l = new_key();
	struct seal_pub pubs[2];
	struct err e = ERR_NULL;

	buf_init(&b, 0);
	buf_printf(&b, "# us\n\n  ");
	seal_pub_text(seal_key_pub(k), &b);
	buf_printf(&b, "\r\n");
	seal_pub_text(seal_key_pub(l), &b);
	cr_assert_eq(seal_pub_list(buf_span(&b), pubs, 2, &e), 2, "%s", e.text);
	cr_assert_eq(seal_pub_list(buf_span(&b), pubs, 1, &e), -E2BIG);
	buf_printf(&b, "\nnobody");
	cr_assert_eq(seal_pub_list(buf_span(&b), pubs, 2, &e), -E2BIG);
	cr_assert_eq(seal_pub_list(span_str("# nobody\nberth-pub-1:abc"), pubs, 2, &e), -EINVAL);
	cr_assert(strstr(e.text, "line 2"));
	cr_assert_eq(seal_pub_list(span_str("#\n"), pubs, 2, &e), 0);
}

/* --- sealed files ------------------------------------------------------------------------------------------------- */

Test(sealed, what_goes_in_comes_out)
{
	static const size_t lens[] = { 0, 1, 56, 57, 58, 65535, 65536, 65537, 65583, 65584, 131072, 200001 };
	AUTO(seal_key_free) struct seal_key *k = new_key(), *signer = new_key(), *other = new_key();
	char *data = must_calloc(1, 200001);
	int form;
	size_t i;

	for (i = 0; i < 200001; i++)
		data[i] = (char)(i * 31 + i / 256);
	for (i = 0; i < ARRAY_LEN(lens); i++)
		for (form = SEAL_TEXT; form <= SEAL_WORD; form++) {
			AUTO(buf_fini) struct buf b, c;

			seal(k, i % 2 ? signer : NULL, (enum seal_form)form, SPAN(data, lens[i]), &b);
			cr_assert_eq(try_open(k, buf_span(&b), SPAN(data, lens[i])), 0, "%zu bytes", lens[i]);
			cr_assert_eq(try_open(other, buf_span(&b), SPAN_NULL), -ENOKEY);
			seal(k, NULL, (enum seal_form)form, SPAN(data, lens[i]), &c);
			cr_assert_not(span_eq(buf_span(&b), buf_span(&c)), "the same file twice");
			cr_assert_eq(try_open(k, buf_span(&c), SPAN(data, lens[i])), 0, "%zu bytes, unsigned", lens[i]);
		}
	free(data);
}

/* As a stream it is the same as from memory, where the source gives a few bytes at a time, too. */
struct trickle {
	struct span left;
	size_t step;
};

static ssize_t trickle(void *ctx, void *p, size_t len)
{
	struct trickle *t = ctx;
	size_t n = MIN(MIN(len, t->left.len), t->step);

	memcpy(p, t->left.p, n);
	t->left = SPAN((const char *)t->left.p + n, t->left.len - n);
	t->step = t->step % 4099 + 1;
	return (ssize_t)n;
}

Test(sealed, streams)
{
	static const size_t lens[] = { 0, 1, 65536, 65537, 131072, 300000 };
	AUTO(seal_key_free) struct seal_key *k = new_key();
	struct seal_policy p = policy();
	struct seal_pub pub = *seal_key_pub(k);
	struct seal_job job = { .policy = &p, .to = &pub, .n_to = 1, .signer = k };
	char *data = must_calloc(1, 300000);
	struct err e = ERR_NULL;
	size_t i;

	for (i = 0; i < 300000; i++)
		data[i] = (char)(i * 131 + i / 999);
	for (i = 0; i < ARRAY_LEN(lens); i++) {
		AUTO(buf_fini) struct buf b, out;
		AUTO(sealed_close) struct sealed *s = NULL;
		struct trickle in = { SPAN(data, lens[i]), 1 }, back;

		buf_init(&b, 1024 * 1024);
		buf_init(&out, 1024 * 1024);
		cr_assert_eq(seal_stream(&job, (struct seal_source){ trickle, &in }, seal_sink_buf(&b), &e), 0, "%s",
			     e.text);
		back = (struct trickle){ buf_span(&b), 3 };
		cr_assert_eq(sealed_open((struct seal_source){ trickle, &back }, &s, &e), 0, "%s", e.text);
		cr_assert_eq(sealed_body(s, k, seal_sink_buf(&out), &e), 0, "%s", e.text);
		cr_assert(span_eq(buf_span(&out), SPAN(data, lens[i])));
	}
	free(data);
}

static void all_changes(const struct seal_policy *policy, struct seal_key *k, struct seal_key *signer,
			enum seal_form form)
{
	static const uint8_t masks[] = { 0x01, 0x02, 0x20, 0x80 };
	AUTO(buf_fini) struct buf b;
	size_t i, m, len;
	uint8_t *p;

	seal_as(policy, k, signer, form, span_str(VALUE), &b);
	p = b.p + b.start;
	len = buf_len(&b);
	cr_assert_eq(try_open(k, SPAN(p, len), span_str(VALUE)), 0);
	for (i = 0; i < len; i++) {
		for (m = 0; m < ARRAY_LEN(masks); m++) {
			p[i] ^= masks[m];
			cr_assert_lt(try_open(k, SPAN(p, len), SPAN_NULL), 0, "byte %zu, form %d", i, form);
			p[i] ^= masks[m];
		}
		cr_assert_lt(try_open(k, SPAN(p, i), SPAN_NULL), 0, "cut to %zu, form %d", i, form);
		if (i + 1 < len && p[i] != p[i + 1]) {
			uint8_t first = p[i];

			p[i] = p[i + 1];
			p[i + 1] = first;
			cr_assert_lt(try_open(k, SPAN(p, len), SPAN_NULL), 0, "bytes %zu, form %d", i, form);
			p[i + 1] = p[i];
			p[i] = first;
		}
	}
	for (i = 0; i < 256; i++) {
		uint8_t more = (uint8_t)i;

		cr_assert_eq(buf_append(&b, &more, 1), 0);
		cr_assert_lt(try_open(k, buf_span(&b), SPAN_NULL), 0, "byte %zu behind it, form %d", i, form);
		b.end--;
	}
	cr_assert_eq(try_open(k, buf_span(&b), span_str(VALUE)), 0);
}

Test(sealed, a_change_of_any_byte_is_refused, .timeout = 120)
{
	AUTO(seal_key_free) struct seal_key *k = new_key(), *signer = new_key();
	struct seal_policy p[] = { policy(), policy_of_requests() };
	size_t i;
	int form;

	for (i = 0; i < ARRAY_LEN(p); i++) {
		for (form = SEAL_TEXT; form <= SEAL_WORD; form++) {
			all_changes(&p[i], k, NULL, (enum seal_form)form);
			all_changes(&p[i], k, signer, (enum seal_form)form);
		}
		seal_policy_fini(&p[i]);
	}
}

/* A file's version is the oldest that can say what is in it, and every other one is refused: by name, when it is not
 * known, as damage when it is. */
Test(sealed, other_versions_are_refused)
{
	AUTO(seal_key_free) struct seal_key *k = new_key();
	struct seal_policy p[] = { policy(), policy_of_requests() };
	size_t n;
	int i;

	for (n = 0; n < ARRAY_LEN(p); n++) {
		AUTO(buf_fini) struct buf b;

		seal_as(&p[n], k, NULL, SEAL_BINARY, span_str(VALUE), &b);
		cr_assert_eq(b.p[b.start + 7], n + 1);
		for (i = 0; i < 256; i++) {
			b.p[b.start + 7] = (uint8_t)i;
			cr_assert_eq(try_open(k, buf_span(&b), span_str(VALUE)),
				     i == (int)n + 1	  ? 0
				     : i == 1 || i == 2 ? -EBADMSG
							  : -EPROTONOSUPPORT);
		}
		seal_policy_fini(&p[n]);
	}
}

/* Each of the fields of version 2 alone makes it version 2, comes back as it was, and is for the broker alone. */
Test(sealed, fields_of_version_2)
{
	AUTO(seal_key_free) struct seal_key *k = new_key();
	int i;

	for (i = 0; i < 8; i++) {
		AUTO(sealed_close) struct sealed *s = NULL;
		AUTO(buf_fini) struct buf b;
		struct seal_policy p = { .name = "A", .delivery = SEAL_BROKER, .created_ms = 1 };
		const struct seal_policy *q;
		struct span in;

		cr_assert_eq(seal_policy_add(&p, SEAL_HOST, i == 0 ? "*" : "a.b", NULL), 0);
		cr_assert(i != 1 || seal_policy_add(&p, SEAL_METHOD, "PATCH", NULL) == 0);
		cr_assert(i != 2 || seal_policy_add(&p, SEAL_PATH, "/a/*", NULL) == 0);
		p.per_minute = i == 3 ? SEAL_PER_MINUTE_MAX : 0;
		p.body_max = i == 4 ? SEAL_BYTES_MAX : 0;
		p.answer_max = i == 5;
		strcpy(p.header, i >= 6 ? "x-key" : "");
		strcpy(p.prefix, i == 7 ? "t: " : "");
		seal_as(&p, k, NULL, SEAL_BINARY, span_str(VALUE), &b);
		cr_assert_eq(b.p[b.start + 7], 2, "field %d", i);
		in = buf_span(&b);
		cr_assert_eq(sealed_open(seal_source_span(&in), &s, NULL), 0);
		q = sealed_policy(s);
		cr_assert(seal_policy_any_host(q) == (i == 0) && q->methods.n == (i == 1) && q->paths.n == (i == 2) &&
			  q->per_minute == p.per_minute && q->body_max == p.body_max && q->answer_max == p.answer_max &&
			  str_eq(q->header, p.header) && str_eq(q->prefix, p.prefix));
		p.delivery = SEAL_ENV;
		cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL, "field %d", i);
		seal_policy_fini(&p);
	}
}

/* Chunks in another order, twice, one missing, of another file. */
Test(sealed, chunks_are_bound_to_their_place)
{
	enum { CHUNK = SEAL_CHUNK + 17 };
	AUTO(seal_key_free) struct seal_key *k = new_key();
	char *data = must_calloc(3, SEAL_CHUNK);
	AUTO(buf_fini) struct buf b, other, m;
	size_t head;

	memset(data, 'a', 3 * SEAL_CHUNK);
	seal(k, NULL, SEAL_BINARY, SPAN(data, 3 * SEAL_CHUNK), &b);
	seal(k, NULL, SEAL_BINARY, SPAN(data, 3 * SEAL_CHUNK), &other);
	head = buf_len(&b) - 3 * CHUNK;
	const uint8_t *p = buf_span(&b).p, *q = buf_span(&other).p;
	struct {
		const uint8_t *part[4];
	} tries[] = {
		{ { p, p + CHUNK, p + 2 * CHUNK } },
		{ { p + CHUNK, p, p + 2 * CHUNK } },
		{ { p, p, p + 2 * CHUNK } },
		{ { p, p + 2 * CHUNK } },
		{ { p, p + CHUNK } },
		{ { p + 2 * CHUNK } },
		{ { p, p + 2 * CHUNK, p + CHUNK } },
		{ { p, p + CHUNK, p + 2 * CHUNK, p + 2 * CHUNK } },
		{ { p, q + CHUNK, p + 2 * CHUNK } },
		{ { q, q + CHUNK, q + 2 * CHUNK } },
	};
	size_t i, j;

	buf_init(&m, 1024 * 1024);
	for (i = 0; i < ARRAY_LEN(tries); i++) {
		buf_consume(&m, buf_len(&m));
		buf_append(&m, p, head);
		for (j = 0; j < 4 && tries[i].part[j]; j++)
			buf_append(&m, tries[i].part[j] + head, CHUNK);
		cr_assert_eq(try_open(k, buf_span(&m), SPAN(data, 3 * SEAL_CHUNK)), i == 0 ? 0 : -EBADMSG, "try %zu",
			     i);
	}
	free(data);
}

Test(sealed, for_several_and_signed)
{
	AUTO(seal_key_free) struct seal_key *k = vector_key(0), *l = vector_key(32), *other = new_key();
	AUTO(sealed_close) struct sealed *s = NULL;
	AUTO(secret_free) struct secret *v = secret_of(span_str(VALUE));
	AUTO(buf_fini) struct buf b;
	struct seal_pub pubs[3] = { *seal_key_pub(k), *seal_key_pub(l), *seal_key_pub(k) };
	struct seal_policy p = policy();
	struct seal_job job = { .policy = &p, .to = pubs, .n_to = 3, .signer = other, .form = SEAL_BINARY };
	const struct seal_id *ids;
	uint64_t len;
	struct span in;
	struct err e = ERR_NULL;

	buf_init(&b, 0);
	cr_assert_eq(seal_secret(&job, v, &b, &e), 0);
	cr_assert_eq(try_open(k, buf_span(&b), span_str(VALUE)), 0);
	cr_assert_eq(try_open(l, buf_span(&b), span_str(VALUE)), 0);
	cr_assert_eq(try_open(other, buf_span(&b), SPAN_NULL), -ENOKEY);
	in = buf_span(&b);
	cr_assert_eq(sealed_open(seal_source_span(&in), &s, &e), 0);
	cr_assert_eq(sealed_to(s, &ids), 2, "the same key twice is one recipient");
	cr_assert_eq(memcmp(sealed_signer(s), seal_key_pub(other)->sign, 32), 0);
	cr_assert_eq(sealed_walk(s, &len, &e), 0, "%s", e.text);
	cr_assert_eq(len, strlen(VALUE));
	sealed_close(&s);
	b.p[b.end - 1] ^= 1;
	in = buf_span(&b);
	cr_assert_eq(sealed_open(seal_source_span(&in), &s, &e), 0);
	cr_assert_eq(sealed_walk(s, &len, &e), -EKEYREJECTED);
	cr_assert_eq(try_open(k, buf_span(&b), SPAN_NULL), -EKEYREJECTED, "and the key does not help");
	job.n_to = 0;
	cr_assert_eq(seal_secret(&job, v, &b, &e), -EINVAL);
}

static void open_vector(const char *name, struct span want)
{
	AUTO(seal_key_free) struct seal_key *k = vector_key(0);
	AUTO(str_free) char *path = str_printf("%s/%s", FIXTURES, name);
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 0);
	cr_assert_eq(io_read_file(AT_FDCWD, path, &b), 0, "%s", path);
	cr_assert_eq(try_open(k, buf_span(&b), want), 0, "%s", name);
}

Test(sealed, vectors)
{
	char *big = must_calloc(1, 131073);
	size_t i;

	for (i = 0; i < 131073; i++)
		big[i] = (char)(i * 7 % 251);
	open_vector("plain.sealed", span_str(VALUE));
	open_vector("plain.bin", span_str(VALUE));
	open_vector("plain.word", span_str(VALUE));
	open_vector("signed.sealed", span_str(VALUE));
	open_vector("requests.bin", span_str(VALUE));
	open_vector("requests.sealed", span_str(VALUE));
	open_vector("empty.bin", span_str(""));
	open_vector("chunks.bin", SPAN(big, 131073));
	free(big);
}

Test(sealed, vectors_of_keys)
{
	AUTO(buf_fini) struct buf b;
	struct seal_pub pubs[2];
	char id[SEAL_ID_TEXT];
	int i;

	buf_init(&b, 0);
	cr_assert_eq(io_read_file(AT_FDCWD, FIXTURES "/keys", &b), 0);
	cr_assert_eq(seal_pub_list(buf_span(&b), pubs, 2, NULL), 2);
	for (i = 0; i < 2; i++) {
		AUTO(seal_key_free) struct seal_key *k = vector_key(32 * i);
		struct seal_id the_id = seal_pub_id(&pubs[i]);

		cr_assert_eq(memcmp(&pubs[i], seal_key_pub(k), sizeof(pubs[i])), 0);
		seal_id_text(&the_id, id);
		cr_assert(strstr(buf_str(&b), id), "%s", id);
	}
}

/* --- what it is for ----------------------------------------------------------------------------------------------- */

Test(policy, scopes_and_expiry)
{
	struct seal_policy p = policy();
	struct seal_use use = { .name = "GITHUB_TOKEN", .template = "ci-fix", .sandbox = "s1", .host = "api.github.com",
				.now_ms = NOW };
	struct err e = ERR_NULL;

	cr_assert_eq(seal_policy_allows(&p, &use, &e), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_TEMPLATE, "ci-fix", &e), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_TEMPLATE, "base", &e), 0);
	cr_assert_str_eq(p.templates.v[0], "base", "in order");
	cr_assert_eq(seal_policy_add(&p, SEAL_TEMPLATE, "base", &e), 0);
	cr_assert_eq(p.templates.n, 2);
	cr_assert_eq(seal_policy_add(&p, SEAL_HOST, "*.github.com", &e), 0);
	p.expires_ms = NOW + 1;
	cr_assert_eq(seal_policy_allows(&p, &use, &e), 0, "%s", e.text);
	use.template = "other";
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EXDEV);
	cr_assert_str_eq(e.slug, "wrong-template");
	use.template = NULL;
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EXDEV, "what is restricted must be said");
	use.template = "base";
	use.host = "github.com";
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EXDEV);
	cr_assert_str_eq(e.slug, "wrong-host");
	use.any = true;
	cr_assert_eq(seal_policy_allows(&p, &use, &e), 0);
	use.name = "OTHER";
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EXDEV, "a name is always asked");
	cr_assert_str_eq(e.slug, "wrong-name");
	use.name = NULL;
	use.now_ms = p.expires_ms;
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EKEYEXPIRED);
	seal_policy_fini(&p);
}

Test(policy, hosts)
{
	cr_assert(seal_host_matches("api.github.com", "API.github.com"));
	cr_assert_not(seal_host_matches("api.github.com", "api.github.com:8443"));
	cr_assert(seal_host_matches("api.github.com:8443", "api.github.com:8443"));
	cr_assert(seal_host_matches("*.github.com", "api.github.com"));
	cr_assert_not(seal_host_matches("*.github.com", "github.com"));
	cr_assert_not(seal_host_matches("*.github.com", ".github.com"));
	cr_assert_not(seal_host_matches("*.github.com", "a.b.github.com"));
	cr_assert_not(seal_host_matches("*.github.com", "api.github.com.evil.org"));
	cr_assert_not(seal_host_matches("*.github.com", "evilgithub.com"));
}

Test(policy, any_host_is_what_a_rule_says)
{
	struct seal_policy p = { .name = "A", .delivery = SEAL_BROKER };
	struct seal_use use = { .host = "a.b", .now_ms = NOW };
	struct err e = ERR_NULL;

	cr_assert_eq(seal_policy_add(&p, SEAL_HOST, "c.d", NULL), 0);
	use.ruled = true;
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EXDEV, "a rule does not make it for another host");
	cr_assert_eq(seal_policy_add(&p, SEAL_HOST, "*", NULL), 0);
	cr_assert_eq(seal_policy_allows(&p, &use, &e), 0, "%s", e.text);
	use.ruled = false;
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EXDEV, "without a rule it is none");
	cr_assert_str_eq(e.slug, "wrong-host");
	use.host = "*";
	cr_assert_eq(seal_policy_allows(&p, &use, &e), -EXDEV, "nobody is called so");
	use.host = "c.d";
	cr_assert_eq(seal_policy_allows(&p, &use, &e), 0, "%s", e.text);
	seal_policy_fini(&p);
}

Test(policy, requests)
{
	static const struct {
		const char *method, *path, *slug;
	} all[] = {
		{ "GET", "/v1/a/b", "" },   { "POST", "/me", "" },     { "DELETE", "/me", "method" },
		{ "get", "/me", "method" }, { NULL, "/me", "method" }, { "GET", "/me/", "path" },
		{ "GET", "/v2", "path" },   { "GET", NULL, "path" },
	};
	static const struct {
		const char *header, *prefix;
		bool is;
	} puts[] = {
		{ "X-KEY", "token ", true },		 { "X-Key", "token", false }, { "X-Key", NULL, false },
		{ "Authorization", "token ", false }, { NULL, "token ", false },   { NULL, NULL, false },
	};
	struct seal_policy p = policy_of_requests(), any = policy();
	size_t i;

	for (i = 0; i < ARRAY_LEN(all); i++) {
		struct err e = ERR_NULL;

		cr_expect_eq(seal_policy_permits(&p, all[i].method, all[i].path, &e), all[i].slug[0] ? -EXDEV : 0);
		cr_expect_str_eq(e.slug, all[i].slug, "%zu", i);
		cr_expect_eq(seal_policy_permits(&any, all[i].method, all[i].path, &e), 0, "%zu", i);
	}
	for (i = 0; i < ARRAY_LEN(puts); i++) {
		cr_expect_eq(seal_policy_puts(&p, puts[i].header, puts[i].prefix, NULL), puts[i].is ? 0 : -EXDEV);
		cr_expect_eq(seal_policy_puts(&any, puts[i].header, puts[i].prefix, NULL), 0, "%zu", i);
	}
	strcpy(p.prefix, "");
	cr_expect_eq(seal_policy_puts(&p, "x-key", NULL, NULL), 0, "nothing is nothing");
	seal_policy_fini(&p);
}

Test(policy, what_is_no_request)
{
	static const char *const methods[] = { "", "get", "CONNECT", "TRACE", "*", "GET " };
	static const char *const paths[] = {
		"", "a", "*", "//", "/a//b", "/***", "/a b", "/a?b", "/\"", "/a\\b", "/\n"
	};
	static const char *const headers[] = { "Host", "a b", "a:", "content-length", "\xc3\xa4", "a\n" };
	struct seal_policy p = { .name = "A", .delivery = SEAL_BROKER, .created_ms = 1 };
	char word[SEAL_PATH_MAX + 2];
	size_t i;

	for (i = 0; i < ARRAY_LEN(methods); i++)
		cr_assert_eq(seal_policy_add(&p, SEAL_METHOD, methods[i], NULL), -EINVAL, "%s", methods[i]);
	for (i = 0; i < ARRAY_LEN(paths); i++)
		cr_assert_eq(seal_policy_add(&p, SEAL_PATH, paths[i], NULL), -EINVAL, "%s", paths[i]);
	memset(word, 'a', sizeof(word));
	word[0] = '/';
	word[SEAL_PATH_MAX + 1] = 0;
	cr_assert_eq(seal_policy_add(&p, SEAL_PATH, word, NULL), -EINVAL);
	word[SEAL_PATH_MAX] = 0;
	cr_assert_eq(seal_policy_add(&p, SEAL_PATH, word, NULL), 0);
	cr_assert_eq(seal_policy_add(&p, SEAL_HOST, "a.b", NULL), 0);
	cr_assert_eq(seal_policy_check(&p, NULL), 0);
	for (i = 0; i < ARRAY_LEN(headers); i++) {
		strcpy(p.header, headers[i]);
		cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL, "%s", headers[i]);
	}
	strcpy(p.header, "");
	strcpy(p.prefix, "token ");
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL, "before what?");
	strcpy(p.header, "A");
	strcpy(p.prefix, "a\r\n");
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL, "another header");
	strcpy(p.prefix, "a ");
	cr_assert_eq(seal_policy_check(&p, NULL), 0);
	p.per_minute = SEAL_PER_MINUTE_MAX + 1;
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL);
	p.per_minute = 0;
	p.answer_max = SEAL_BYTES_MAX + 1;
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL);
	seal_policy_fini(&p);
}

Test(policy, what_is_no_policy)
{
	static const char *const hosts[] = { "",	"a..b", ".a",	"a.",	 "-a.b",  "a-.b", "A.b",
					     "a b",	"a/b",	"*a",	"*.",	 "a.*.b", "a:0",  "a:443",
					     "a:65536", "a:",	"a:01", "*.*.b", "[::1]", "a_b",
					     "**",	"*:80" };
	static const char *const names[] = { "", "1A", "-A", ".A", "A/B", "A B", "A=B", "A\n" };
	struct seal_policy p = policy();
	size_t i;

	for (i = 0; i < ARRAY_LEN(hosts); i++)
		cr_assert_eq(seal_policy_add(&p, SEAL_HOST, hosts[i], NULL), -EINVAL, "%s", hosts[i]);
	for (i = 0; i < ARRAY_LEN(names); i++)
		cr_assert_not(seal_name_ok(names[i]), "%s", names[i]);
	cr_assert_eq(seal_policy_check(&p, NULL), 0);
	strcpy(p.name, "A-B");
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL, "no variable");
	p.delivery = SEAL_FILE;
	cr_assert_eq(seal_policy_check(&p, NULL), 0);
	strcpy(p.owner, "root:x");
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL);
	strcpy(p.owner, "");
	p.delivery = SEAL_BROKER;
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL, "which hosts?");
	p.delivery = (enum seal_delivery)4;
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL);
	p = policy();
	p.expires_ms = p.created_ms;
	cr_assert_eq(seal_policy_check(&p, NULL), -EINVAL);
	seal_policy_fini(&p);
}
