/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apt has two forms of source files: lines ("deb [options] URI suite component…") and stanzas of fields ("Types:",
 * "URIs:", …, each possibly with several words). Both are reduced to entries of one type, one URI, one suite; those of
 * the host's own release are kept: the suite itself, SUITE-updates and SUITE-security. Other repositories that an
 * operator added are not for sandboxes. Files are read in the order in which apt reads them, by name.
 */
#include "host/priv/apt.h"

#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { FILE_MAX = 256 * 1024, FIELD_MAX = 512 };

struct entry {
	char types[32], uris[FIELD_MAX], suites[FIELD_MAX], components[FIELD_MAX], signed_by[FIELD_MAX];
	bool disabled;
};

struct reader {
	const char *codename;
	struct apt_sources *to;
};

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);
	const char *p;

	for (p = list; *p; p += strcspn(p, " \t"), p += strspn(p, " \t"))
		if (strncmp(p, word, n) == 0 && (p[n] == '\0' || p[n] == ' ' || p[n] == '\t'))
			return true;
	return false;
}

static bool is_ours(const struct reader *r, const char *suite)
{
	size_t n = strlen(r->codename);

	return strncmp(suite, r->codename, n) == 0 &&
	       (suite[n] == '\0' || str_eq(suite + n, "-updates") || str_eq(suite + n, "-security"));
}

static void keep(struct reader *r, const struct entry *en, const char *uri, const char *suite)
{
	struct apt_sources *to = r->to;
	char line[APT_LINE_MAX];
	int n;

	if (!r->codename[0]) {
		(void)!str_copy(to->suite, sizeof(to->suite), suite);
		r->codename = to->suite;
	}
	if (!is_ours(r, suite) || to->n == APT_LINES_MAX)
		return;
	/* A key may also be spelled out in place of a file's name; then the host's trusted keys have to do. */
	if (en->signed_by[0] == '/')
		n = snprintf(line, sizeof(line), "deb [signed-by=%s] %s %s %s", en->signed_by, uri, suite,
			     en->components);
	else
		n = snprintf(line, sizeof(line), "deb %s %s %s", uri, suite, en->components);
	if (n < 0 || (size_t)n >= sizeof(line))
		return;
	/* The release itself comes first, whatever order the files had. */
	if (str_eq(suite, r->codename) && to->n) {
		memmove(to->lines[1], to->lines[0], to->n * sizeof(to->lines[0]));
		memcpy(to->lines[0], line, sizeof(line));
	} else {
		memcpy(to->lines[to->n], line, sizeof(line));
	}
	to->n++;
}

static void take_entry(struct reader *r, const struct entry *en)
{
	char uris[FIELD_MAX], suites[FIELD_MAX], *u, *s, *su = NULL, *ss;

	if (en->disabled || !has_word(en->types, "deb") || !has_word(en->components, "main"))
		return;
	snprintf(uris, sizeof(uris), "%s", en->uris);
	for (u = strtok_r(uris, " \t", &su); u; u = strtok_r(NULL, " \t", &su)) {
		snprintf(suites, sizeof(suites), "%s", en->suites);
		ss = NULL;
		for (s = strtok_r(suites, " \t", &ss); s; s = strtok_r(NULL, " \t", &ss))
			keep(r, en, u, s);
	}
}

/* Length of @s without blanks at its end. */
static size_t trimmed(const char *s)
{
	size_t n = strlen(s);

	while (n && strchr(" \t\r", s[n - 1]))
		n--;
	return n;
}

/* "deb [a=b signed-by=F] URI SUITE COMPONENTS…" */
static void take_line(struct reader *r, char *line)
{
	struct entry en = {.disabled = false};
	char *save = NULL, *options, *p;

	line[strcspn(line, "#\n")] = '\0';
	options = strchr(line, '[');
	p = options ? strchr(options, ']') : NULL;
	if (p) {
		char text[FIELD_MAX];

		snprintf(text, sizeof(text), "%.*s", (int)(p - options), options);
		memset(options, ' ', (size_t)(p - options) + 1);
		p = strstr(text, "signed-by=");
		if (p)
			snprintf(en.signed_by, sizeof(en.signed_by), "%.*s", (int)strcspn(p + 10, " \t"), p + 10);
	}
	p = strtok_r(line, " \t", &save);
	if (!p || !str_eq(p, "deb"))
		return;
	snprintf(en.types, sizeof(en.types), "deb");
	p = strtok_r(NULL, " \t", &save);
	snprintf(en.uris, sizeof(en.uris), "%s", p ? p : "");
	p = strtok_r(NULL, " \t", &save);
	snprintf(en.suites, sizeof(en.suites), "%s", p ? p : "");
	p = strtok_r(NULL, "", &save);
	p = p ? p + strspn(p, " \t") : line + strlen(line);
	snprintf(en.components, sizeof(en.components), "%.*s", (int)trimmed(p), p);
	take_entry(r, &en);
}

