/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of what is kept: what gitignore(5) says, and that git itself comes to the same for patterns made at random. */
#include "base/io.h"
#include "base/str.h"
#include "base/vec.h"
#include "keep/glob.h"
#include "keep/keep.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct keep *parse(const char *text)
{
	struct keep *k = NULL;
	struct err e = ERR_NULL;

	cr_assert_eq(keep_parse(span_str(text), &k, &e), 0, "%s", e.text);
	return k;
}

static void check(const char *text, const char *path, enum keep_class want)
{
	AUTO(keep_free) struct keep *k = parse(text);
	size_t len = strlen(path);
	bool is_dir = len && path[len - 1] == '/';
	enum keep_class is = keep_path(k, SPAN(path, len - is_dir), is_dir);

	cr_assert_eq(is, want, "%s: %s is %s, not %s", text, path, keep_word(is), keep_word(want));
}

Test(keep, says_what_gitignore_says)
{
	static const struct {
		const char *pattern, *path;
		bool hit;
	} t[] = {
		{ "foo", "foo", true },
		{ "foo", "a/b/foo/", true },
		{ "foo", "a/foo/x/y", true },
		{ "foo", "food", false },
		{ "foo/", "foo", false },
		{ "foo/", "foo/", true },
		{ "foo/", "a/foo/b", true },
		{ "/foo", "foo", true },
		{ "/foo", "a/foo", false },
		{ "a/b", "a/b", true },
		{ "a/b", "x/a/b", false },
		{ "*.c", "x.c", true },
		{ "*.c", "d/x.c", true },
		{ "/*.c", "d/x.c", false },
		{ "a/*", "a/b/c", true },
		{ "a/*.c", "a/b/x.c", false },
		{ "?at", "cat", true },
		{ "a?b", "a/b", false },
		{ "[a-c]x", "bx", true },
		{ "[!a-c]x", "bx", false },
		{ "[^a-c]x", "dx", true },
		{ "[]-]x", "]x", true },
		{ "[[:digit:]]", "7", true },
		{ "a[b/c]d", "a/d", false },
		{ "a[b/c]d", "abd", true },
		{ "**/foo", "a/b/foo", true },
		{ "**/foo", "foo", true },
		{ "a/**/b", "a/b", true },
		{ "a/**/b", "a/x/y/b", true },
		{ "a/**", "a/", false },
		{ "a/**", "a/x/y", true },
		{ "**", "x", true },
		{ "\\#x", "#x", true },
		{ "\\!x", "!x", true },
		{ "x\\ ", "x ", true },
		{ "x  ", "x", true },
		{ "x\\", "x\\", false },
		{ "[a", "[a", false },
		{ "", "x", false },
		{ "/", "x/", false },
		{ "a//b", "a/b", false },
		{ "#x", "#x", false },
		{ "a\\*b", "a*b", true },
		{ "a\\*b", "axb", false },
		{ "*a*b*c*", "xaybzc", true },
		{ "*a*b*c*", "xaybz", false },
		{ "foo\\/bar", "foo/bar", true },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(t); i++) {
		AUTO(str_free) char *none = str_printf("[none]\n%s\n", t[i].pattern);
		AUTO(str_free) char *names = str_printf("[names]\n%s\n", t[i].pattern);

		check(none, t[i].path, t[i].hit ? KEEP_NONE : KEEP_FULL);
		check(names, t[i].path, t[i].hit ? KEEP_NAMES : KEEP_FULL);
	}
}

Test(keep, the_last_line_decides_and_nothing_rises_above_its_directory)
{
	const char *text = "# the rules\n[none]\nnode_modules/\n*.log\n\n[names]\n*.bin\n/data/\n[full]\nsmall.bin\n"
			   "[none]\n/data/tmp/\n!keep.log\n";

	check(text, "node_modules/", KEEP_NONE);
	check(text, "node_modules/small.bin", KEEP_NONE);
	check(text, "src/node_modules/x/y.c", KEEP_NONE);
	check(text, "node_modules", KEEP_FULL); /* no directory */
	check(text, "a.log", KEEP_NONE);
	check(text, "keep.log", KEEP_FULL);
	check(text, "a.bin", KEEP_NAMES);
	check(text, "small.bin", KEEP_FULL);
	check(text, "data/", KEEP_NAMES);
	check(text, "data/small.bin", KEEP_NAMES);
	check(text, "data/tmp/x", KEEP_NONE);
	check(text, "data/x.log", KEEP_NONE);
	check(text, "", KEEP_FULL);
	check("[none]\n.*\n", ".berth-0123", KEEP_FULL);
	check("[none]\n*\n!*.c\n", "a/b.c", KEEP_NONE);
	check("[none]\n*\n!*/\n!*.c\n", "a/b.c", KEEP_FULL);
	check("[names]\r\n*.bin\r\n", "a.bin", KEEP_NAMES);
	check("\xef\xbb\xbf[names]\n*.bin", "a.bin", KEEP_NAMES);
}

