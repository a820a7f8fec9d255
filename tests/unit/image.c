/* SPDX-License-Identifier: Apache-2.0 */
/* Names of images, manifests, and layers laid over each other. */
#include "host/image/image.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"
#include "base/xattr.h"
#include "seal/digest.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

static void setup(void)
{
	cr_assert_eq(digest_setup(), 0);
}

TestSuite(image, .init = setup);

/* --- names -------------------------------------------------------------------------------------------------------- */

Test(image, what_names_stand_for)
{
	static const struct {
		const char *text, *host, *path, *tag, *digest;
		unsigned port;
		bool here;
	} rows[] = {
		{ "debian", "docker.io", "library/debian", "latest", "", 443, false },
		{ "debian:12-slim", "docker.io", "library/debian", "12-slim", "", 443, false },
		{ "oven/bun:latest", "docker.io", "oven/bun", "latest", "", 443, false },
		{ "docker.io/debian", "docker.io", "library/debian", "latest", "", 443, false },
		{ "index.docker.io/a/b", "docker.io", "a/b", "latest", "", 443, false },
		{ "GHCR.io/a/b-c/d_e:V1", "ghcr.io", "a/b-c/d_e", "V1", "", 443, false },
		{ "localhost/x", "localhost", "x", "latest", "", 443, true },
		{ "127.0.0.1:5000/x/y:z", "127.0.0.1:5000", "x/y", "z", "", 5000, true },
		{ "127.evil.example/x", "127.evil.example", "x", "latest", "", 443, false },
		{ "r.example:65535/x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		  "r.example:65535", "x", "", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 65535,
		  false },
		{ "x:t@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "docker.io",
		  "library/x", "", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 443, false },
	};
	struct image_ref r;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_assert_eq(ref_read(rows[i].text, &r, NULL), 0, "%s", rows[i].text);
		cr_expect_str_eq(r.host, rows[i].host, "%s: %s", rows[i].text, r.host);
		cr_expect_str_eq(r.path, rows[i].path, "%s: %s", rows[i].text, r.path);
		cr_expect_str_eq(r.tag, rows[i].tag, "%s", rows[i].text);
		cr_expect_str_eq(r.digest, rows[i].digest, "%s", rows[i].text);
		cr_expect_eq(r.port, rows[i].port, "%s", rows[i].text);
		cr_expect_eq(r.is_here, rows[i].here, "%s", rows[i].text);
	}
}

Test(image, names_that_are_none)
{
	static const char *const bad[] = {
		"",
		"/",
		"x/",
		"/x",
		"-x",
		"x:",
		"x:-t",
		"x:.t",
		"x y",
		"x\n",
		"Debian",
		"a//b",
		"a/../b",
		"../b",
		"a/..",
		"a/.b",
		"a/b.",
		"x:t:u",
		"x@sha256:0",
		"x@md5:0123",
		"x@",
		"host.example:0/x",
		"host.example:65536/x",
		"host.example:/x",
		"host.example:y/x",
		"ho_st.example/x",
		"-host.example/x",
		"host-.example/x",
		"host..example/x",
		"[::1]:5000/x",
		"user@host.example/x",
		"http://host.example/x",
		"x;y",
		"x$y",
		"x\"y",
		"x@sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
		"x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
	};
	char longest[600];
	struct image_ref r;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(ref_read(bad[i], &r, NULL), -EINVAL, "\"%s\" is %s / %s", bad[i], r.host, r.path);
	for (i = 200; i < sizeof(longest); i++) {
		memset(longest, 'a', i);
		longest[i] = '\0';
		cr_assert_eq(ref_read(longest, &r, NULL), -EINVAL, "%zu", i);
	}
}