static void take_field(struct entry *en, const char *name, size_t len, const char *value)
{
	const struct {
		const char *name;
		char *to;
		size_t size;
	} fields[] = {{"types", en->types, sizeof(en->types)},
		      {"uris", en->uris, sizeof(en->uris)},
		      {"suites", en->suites, sizeof(en->suites)},
		      {"components", en->components, sizeof(en->components)},
		      {"signed-by", en->signed_by, sizeof(en->signed_by)}};
	size_t i;

	value += strspn(value, " \t");
	for (i = 0; i < ARRAY_LEN(fields); i++)
		if (strlen(fields[i].name) == len && strncasecmp(fields[i].name, name, len) == 0)
			snprintf(fields[i].to, fields[i].size, "%.*s", (int)trimmed(value), value);
	if (len == 7 && strncasecmp(name, "enabled", len) == 0)
		en->disabled = strncasecmp(value, "no", 2) == 0;
}

static void take_stanzas(struct reader *r, char *text)
{
	struct entry en = {.disabled = false};
	char *line, *next, *colon;

	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (line[0] == '#')
			continue;
		if (line[strspn(line, " \t\r")] == '\0') {
			take_entry(r, &en);
			en = (struct entry){.disabled = false};
			continue;
		}
		colon = strchr(line, ':');
		if (colon && line[0] != ' ' && line[0] != '\t') /* else the field before goes on: only keys do */
			take_field(&en, line, (size_t)(colon - line), colon + 1);
	}
	take_entry(r, &en);
}

static void read_source(struct reader *r, const char *dir, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/%s", dir, name);
	AUTO(str_free) char *text = NULL;
	AUTO(buf_fini) struct buf b;
	char *line, *save = NULL;

	buf_init(&b, FILE_MAX);
	if (io_read_file(AT_FDCWD, path, &b) < 0)
		return;
	text = must_strdup(buf_str(&b));
	if (str_ends(name, ".sources")) {
		take_stanzas(r, text);
		return;
	}
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		take_line(r, line);
}

static int is_source(const struct dirent *de)
{
	return str_ends(de->d_name, ".list") || str_ends(de->d_name, ".sources");
}

int apt_read(const char *dir, const char *codename, struct apt_sources *ret, struct err *e)
{
	AUTO(str_free) char *parts = str_printf("%s/sources.list.d", dir);
	struct reader r = {.codename = codename, .to = ret};
	struct dirent **names = NULL;
	int i, n;

	memset(ret, 0, sizeof(*ret));
	read_source(&r, dir, "sources.list");
	n = scandir(parts, &names, is_source, alphasort);
	for (i = 0; i < n; i++) {
		read_source(&r, parts, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	if (ret->n == 0 || !strstr(ret->lines[0], r.codename))
		return err_set(e, -ENOENT, "no-mirror",
			       "the apt configuration of this host names no mirror for its release");
	(void)!str_copy(ret->suite, sizeof(ret->suite), r.codename);
	return 0;
}

void apt_codename(char *to, unsigned size)
{
	AUTO(buf_fini) struct buf b;
	const char *p;

	to[0] = '\0';
	buf_init(&b, FILE_MAX);
	if (io_read_file(AT_FDCWD, "/etc/os-release", &b) < 0)
		return;
	p = strstr(buf_str(&b), "VERSION_CODENAME=");
	if (!p)
		return;
	p += strlen("VERSION_CODENAME=");
	p += *p == '"';
	snprintf(to, size, "%.*s", (int)strcspn(p, "\"\n"), p);
}
