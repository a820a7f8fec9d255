/* SPDX-License-Identifier: Apache-2.0 */
/* Policies of services: those that come with us are right, what is not understood is refused; paths have one form. */
#include "host/broker/bind.h"

#include "base/io.h"
#include "base/str.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int parse(const char *text, struct service **ret, struct err *e)
{
	AUTO(str_free) char *ca = NULL;

	return service_parse("svc", span_str(text), ret, &ca, e);
}

#define ROUTE "{\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/**\"]}"

Test(broker_service, ours_are_right)
{
	const char *src = getenv("SRC") ? getenv("SRC") : TEST_SRC;
	AUTO(str_free) char *dir = str_printf("%s/templates/services", src);
	DIR *d = opendir(dir);
	struct dirent *at;
	size_t n = 0;

	cr_assert_not_null(d, "%s", dir);
	while ((at = readdir(d))) {
		struct service *s = NULL;
		struct err e = ERR_NULL;
		char *ca = NULL, *name;
		struct buf text;

		if (!str_ends(at->d_name, ".json"))
			continue;
		name = span_dup(SPAN(at->d_name, strlen(at->d_name) - 5));
		buf_init(&text, SERVICE_FILE_MAX);
		cr_assert_eq(io_read_file(dirfd(d), at->d_name, &text), 0);
		cr_assert_eq(service_parse(name, buf_span(&text), &s, &ca, &e), 0, "%s: %s", name, e.text);
		cr_assert_null(ca);
		service_unref(&s);
		buf_fini(&text);
		str_free(&name);
		n++;
	}
	closedir(d);
	cr_assert_geq(n, 10);
}

Test(broker_service, what_is_refused)
{
	static const char *const bad[] = {
		"", "[]", "{}", "{\"secrets\":[\"A\"]}", "{\"secrets\":[\"A\"],\"routes\":[]}",
		"{\"routes\":[" ROUTE "]}", "{\"secrets\":[],\"routes\":[" ROUTE "]}",
		"{\"secrets\":[\"a b\"],\"routes\":[" ROUTE "]}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "," ROUTE "]}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"privat\":true}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"private\":\"yes\"}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"ca\":\"relative\"}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"vars\":{\"A B\":\"c\"}}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"vars\":{\"A\":\"c\\nd\"}}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"per-minute\":-1}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"git\":{\"from\":\"ssh://a/\"}}",
		"{\"secrets\":[\"A\"],\"routes\":[" ROUTE "],\"rewrite\":[\"x=y\"]}",
	};
	static const char *const routes[] = {
		"\"upstream\":\"http://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://a.b\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://u@a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://*.b/\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://a.b:443/\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://a.b/../\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://{host}/x/\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"CONNECT\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://a.b/\",\"methods\":[],\"paths\":[\"/\"]",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"x\"]",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"]",
		"\"prefix\":\"x\",\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/\"]",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/"
		"\"],\"credential\":{\"as\":\"cookie\"}",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/"
		"\"],\"credential\":{\"as\":\"header\"}",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/"
		"\"],\"credential\":{\"as\":\"header\",\"name\":\"Host\"}",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/"
		"\"],\"credential\":{\"as\":\"header\",\"name\":\"A: b\"}",
		"\"upstream\":\"https://a.b/\",\"methods\":[\"GET\"],\"paths\":[\"/"
		"\"],\"credential\":{\"as\":\"basic\",\"name\":\"a:b\"}",
	};
	struct service *s = NULL;
	struct err e;
	size_t i;

	cr_assert_eq(parse("{\"secrets\":[\"A\"],\"routes\":[" ROUTE "]}", &s, &e), 0);
	service_unref(&s);
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		e = ERR_NULL;
		cr_expect_eq(parse(bad[i], &s, &e), -EINVAL, "taken: %s", bad[i]);
		cr_expect_str_eq(e.slug, "bad-service");
	}
	for (i = 0; i < ARRAY_LEN(routes); i++) {
		AUTO(str_free) char *text = str_printf("{\"secrets\":[\"A\"],\"routes\":[{%s}]}", routes[i]);

		cr_expect_eq(parse(text, &s, &e), -EINVAL, "taken: %s", text);
	}
}

Test(broker_service, paths_match_by_segments)
{
	static const struct {
		const char *pattern, *path;
		bool is;
	} all[] = {
		{ "/a", "/a", true },	      { "/a", "/a/", false },	    { "/a/", "/a/", true },
		{ "/a", "/ab", false },	      { "/*", "/x", true },	    { "/*", "/", false },
		{ "/*", "/x/y", false },      { "/**", "/", true },	    { "/**", "/x/y/z", true },
		{ "/a/**", "/a", false },     { "/a/**", "/a/", true },	    { "/a/**", "/a/b/c", true },
		{ "/a/**", "/ab/c", false },  { "/*/b", "/x/b", true },	    { "/*/b", "/x/y/b", false },
		{ "/*.git", "/x.git", true }, { "/*.git", "/.git", false }, { "/a*c", "/abc", true },
		{ "/a*c", "/ac", false },     { "/A", "/a", false },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(all); i++)
		cr_expect_eq(seal_path_matches(all[i].pattern, all[i].path), all[i].is, "%s and %s", all[i].pattern,
			     all[i].path);
}

Test(broker_service, paths_have_one_form)
{
	static const struct {
		const char *raw, *clean, *slashes; /* NULL: refused */
	} all[] = {
		{ "/a/b", "/a/b", "/a/b" },   { "/%61/b", "/a/b", "/a/b" },   { "/a%20b", "/a%20b", "/a%20b" },
		{ "/a%e4", "/a%E4", "/a%E4" }, { "/a/", "/a/", "/a/" },	      { "/", "/", "/" },
		{ "/a//b", NULL, NULL },      { "/a/./b", NULL, NULL },	      { "/a/../b", NULL, NULL },
		{ "/a/..", NULL, NULL },      { "/a/%2e%2e/b", NULL, NULL },  { "/a/.%2E/b", NULL, NULL },
		{ "/a%2Fb", NULL, "/a%2Fb" }, { "/a%2f..", NULL, NULL },      { "/a%2F..%2Fb", NULL, NULL },
		{ "/a%2F%2Fb", NULL, NULL },  { "/..%2fb", NULL, NULL },      { "/a%00b", NULL, NULL },
		{ "/a%5Cb", NULL, NULL },     { "/a\\b", NULL, NULL },	      { "/a%252e", NULL, NULL },
		{ "/a%", NULL, NULL },	      { "/a%2", NULL, NULL },	      { "/a%zz", NULL, NULL },
		{ "/a;b/c", NULL, NULL },     { "/a%3Bb", NULL, NULL },	      { "a", NULL, NULL },
		{ "/a%0d%0ab", NULL, NULL },  { "/...", "/...", "/..." },     { "/@s%2Fp", NULL, "/@s%2Fp" },
	};
	size_t i, k;

	for (i = 0; i < ARRAY_LEN(all); i++)
		for (k = 0; k < 2; k++) {
			AUTO(str_free) char *got = service_path_clean(span_str(all[i].raw), k == 1);
			const char *want = k ? all[i].slashes : all[i].clean;

			cr_expect(str_eq(got, want), "%s: %s", all[i].raw, got ? got : "refused");
		}
}