Test(image, which_registries_may_be_used)
{
	static const struct {
		const char *image, *list;
		enum ref_allowed is;
	} rows[] = {
		{ "debian", "docker.io", REF_BY_NAME },
		{ "debian", "", REF_NOT },
		{ "debian", "ghcr.io,docker.io", REF_BY_NAME },
		{ "debian", "ghcr.io  DOCKER.io", REF_BY_NAME },
		{ "docker.io.evil.example/x", "docker.io", REF_NOT },
		{ "evil.docker.io/x", "docker.io", REF_NOT },
		{ "docker.io:444/x/y", "docker.io", REF_NOT },
		{ "r.example:5000/x", "r.example", REF_NOT },
		{ "r.example:5000/x", "r.example:5000", REF_BY_NAME },
		{ "r.example/x", "*", REF_BY_STAR },
		{ "r.example/x", "* r.example", REF_BY_NAME },
		{ "127.0.0.1:5000/x", "*", REF_NOT },
		{ "localhost:5000/x", "*", REF_NOT },
		{ "localhost:5000/x", "localhost:5000", REF_BY_NAME },
	};
	struct image_ref r;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_assert_eq(ref_read(rows[i].image, &r, NULL), 0);
		cr_expect_eq(ref_allowed(&r, rows[i].list), rows[i].is, "%s of %s", rows[i].image, rows[i].list);
	}
}

Test(image, credentials_are_for_one_registry)
{
	struct image_ref r;
	struct buf b;

	cr_assert_eq(ref_read("r.example:5000/x", &r, NULL), 0);
	buf_init(&b, 65536);
	cr_assert_eq(image_auth(&r, "me", "pa\"ss", &b, NULL), 0);
	cr_expect_str_eq(buf_str(&b), "{\"auths\":{\"r.example:5000\":{\"auth\":\"bWU6cGEic3M=\"}}}");
	cr_expect(b.wipes);
	cr_expect_eq(image_auth(&r, "", "x", &b, NULL), -EINVAL);
	cr_expect_eq(image_auth(&r, "me:you", "x", &b, NULL), -EINVAL);
	buf_fini(&b);
}

/* --- manifests ---------------------------------------------------------------------------------------------------- */

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

Test(image, manifests)
{
	AUTO(str_free) char *index = str_printf(
		"{\"schemaVersion\":2,\"manifests\":["
		"{\"digest\":\"sha256:" ZEROS "\",\"platform\":{\"os\":\"windows\",\"architecture\":\"%s\"}},"
		"{\"digest\":\"sha256:1%.63s\",\"platform\":{\"os\":\"linux\",\"architecture\":\"none\"}},"
		"{\"digest\":\"sha256:2%.63s\",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}},"
		"{\"digest\":\"sha256:3%.63s\",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}}]}",
		manifest_machine(), ZEROS, ZEROS, manifest_machine(), ZEROS);
	const char *one = "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" ZEROS
			  "\"},\"layers\":[{\"size\":5},{\"size\":6}]}";
	struct image i;
	bool other;

	cr_assert_eq(manifest_read(span_str(index), 100, &i, &other, NULL), 0);
	cr_expect(other);
	cr_expect_eq(i.fetched[0], '2');
	cr_assert_eq(manifest_read(span_str(one), 11, &i, &other, NULL), 0);
	cr_expect(!other);
	cr_expect_eq(i.n_layers, 2);
	cr_expect_str_eq(i.config, ZEROS);
	cr_expect_str_eq(i.fetched, i.digest);
	cr_expect_eq(manifest_read(span_str(one), 10, &i, &other, NULL), -EFBIG);
}

Test(image, manifests_that_are_none)
{
	static const char *const bad[] = {
		"", "{", "[]", "7", "{}", "null", "{\"manifests\":[]}", "{\"manifests\":7}", "{\"manifests\":[7]}",
		"{\"schemaVersion\":1,\"config\":{\"digest\":\"sha256:" ZEROS "\"},\"layers\":[{\"size\":5}]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" ZEROS "\"},\"layers\":[]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" ZEROS "\"}}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha512:" ZEROS "\"},\"layers\":[{\"size\":5}]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"../x\"},\"layers\":[{\"size\":5}]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":7},\"layers\":[{\"size\":5}]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" ZEROS
		"\"},\"layers\":[{\"size\":18446744073709551615},{\"size\":7}]}",
	};
	AUTO(buf_fini) struct buf many;
	struct image i;
	bool other;
	size_t n;

	for (n = 0; n < ARRAY_LEN(bad); n++)
		cr_expect_lt(manifest_read(span_str(bad[n]), 100, &i, &other, NULL), 0, "%s", bad[n]);
	buf_init(&many, 4 * 1024 * 1024);
	buf_printf(&many, "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" ZEROS "\"},\"layers\":[{}");
	for (n = 0; n < 1000000; n++)
		buf_append(&many, ",{}", 3);
	buf_append(&many, "]}", 2);
	cr_assert(!many.failed);
	cr_expect_eq(manifest_read(buf_span(&many), 100, &i, &other, NULL), -EBADMSG);
}