static void refused(const char *text, size_t len, const char *word)
{
	struct keep *k = NULL;
	struct err e = ERR_NULL;

	cr_assert(keep_parse(SPAN(text, len), &k, &e) < 0, "%s", text);
	cr_assert_null(k);
	cr_assert_str_eq(e.slug, "bad-rules");
	cr_assert(strstr(e.text, word), "%s", e.text);
}

Test(keep, what_is_no_rule_is_named)
{
	AUTO(mem_free) char *large = must_calloc(1, KEEP_TEXT_MAX + 2);
	struct keep *k = NULL;
	size_t at;

	refused("*.c\n", 4, "line 1");
	refused("[none]\n\na\0b\n", 12, "line 3");
	memset(large, '\n', KEEP_TEXT_MAX + 1);
	refused(large, KEEP_TEXT_MAX + 1, "bytes");
	memcpy(large, "[none]\n", 7);
	for (at = 7; at < 7 + 2 * (KEEP_RULES_MAX + 1); at += 2)
		memcpy(large + at, "a\n", 2);
	refused(large, at, "1024 rules");
	memset(large + 7, 'a', KEEP_PATTERN_MAX + 1);
	refused(large, 7 + KEEP_PATTERN_MAX + 1, "line 2");
	cr_assert_eq(keep_parse(span_str("\n# nothing\n[none]\n"), &k, NULL), 0);
	cr_assert_null(k);
	cr_assert_eq(keep_path(k, span_str("a"), false), KEEP_FULL);
}

Test(keep, what_depends_on_the_name_alone_is_known)
{
	AUTO(keep_free) struct keep *names = parse("[none]\nnode_modules/\n*.o\n");
	AUTO(keep_free) struct keep *places = parse("[none]\nnode_modules/\n/build\n");

	cr_assert(keep_is_local(NULL));
	cr_assert(keep_is_local(names));
	cr_assert_not(keep_is_local(places));
}

/* A pattern that would take a naive matcher longer than the sun has. */
Test(keep, no_pattern_takes_for_ever, .timeout = 20)
{
	AUTO(buf_fini) struct buf b;
	AUTO(buf_fini) struct buf path;
	int i;

	buf_init(&b, 65536);
	buf_init(&path, 4096);
	buf_printf(&b, "[none]\n");
	for (i = 0; i < 300; i++)
		buf_printf(&b, "**/");
	buf_printf(&b, "x\n");
	for (i = 0; i < 200; i++)
		buf_printf(&b, "*a");
	buf_printf(&b, "b\n");
	for (i = 0; i < 2000; i++)
		buf_printf(&path, "a%s", i % 200 == 199 ? "/" : "");
	buf_printf(&path, "a");
	for (i = 0; i < 100; i++)
		check(buf_str(&b), buf_str(&path), KEEP_FULL);
}

/* Each name behind "**" is tried at every directory, for every directory on the way: the most that is taken, over the
 * deepest path. */
Test(keep, the_dearest_rules_over_the_deepest_path, .timeout = 60)
{
	AUTO(buf_fini) struct buf b;
	AUTO(buf_fini) struct buf path;
	int i;

	buf_init(&b, 65536);
	buf_init(&path, 4096);
	buf_printf(&b, "[none]\n**");
	for (i = 0; i < KEEP_TRIES_MAX - 1; i++)
		buf_printf(&b, "/a");
	buf_printf(&b, "/b\n");
	for (i = 0; i < 2047; i++)
		buf_printf(&path, "a/");
	buf_printf(&path, "a");
	check(buf_str(&b), buf_str(&path), KEEP_FULL);
	buf_printf(&b, "**/name\n**/**/name\n");
	refused(buf_str(&b), buf_len(&b), "128 names");
}

/* --- against git -------------------------------------------------------------------------------------------------- */

static uint64_t state;

static unsigned draw(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 33) % n;
}

static const char *const names[] = { "a", "b", "ab", "a.c", "b.o", "#x", "!y", "z ", "[", "a-b", "A", "7", "\\", "c*" };

/* Pieces of which patterns are made: those of gitignore, and letters that occur in the names. */
static const char *const pieces[] = {
	"a",	       "b",   "ab",  ".c",  ".o", "*",	  "?",	   "[ab]",    "[!a]",  "[^b]", "[a-c]", "[[:alpha:]]",
	"[[:digit:]]", "\\a", "\\*", "\\[", "#",  "!",	  " ",	   "\\ ",     "x",     "y",    "z",	"A",
	"7",	       "-",   "[",   "]",   "\\", "[]a]", "[a/b]", "[[:x:]]", "[\\]]", "c"
};