Test(image, configurations)
{
	AUTO(str_free)
	char *good = str_printf("{\"os\":\"linux\",\"architecture\":\"%s\",\"config\":{\"Env\":[\"A=b=c\",\"none\",7,"
				"\"PATH=/x\"],\"User\":\"u\"},\"rootfs\":{\"diff_ids\":[\"sha256:" ZEROS "\"]}}",
				manifest_machine());
	static const char *const bad[] = {
		"", "{}", "{\"rootfs\":{}}", "{\"rootfs\":{\"diff_ids\":[]}}", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}",
		"{\"os\":\"windows\",\"rootfs\":{\"diff_ids\":[\"sha256:" ZEROS "\"]}}",
		"{\"architecture\":\"none\",\"rootfs\":{\"diff_ids\":[\"sha256:" ZEROS "\"]}}",
	};
	struct image_config c;
	size_t i;

	cr_assert_eq(manifest_config(span_str(good), &c, NULL), 0);
	cr_expect_eq(c.envs.len, 2);
	cr_expect_str_eq(c.envs.v[0], "A=b=c");
	cr_expect_eq(c.layers.len, 1);
	image_config_fini(&c);
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		cr_expect_lt(manifest_config(span_str(bad[i]), &c, NULL), 0, "%s", bad[i]);
		image_config_fini(&c);
	}
}

/* --- layers ------------------------------------------------------------------------------------------------------- */

struct lab {
	struct buf layers[8];
	size_t n, at, open;
	struct buf out;
	uint64_t max_b, size_b;
	unsigned asked, asks; /* how often it was asked; 0, or after how many times the time is over */
	struct err e;
};

static int to_buf(void *ctx, const void *p, size_t len)
{
	return buf_append(ctx, p, len);
}

static int lab_open(void *ctx, size_t i, struct err *e)
{
	struct lab *l = ctx;

	(void)e;
	l->open = i;
	l->at = 0;
	return 0;
}

static ssize_t lab_get(void *ctx, void *to, size_t max)
{
	struct lab *l = ctx;
	struct span s = buf_span(&l->layers[l->open]);
	size_t n = MIN(max, s.len - l->at);

	memcpy(to, (const char *)s.p + l->at, n);
	l->at += n;
	return (ssize_t)n;
}

static int lab_go_on(void *ctx)
{
	struct lab *l = ctx;

	return ++l->asked == l->asks ? -ETIMEDOUT : 0;
}

/* One layer: words "d NAME", "f NAME=TEXT", "l NAME>TARGET", "h NAME>TARGET", "c NAME" (a device), "s NAME=TEXT"
 * (set-user-id), by '|'. */
static void layer(struct lab *l, const char *words)
{
	AUTO(str_free) char *copy = must_strdup(words);
	struct tar_writer w = { .put = to_buf, .ctx = &l->layers[l->n] };
	char *word, *save = NULL;

	buf_init(&l->layers[l->n], 16 * 1024 * 1024);
	for (word = strtok_r(copy, "|", &save); word; word = strtok_r(NULL, "|", &save)) {
		char kind = word[0], *name = word + 2, *more = name + strcspn(name, "=>");
		struct tar_item it = { .mode = 0644 | S_IFREG, .uid = 7, .gid = 8, .mtime_ns = 1000000000 };
		struct tar_range all;

		if (*more)
			*more++ = '\0';
		it.path = span_str(name);
		it.size = kind == 'f' || kind == 's' ? strlen(more) : 0;
		all = (struct tar_range){ 0, it.size };
		if (kind == 'd')
			it.mode = S_IFDIR | 0750;
		if (kind == 's')
			it.mode = S_IFREG | 04755;
		if (kind == 'l')
			it.mode = S_IFLNK | 0777;
		it.is_link = kind == 'h';
		if (kind == 'l' || kind == 'h')
			it.link = span_str(more);
		cr_assert_eq(tar_put_item(&w, &it, &all, 1), 0);
		if (it.size)
			cr_assert_eq(tar_put_data(&w, more, it.size), 0);
		cr_assert_eq(tar_put_done(&w), 0);
		if (kind == 'c') { /* the writer makes none */
			uint8_t *h = l->layers[l->n].p + l->layers[l->n].end - TAR_BLOCK;
			unsigned sum = 0, i;

			h[156] = '3';
			memset(h + 148, ' ', 8);
			for (i = 0; i < TAR_BLOCK; i++)
				sum += h[i];
			snprintf((char *)h + 148, 8, "%06o", sum);
		}
	}
	cr_assert_eq(tar_put_end(&w), 0);
	l->n++;
}

static int flatten(struct lab *l)
{
	struct flat_source s = { .open = lab_open, .get = lab_get, .go_on = lab_go_on, .ctx = l, .n = l->n,
				 .max_b = l->max_b ? l->max_b : 1024 * 1024 };
	int r;

	buf_init(&l->out, 256 * 1024 * 1024);
	r = flat_put(&s, to_buf, &l->out, &l->size_b, &l->e);
	return r;
}

static void lab_fini(struct lab *l)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		buf_fini(&l->layers[i]);
	buf_fini(&l->out);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is in the archive, sorted: "f a=x|h b>a". */
static char *listing(struct lab *l)
{
	struct lab in = { .n = 1, .layers = { l->out } };
	struct tar_reader *r = tar_reader_new(lab_get, &in);
	struct tar_item it;
	char *lines[64], *all = must_strdup("");
	size_t n = 0, i;
	int q;

	while ((q = tar_next(r, &it, NULL)) == 0) {
		char text[4096] = "", kind = it.is_link ? 'h' : S_ISDIR(it.mode) ? 'd' : S_ISLNK(it.mode) ? 'l' : 'f';
		uint64_t at;
		struct span data;
		size_t used = 0;

		while (S_ISREG(it.mode) && tar_read(r, &at, &data, NULL) == 0) {
			memcpy(text + used, data.p, MIN(data.len, sizeof(text) - 1 - used));
			used += MIN(data.len, sizeof(text) - 1 - used);
		}
		if (kind == 'f' && it.mode & S_ISUID)
			kind = 's';
		cr_assert_lt(n, ARRAY_LEN(lines));
		lines[n++] = str_printf("%c %.*s%s%.*s%s", kind, (int)it.path.len, (const char *)it.path.p,
					kind == 'd' ? "" : kind == 'f' || kind == 's' ? "=" : ">", (int)it.link.len,
					it.link.len ? (const char *)it.link.p : "", text);
		if (!it.is_link)
			cr_expect(it.uid == 7 && it.gid == 8);
	}
	cr_expect_eq(q, TAR_E_END);
	tar_reader_free(&r);
	qsort(lines, n, sizeof(lines[0]), by_text);
	for (i = 0; i < n; i++) {
		char *more = str_printf("%s%s%s", all, i ? "|" : "", lines[i]);

		free(all);
		free(lines[i]);
		all = more;
	}
	return all;
}

static void gives(const char *const *layers, const char *wanted)
{
	struct lab l = { .n = 0 };
	AUTO(str_free) char *got = NULL;

	for (; *layers; layers++)
		layer(&l, *layers);
	cr_assert_eq(flatten(&l), 0, "%s", l.e.text);
	got = listing(&l);
	cr_expect_str_eq(got, wanted, "got %s\nwanted %s", got, wanted);
	lab_fini(&l);
}