static void pattern(struct buf *b)
{
	unsigned i, j, segs = 1 + draw(3);

	if (draw(5) == 0)
		buf_printf(b, "!");
	if (draw(5) == 0)
		buf_printf(b, "/");
	for (i = 0; i < segs; i++) {
		if (i)
			buf_printf(b, "/");
		if (draw(5) == 0) {
			buf_printf(b, "**");
			continue;
		}
		for (j = draw(3) + (draw(20) != 0); j > 0; j--) {
			const char *piece = pieces[draw(draw(4) ? 12 : ARRAY_LEN(pieces))];

			/* Behind a letter git takes two stars for more than the manual says that they are. */
			if (*piece == '*' && buf_len(b) && buf_str(b)[buf_len(b) - 1] == '*')
				continue;
			buf_printf(b, "%s", piece);
		}
	}
	if (draw(4) == 0)
		buf_printf(b, "/");
	if (draw(12) == 0)
		buf_printf(b, "  ");
	buf_printf(b, "\n");
}

struct place {
	char *path;
	bool is_dir;
};

static VEC(struct place) places;

static void lay(int dirfd, const char *path, unsigned depth)
{
	unsigned i, n = depth ? 5 : (unsigned)ARRAY_LEN(names);

	for (i = 0; i < n; i++) {
		const char *name = names[depth ? draw(ARRAY_LEN(names)) : i];
		struct place p = { .path = str_printf("%s%s%s", path, *path ? "/" : "", name), .is_dir = draw(2) };

		if (p.is_dir ? mkdirat(dirfd, p.path, 0700) : mknodat(dirfd, p.path, S_IFREG | 0600, 0)) {
			str_free(&p.path);
			continue;
		}
		vec_push(&places, p);
		if (p.is_dir && depth < 3)
			lay(dirfd, p.path, depth + 1);
	}
}

static void git(const char *dir, const char *in, const char *out, const char *const *argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (chdir(dir) < 0 || dup2(open(in, O_RDONLY), 0) < 0 ||
		    dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), 1) < 0)
			_exit(126);
		setenv("HOME", "/nowhere", 1);
		setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
		execvp("git", (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "git: %d", status);
}

static void put(int dirfd, const char *name, struct span text)
{
	AUTO(fd_close) int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert(fd >= 0 && io_write_full(fd, text.p, text.len) == 0);
}

/* What git printed, each with a NUL behind it, in the order of the question. */
static void compare(struct span said, const char *rules, uint64_t seed)
{
	AUTO(str_free) char *text = str_printf("[none]\n%s", rules);
	AUTO(keep_free) struct keep *k = parse(text);
	const char *at = said.p, *end = at + said.len;
	size_t i;

	for (i = 0; i < places.len; i++) {
		const struct place *p = &places.v[i];
		bool git_hit = at < end && str_eq(at, p->path);
		bool hit = keep_path(k, span_str(p->path), p->is_dir) == KEEP_NONE;

		cr_assert_eq(hit, git_hit, "seed %llu: \"%s\"%s, git says %d, rules:\n%s", (unsigned long long)seed,
			     p->path, p->is_dir ? " (a directory)" : "", git_hit, rules);
		if (git_hit)
			at += strlen(at) + 1;
	}
	cr_assert_eq(at, end);
}

static void forget(const char *dir)
{
	const char *const argv[] = { "rm", "-rf", dir, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execvp("rm", (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

Test(keep, git_says_the_same, .timeout = 600)
{
	const char *const init[] = { "git", "init", "-q", "tree", NULL };
	const char *const ask[] = { "git", "-C", "tree", "check-ignore", "--no-index", "-z", "--stdin", NULL };
	const char *from = getenv("BERTH_SEED");
	uint64_t seed = from ? strtoull(from, NULL, 10) : 1, end = seed + (getenv("BERTH_LONG") ? 20000 : 300);
	char dir[] = "/tmp/berth-keep-XXXXXX";
	AUTO(fd_close) int at = -1;
	AUTO(fd_close) int tree = -1;
	struct buf all, rules, said;
	size_t i, n;

	cr_assert_not_null(mkdtemp(dir));
	at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(at >= 0);
	git(dir, "/dev/null", "out", init);
	tree = openat(at, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	state = 88172645463325252ULL;
	lay(tree, "", 0);
	buf_init(&all, 0);
	for (i = 0; i < places.len; i++)
		buf_append(&all, places.v[i].path, strlen(places.v[i].path) + 1);
	put(at, "in", buf_span(&all));
	for (; seed < end; seed++) {
		state = seed * 0x9e3779b97f4a7c15ULL + 1;
		buf_init(&rules, 65536);
		buf_init(&said, 0);
		for (n = 1 + draw(5); n > 0; n--)
			pattern(&rules);
		put(tree, ".gitignore", buf_span(&rules));
		git(dir, "in", "out", ask);
		cr_assert(io_read_file(at, "out", &said) >= 0);
		compare(buf_span(&said), buf_str(&rules), seed);
		buf_fini(&rules);
		buf_fini(&said);
	}
	buf_fini(&all);
	forget(dir);
	for (i = 0; i < places.len; i++)
		str_free(&places.v[i].path);
	vec_fini(&places);
}