#define GIVES(wanted, ...) gives((const char *const[]){ __VA_ARGS__, NULL }, wanted)

Test(image, layers_are_laid_over_each_other)
{
	GIVES("d a|f a/x=1|s b=2", "d a|f a/x=1", "s b=2");
	GIVES("f x=2", "f x=1", "f x=2");
	GIVES("d x|f x/y=1", "f x=1", "d x|f x/y=1");
	GIVES("f x=2", "d x|f x/y=1|d x/z", "f x=2");
	GIVES("d x|f x/y=1|f x/z=2", "d x|f x/y=1", "d x|f x/z=2");
	GIVES("f x/y=1", "f ./x/y=1");
	GIVES("f x/y=1", "f /x/y=1");
	GIVES("f x=3", "f x=1|f x=2|f x=3");
}

Test(image, what_is_taken_away)
{
	GIVES("f b=2", "f a=1|f b=2", "f .wh.a=");
	GIVES("d d|f d/b=2", "d d|f d/a=1|f d/b=2", "f d/.wh.a=");
	GIVES("", "d d|f d/a=1|d d/e|f d/e/f=1", "f .wh.d=");
	GIVES("d d|f d/n=3", "d d|f d/a=1|d d/e|f d/e/f=1", "d d|f d/.wh..wh..opq=|f d/n=3");
	GIVES("d d|f d/n=3", "d d|f d/a=1|d d/e|f d/e/f=1", "d d|f d/n=3|f d/.wh..wh..opq=");
	GIVES("f a=2", "f a=1", "f .wh.a=|f a=2");
	GIVES("f a=2", "f a=1", "f a=2|f .wh.a=");
	GIVES("f a=3", "f a=1", "f .wh.a=", "f a=3");
	GIVES("d d|f d/x=2", "d d|f d/a=1", "f .wh.d=", "d d|f d/x=2");
	GIVES("f a=1", "f a=1", "f .wh.never=|f none/.wh.x=");
}

Test(image, hard_links_keep_what_they_were)
{
	GIVES("f b=1|h a>b", "f a=1|h b>a");
	GIVES("f b=1", "f a=1|h b>a", "f .wh.a=");
	GIVES("f a=2|f b=1", "f a=1|h b>a", "f a=2");
	GIVES("f b=1|f c=2", "f a=1", "h b>a", "f .wh.a=|f c=2");
	GIVES("h a>b|s b=1", "s a=1", "h b>/a");
	GIVES("h b>c|l c>x", "l b>x|h c>./b");
}

/* A name through a link is followed in the tree, a name that leaves it stays inside or is refused. */
Test(image, links_do_not_lead_out)
{
	GIVES("d usr|f usr/lib/x=1|l lib>usr/lib", "d usr|l lib>usr/lib", "f lib/x=1");
	GIVES("f etc/passwd=1|l e>/etc", "l e>/etc|f e/passwd=1");
	GIVES("f etc/passwd=1|l e>../../../../etc", "l e>../../../../etc|f e/passwd=1");
	GIVES("l a>/b|l b>/c", "l a>/b|l b>/c");
	GIVES("f c/x=1|l a>/b|l b>/c", "l a>/b|l b>/c|f a/x=1");
	GIVES("f a=2", "l a>/etc/passwd", "f a=2");
}

static void refuses(const char *words, int code, const char *why)
{
	struct lab l = { .n = 0 };

	layer(&l, words);
	cr_expect_eq(flatten(&l), code, "%s: %s", words, l.e.text);
	cr_expect(strstr(l.e.text, why), "%s: %s", words, l.e.text);
	lab_fini(&l);
}

Test(image, what_is_refused)
{
	refuses("f ../x=1", -EBADMSG, "'..'");
	refuses("f a/../x=1", -EBADMSG, "'..'");
	refuses("f a/..=1", -EBADMSG, "'..'");
	refuses("d ..", -EBADMSG, "'..'");
	refuses("f a=1|h b>../../etc/shadow", -EBADMSG, "'..'");
	refuses("h b>/etc/shadow", -EBADMSG, "a hard link to nothing");
	refuses("d a|h b>a", -EBADMSG, "a hard link to nothing");
	refuses("l a>b|l b>a|f a/x=1", -EBADMSG, "in circles");
	refuses("l a>a/a/a/a|f a/x=1", -EBADMSG, "in circles");
	refuses("d sbin|c sbin/sda", -EBADMSG, "a device in the image: sbin/sda");
	GIVES("d dev", "d dev|c dev/sda|c dev/x/y");
}

Test(image, bounds)
{
	struct lab l = { .max_b = 4096 };
	struct tar_writer w = { .put = to_buf, .ctx = &l.layers[0] };
	struct tar_item it = { .path = span_str("huge"), .mode = S_IFREG | 0644, .size = 1ULL << 40 };
	char deep[2048];
	size_t i;

	/* Little that says it is a lot. */
	buf_init(&l.layers[0], 1024 * 1024);
	l.n = 1;
	cr_assert_eq(tar_put_item(&w, &it, NULL, 0), 0);
	cr_assert_eq(tar_put_done(&w), 0);
	cr_assert_eq(tar_put_end(&w), 0);
	cr_expect_eq(flatten(&l), -EFBIG);
	cr_expect_lt(buf_len(&l.out), 4096U);
	lab_fini(&l);

	l = (struct lab){ .max_b = 4096 };
	layer(&l, "f a=1|f b=1|f c=1|f d=1|f e=1|f f=1|f g=1|f h=1");
	cr_expect_eq(flatten(&l), -EFBIG);
	lab_fini(&l);

	for (i = 0; i + 2 < sizeof(deep); i += 2)
		memcpy(deep + i, "d/", 2);
	deep[i - 1] = '\0';
	it = (struct tar_item){ .path = span_str(deep), .mode = S_IFDIR | 0755 };
	l = (struct lab){ .n = 1 };
	buf_init(&l.layers[0], 1024 * 1024);
	w.ctx = &l.layers[0];
	cr_assert_eq(tar_put_item(&w, &it, NULL, 0), 0);
	cr_assert_eq(tar_put_end(&w), 0);
	cr_expect_eq(flatten(&l), -EBADMSG);
	lab_fini(&l);
}

static void empty(struct tar_writer *w, const char *name, const char *same_as)
{
	struct tar_item it = { .path = span_str(name), .mode = S_IFREG | 0644, .is_link = same_as != NULL };

	it.link = span_str(same_as);
	cr_assert_eq(tar_put_item(w, &it, NULL, 0), 0);
	cr_assert_eq(tar_put_done(w), 0);
}

/* One word about a directory of many, many times; many names of one file, of which the oldest goes first. */
Test(image, much_is_taken_away)
{
	const unsigned n = getenv("BERTH_LONG") ? 200000 : 10000;
	struct lab l = { .n = 2, .max_b = 1024 * 1024 * 1024 };
	struct tar_writer w[] = { { .put = to_buf, .ctx = &l.layers[0] }, { .put = to_buf, .ctx = &l.layers[1] } };
	char name[64];
	unsigned i;

	buf_init(&l.layers[0], 256 * 1024 * 1024);
	buf_init(&l.layers[1], 1024 * 1024 * 1024);
	empty(&w[0], "a", NULL);
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "d/e/old%u", i);
		empty(&w[0], name, "a");
		snprintf(name, sizeof(name), "d/e/.wh.old%u", i);
		empty(&w[1], name, NULL);
	}
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "d/e/new%u", i);
		empty(&w[1], name, NULL);
	}
	for (i = 0; i < n; i++)
		empty(&w[1], i % 3 == 0 ? "d/.wh..wh..opq" : i % 3 == 1 ? "d/e/.wh..wh..opq" : "d/.wh.e", NULL);
	cr_assert_eq(tar_put_end(&w[0]), 0);
	cr_assert_eq(tar_put_end(&w[1]), 0);
	cr_assert_eq(flatten(&l), 0, "%s", l.e.text);
	cr_expect_eq(l.size_b, (n + 1ULL) * TAR_BLOCK, "%llu", (unsigned long long)l.size_b);
	cr_expect_gt(l.asked, 2 * 4 * n / 256);
	lab_fini(&l);
}

/* Whoever is asked whether to go on may end it at any time, also while little is made to look like a lot. */
Test(image, ends_when_it_is_told_to)
{
	struct lab l = { .n = 0 };
	unsigned all, i;

	layer(&l, "d a|f a/x=1");
	layer(&l, "f a/.wh.x=");
	cr_assert_eq(flatten(&l), 0);
	all = l.asked;
	cr_expect_eq(all, 4, "%u", all);
	for (i = 1; i <= all; i++) {
		buf_fini(&l.out);
		l.asked = 0;
		l.asks = i;
		cr_expect_eq(flatten(&l), -ETIMEDOUT, "%u", i);
	}
	lab_fini(&l);
}

/* Attributes that make a program mighty are kept. */
Test(image, capabilities)
{
	struct lab l = { .n = 1 };
	struct tar_writer w = { .put = to_buf, .ctx = &l.layers[0] };
	struct tar_item it = { .path = span_str("ping"), .mode = S_IFREG | 0755 };
	struct buf packed;

	buf_init(&packed, 4096);
	cr_assert_eq(xattrs_add(&packed, span_str("security.capability"), SPAN("\1\0\0\2\0\n", 6)), 0);
	it.xattrs = buf_span(&packed);
	buf_init(&l.layers[0], 1024 * 1024);
	cr_assert_eq(tar_put_item(&w, &it, NULL, 0), 0);
	cr_assert_eq(tar_put_end(&w), 0);
	cr_assert_eq(flatten(&l), 0);
	cr_expect(memmem(l.out.p, buf_len(&l.out), "SCHILY.xattr.security.capability=\1\0\0\2\0\n", 39));
	lab_fini(&l);
	buf_fini(&packed);
}

/* --- the same, said more simply ----------------------------------------------------------------------------------- */

/* Members that are there, by their names; directories that none is are not in it. */
struct model {
	struct {
		char line[80], path[64];
		size_t layer;
	} v[64];
	size_t n;
};

static bool is_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	return n == 0 || (strncmp(path, top, n) == 0 && path[n] == '/');
}

/* @self: it, too; @before: only what earlier layers have. */
static void model_drop(struct model *m, const char *top, bool self, bool inside, size_t before)
{
	size_t i = 0;

	while (i < m->n)
		if (m->v[i].layer < before &&
		    ((self && str_eq(m->v[i].path, top)) || (inside && is_below(m->v[i].path, top))))
			m->v[i] = m->v[--m->n];
		else
			i++;
}

/* What stands where a directory must be is none. */
static void model_parents(struct model *m, const char *path)
{
	size_t i;

	for (i = 0; i < m->n;)
		if (m->v[i].line[0] != 'd' && is_below(path, m->v[i].path))
			m->v[i] = m->v[--m->n];
		else
			i++;
}

static void model_apply(struct model *m, const char *word, size_t layer)
{
	AUTO(str_free) char *path = span_dup(SPAN(word + 2, strcspn(word + 2, "=")));
	char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;

	model_parents(m, path);
	if (str_eq(last, ".wh..wh..opq")) {
		last[-(slash != NULL)] = '\0';
		model_drop(m, path, false, true, layer);
	} else if (str_starts(last, ".wh.")) {
		memmove(last, last + 4, strlen(last + 4) + 1);
		model_drop(m, path, true, true, layer);
	} else {
		model_drop(m, path, true, word[0] != 'd', SIZE_MAX);
		snprintf(m->v[m->n].line, sizeof(m->v[0].line), "%s", word);
		snprintf(m->v[m->n].path, sizeof(m->v[0].path), "%s", path);
		m->v[m->n++].layer = layer;
	}
}

static char *model_listing(struct model *m)
{
	char *lines[64], *all = must_strdup("");
	size_t i;

	for (i = 0; i < m->n; i++)
		lines[i] = m->v[i].line;
	qsort(lines, m->n, sizeof(lines[0]), by_text);
	for (i = 0; i < m->n; i++) {
		char *more = str_printf("%s%s%s", all, i ? "|" : "", lines[i]);

		free(all);
		all = more;
	}
	return all;
}

/* Whatever layers say, in whatever order, both come to the same. */
Test(image, equal_to_a_model)
{
	static const char *const parts[] = { "d a",	"f a=1",     "d a/b", "f a/b=2", "f a/b/c=3",
					     "d a/b/c", "f a/b/d=4", "f b=5", "d b",	 "f b/c=6",
					     "d b/c",	"f a/e/f=7", "d a/e" };
	static const char *const gone[] = { "f .wh.a=", "f a/.wh.b=", "f a/b/.wh.c=", "f .wh.b=", "f a/.wh..wh..opq=",
					    "f a/b/.wh..wh..opq=", "f .wh..wh..opq=", "f b/.wh.c=", "f a/.wh.e=" };
	unsigned seed = getenv("BERTH_SEED") ? (unsigned)atoi(getenv("BERTH_SEED")) : 11, round;
	const unsigned rounds = getenv("BERTH_LONG") ? 200000 : 10000;

	for (round = 0; round < rounds; round++) {
		struct lab l = { .n = 0 };
		struct model m = { .n = 0 };
		AUTO(str_free) char *got = NULL;
		AUTO(str_free) char *wanted = NULL;
		char said[2048] = "";
		size_t k, n, layers = 1 + (size_t)rand_r(&seed) % 4;

		for (k = 0; k < layers; k++) {
			char words[512] = "";

			for (n = 1 + (size_t)rand_r(&seed) % 6; n; n--) {
				const char *word = k && rand_r(&seed) % 3 == 0
							   ? gone[(size_t)rand_r(&seed) % ARRAY_LEN(gone)]
							   : parts[(size_t)rand_r(&seed) % ARRAY_LEN(parts)];

				model_apply(&m, word, k);
				snprintf(words + strlen(words), sizeof(words) - strlen(words), "%s%s",
					 words[0] ? "|" : "", word);
			}
			layer(&l, words);
			snprintf(said + strlen(said), sizeof(said) - strlen(said), " [%s]", words);
		}
		cr_assert_eq(flatten(&l), 0, "seed %u,%s: %s", seed, said, l.e.text);
		got = listing(&l);
		wanted = model_listing(&m);
		cr_assert_str_eq(got, wanted, "%s\ngives  %s\nwanted %s", said, got, wanted);
		lab_fini(&l);
	}
}

/* What comes is anything: it ends, and reads nothing that is not its own. */
Test(image, noise)
{
	static const char *const parts[] = { "f a=1", "d a",     "l a>b", "h b>a",    "f a/b=2", "l b>..", "f .wh.a=",
					     "d b/c", "f b/c=3", "h c>b", "l c>a/b",  "d a/b/c", "f a/.wh..wh..opq=",
					     "f b/.wh.c=", "l a/b>/c", "h a/b>c/d" };
	unsigned seed = getenv("BERTH_SEED") ? (unsigned)atoi(getenv("BERTH_SEED")) : 7, round;
	const unsigned rounds = getenv("BERTH_LONG") ? 200000 : 3000;

	for (round = 0; round < rounds; round++) {
		struct lab l = { .n = 0 };
		size_t k, n, layers = 1 + (size_t)rand_r(&seed) % 4;

		for (k = 0; k < layers; k++) {
			char words[1024] = "";

			for (n = (size_t)rand_r(&seed) % 8; n; n--)
				snprintf(words + strlen(words), sizeof(words) - strlen(words), "%s%s",
					 words[0] ? "|" : "", parts[(size_t)rand_r(&seed) % ARRAY_LEN(parts)]);
			layer(&l, words);
			if (rand_r(&seed) % 4 == 0)
				l.layers[k].p[(size_t)rand_r(&seed) % buf_len(&l.layers[k])] = (uint8_t)rand_r(&seed);
		}
		if (flatten(&l) == 0)
			free(listing(&l));
		lab_fini(&l);
	}
}
