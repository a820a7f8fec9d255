/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes: create, ps, info, kill, rm, sync, timeout; and what concerns the daemon: template, fsck, dump, version. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool cli_rules(const char *verb, const char *file, char **ret)
{
	struct buf b;
	int r;

	buf_init(&b, 65536);
	r = io_read_file(AT_FDCWD, file, &b);
	if (r < 0)
		cli_usage(verb, "%s: %s", file, strerror(-r));
	else
		*ret = span_dup(buf_span(&b));
	buf_fini(&b);
	return r >= 0;
}

int cli_create(struct berth *b, int argc, char **argv)
{
	const char *timeout = NULL, *memory = NULL, *workspace = NULL, *cpu = NULL, *pids = NULL, *keep = NULL;
	AUTO(str_free) char *rules = NULL;
	struct berth_create what = { .template_ = NULL };
	struct cli_list meta = { .n = 0 }, secrets = { .n = 0 }, allow = { .n = 0 }, deny = { .n = 0 };
	bool wait = false; /* as without it */
	bool net = false, no_net = false;
	const struct cli_option options[] = {
		{ "--template", &what.template_, NULL },
		{ "--name", &what.name, NULL },
		{ "--from", &what.from, NULL },
		{ "--wait", NULL, &wait },
		{ "--no-wait", NULL, &what.no_wait },
		{ "--keep", &keep, NULL },
		{ "--timeout", &timeout, NULL },
		{ "--on-timeout", &what.on_timeout, NULL },
		{ "--memory", &memory, NULL },
		{ "--workspace", &workspace, NULL },
		{ "--cpu", &cpu, NULL },
		{ "--pids", &pids, NULL },
		{ "--net", NULL, &net },
		{ "--no-net", NULL, &no_net },
	};
	struct berth_info info;
	struct berth_error e;
	char **rest;
	int n;

	argc = cli_list(argc, argv, "--meta", &meta);
	argc = argc < 0 ? argc : cli_list(argc, argv, "--secret", &secrets);
	argc = argc < 0 ? -1 : cli_list(argc, argv, "--allow", &allow);
	argc = argc < 0 ? -1 : cli_list(argc, argv, "--deny", &deny);
	n = argc < 0 ? -1 : cli_options(argc, argv, options, ARRAY_LEN(options), &rest);
	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("create", "unexpected: %s", rest[0]);
	if (!cli_time("create", timeout, &what.timeout_ms) || !cli_size("create", memory, &what.memory_b) ||
	    !cli_size("create", workspace, &what.workspace_b) || !cli_size("create", cpu, &what.cpu_milli) ||
	    !cli_size("create", pids, &what.pids))
		return CLI_USAGE;
	if (what.no_wait && (wait || !what.from))
		return cli_usage("create", wait ? "--wait and --no-wait" : "--no-wait without --from");
	if (keep && !cli_rules("create", keep, &rules))
		return CLI_USAGE;
	what.keep = rules;
	what.metadata = meta.v;
	what.secrets = secrets.v;
	what.allow = allow.v;
	what.deny = deny.v;
	if (net && no_net)
		return cli_usage("create", "--net and --no-net");
	what.internet = net ? "on" : no_net ? "off" : NULL;
	if (what.from && !what.no_wait)
		cli_progress(b, false, what.from, 0);
	n = berth_create(b, &what, &info, &e);
	cli_progress_end();
	if (n < 0)
		return cli_fail("create", &e);
	if (info.left_out)
		fprintf(stderr, "berth create: %llu files were left out, only their names were kept\n",
			(unsigned long long)info.left_out);
	if (info.keep_ignored)
		fprintf(stderr, "berth create: its agent is too old for rules of what is kept: everything is\n");
	puts(info.id);
	return CLI_OK;
}

static void ago(int64_t ns, char *to, size_t size)
{
	int64_t s = (clock_wall() - ns) / (int64_t)CLOCK_S;

	if (s < 120)
		snprintf(to, size, "%llds", (long long)s);
	else if (s < 7200)
		snprintf(to, size, "%lldm", (long long)s / 60);
	else if (s < 48 * 3600)
		snprintf(to, size, "%lldh", (long long)s / 3600);
	else
		snprintf(to, size, "%lldd", (long long)s / 86400);
}

int cli_ps(struct berth *b, int argc, char **argv)
{
	bool all = false, json = false;
	const struct cli_option options[] = { { "--all", NULL, &all }, { "--json", NULL, &json } };
	struct berth_info *infos = NULL;
	struct berth_error e;
	char **rest, *text = NULL, age[24];
	size_t i, n = 0;
	int k = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (k != 0)
		return k < 0 ? CLI_USAGE : cli_usage("ps", "unexpected: %s", rest[0]);
	if (json) {
		if (berth_list_json(b, all, &text, &e) < 0)
			return cli_fail("ps", &e);
		fputs(text, stdout);
		free(text);
		return CLI_OK;
	}
	if (berth_list(b, all, &infos, &n, &e) < 0)
		return cli_fail("ps", &e);
	printf("%-17s %-16s %-16s %-9s %5s  %s\n", "ID", "NAME", "TEMPLATE", "STATE", "AGE", "WHY");
	for (i = 0; i < n; i++) {
		ago(infos[i].created_ns, age, sizeof(age));
		printf("%-17s %-16s %-16s %-9s %5s  ", infos[i].id, infos[i].name[0] ? infos[i].name : "-",
		       infos[i].template_, infos[i].state, age);
		cli_put(stdout, infos[i].why);
		putchar('\n');
	}
	free(infos);
	return CLI_OK;
}

struct printing {
	char group[24]; /* of the part before */
};

static int print_part(void *ctx, const struct berth_part *p)
{
	struct printing *last = ctx;

	if (!str_eq(last->group, p->group))
		printf("%s%s\n", last->group[0] ? "\n" : "", p->group);
	snprintf(last->group, sizeof(last->group), "%s", p->group);
	printf("  %-15s %-9s ", p->name, p->state);
	cli_put(stdout, p->words);
	putchar('\n');
	return 0;
}

static int info_host(struct berth *b, bool json)
{
	AUTO(str_free) char *text = NULL;
	struct printing last = { .group = "" };
	struct berth_error e;

	if ((json ? berth_host_json(b, &text, &e) : berth_host(b, print_part, &last, &e)) < 0)
		return cli_fail("info", &e);
	if (text)
		fputs(text, stdout);
	return CLI_OK;
}

static int info_daemon(struct berth *b)
{
	struct berth_status s;
	struct berth_error e;
	char x[24], y[24], up[24];

	if (berth_status(b, &s, &e) < 0)
		return cli_fail("info", &e);
	ago(clock_wall() - (int64_t)(s.uptime_ms * CLOCK_MS), up, sizeof(up));
	printf("status     %s\nversion    %s\nmount      %s\nup         %s\nworkspaces %llu\n", s.status, s.version,
	       s.mount, up, (unsigned long long)s.workspaces);
	printf("store      %s used, file %s\n", cli_bytes(s.store_used_b, x, sizeof(x)),
	       cli_bytes(s.store_b, y, sizeof(y)));
	printf("disk       %s free of %s\n", cli_bytes(s.disk_free_b, x, sizeof(x)),
	       cli_bytes(s.disk_total_b, y, sizeof(y)));
	return CLI_OK;
}

static int info_keep(struct berth *b, const struct berth_info *i)
{
	AUTO(str_free) char *rules = NULL;
	struct berth_error e;
	char *line, *save = NULL;

	if (berth_keep(b, i->id, &rules, &e) < 0)
		return cli_fail("info", &e);
	printf("keep       %s\n",
	       i->keep_ignored ? "everything: its agent is too old for these rules" : "by these rules");
	for (line = strtok_r(rules, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		printf("           ");
		cli_put(stdout, line);
		putchar('\n');
	}
	return CLI_OK;
}

static int print_service(void *ctx, const struct berth_service *s)
{
	(void)ctx;
	printf("service    %s with %s, which stays with the broker\n", s->url, s->secret);
	return 0;
}

int cli_info(struct berth *b, int argc, char **argv)
{
	bool json = false, host = false;
	const struct cli_option options[] = { { "--json", NULL, &json }, { "--host", NULL, &host } };
	struct berth_info i;
	struct berth_error e;
	char **rest, *text = NULL;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 0 || n > 1)
		return n < 0 ? CLI_USAGE : cli_usage("info", "one sandbox at a time");
	if (host)
		return n ? cli_usage("info", "either a sandbox or --host") : info_host(b, json);
	if (n == 0 && !json)
		return info_daemon(b);
	if (json) {
		if ((n == 0 ? berth_health(b, &text, &e) : berth_info_json(b, rest[0], &text, &e)) < 0)
			return cli_fail("info", &e);
		fputs(text, stdout);
		free(text);
		return CLI_OK;
	}
	if (berth_info(b, rest[0], &i, &e) < 0)
		return cli_fail("info", &e);
	printf("id         %s\nname       %s\ntemplate   %s\nstate      %s%s", i.id, i.name[0] ? i.name : "-",
	       i.template_, i.state, i.why[0] ? ": " : "");
	cli_put(stdout, i.why);
	printf("\nmount      %s\n", i.mount);
	printf("memory     %llu MiB\nworkspace  %llu MiB\ncpu        %llu.%03llu\nprocesses  %llu\n",
	       (unsigned long long)i.memory_b >> 20, (unsigned long long)i.workspace_b >> 20,
	       (unsigned long long)i.cpu_milli / 1000, (unsigned long long)i.cpu_milli % 1000,
	       (unsigned long long)i.pids);
	if (i.secrets[0])
		printf("secrets    %s\n", i.secrets);
	if (i.secrets[0] && berth_services(b, i.id, print_service, NULL, &e) < 0)
		return cli_fail("info", &e);
	return i.has_keep ? info_keep(b, &i) : CLI_OK;
}

/* Do one thing to each of several sandboxes; goes on after a failure. */
static int each(struct berth *b, const char *verb, char **ids,
		int (*fn)(struct berth *, const char *, void *, struct berth_error *), void *ctx)
{
	struct berth_error e;
	int r = CLI_OK;

	for (; *ids; ids++)
		if (fn(b, *ids, ctx, &e) < 0)
			r = cli_fail(verb, &e);
	return r;
}

static int kill_one(struct berth *b, const char *id, void *ctx, struct berth_error *e)
{
	return berth_kill(b, id, *(uint64_t *)ctx, e);
}

int cli_kill(struct berth *b, int argc, char **argv)
{
	const char *grace = NULL;
	const struct cli_option options[] = { { "--grace", &grace, NULL } };
	uint64_t ms = 1000;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1)
		return n < 0 ? CLI_USAGE : cli_usage("kill", "which sandbox?");
	return cli_time("kill", grace, &ms) ? each(b, "kill", rest, kill_one, &ms) : CLI_USAGE;
}

struct removing {
	bool force, snapshots;
};

static int remove_one(struct berth *b, const char *id, void *ctx, struct berth_error *e)
{
	const struct removing *how = ctx;
	AUTO(str_free) char *of = must_strdup(id);
	char *at = strchr(of, '@');
	uint64_t left = 0;
	int r;

	if (at) {
		*at = '\0';
		return berth_snapshot_remove(b, of, at + 1, e);
	}
	if (how->force && berth_kill(b, id, 0, e) < 0 && !str_eq(e->slug, "not-running") &&
	    !(how->snapshots && str_eq(e->slug, "no-such-sandbox")))
		return e->code;
	r = berth_remove_counted(b, id, how->snapshots, &left, e);
	if (r == 0 && left)
		fprintf(stderr, "berth rm: %llu snapshots of all of %s stay (berth snapshots; rm --snapshots)\n",
			(unsigned long long)left, id);
	return r;
}

static int pause_one(struct berth *b, const char *id, void *ctx, struct berth_error *e)
{
	return *(bool *)ctx ? berth_pause_no_memory(b, id, e) : berth_pause(b, id, e);
}

int cli_pause(struct berth *b, int argc, char **argv)
{
	bool no_memory = false;
	const struct cli_option options[] = { { "--no-memory", NULL, &no_memory } };
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1)
		return n < 0 ? CLI_USAGE : cli_usage("pause", "which sandbox?");
	return each(b, "pause", rest, pause_one, &no_memory);
}

struct resuming {
	uint64_t ms;
	bool no_memory;
};

static int resume_one(struct berth *b, const char *id, void *ctx, struct berth_error *e)
{
	const struct resuming *how = ctx;

	return how->no_memory ? berth_resume_no_memory(b, id, how->ms, e) : berth_resume(b, id, how->ms, e);
}

int cli_resume(struct berth *b, int argc, char **argv)
{
	const char *timeout = NULL;
	struct resuming how = { .ms = 0 };
	const struct cli_option options[] = { { "--timeout", &timeout, NULL },
					      { "--no-memory", NULL, &how.no_memory } };
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1)
		return n < 0 ? CLI_USAGE : cli_usage("resume", "which sandbox?");
	return cli_time("resume", timeout, &how.ms) ? each(b, "resume", rest, resume_one, &how) : CLI_USAGE;
}

int cli_rm(struct berth *b, int argc, char **argv)
{
	struct removing how = { .force = false };
	const struct cli_option options[] = { { "--force", NULL, &how.force },
					      { "--snapshots", NULL, &how.snapshots } };
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1)
		return n < 0 ? CLI_USAGE : cli_usage("rm", "which sandbox?");
	return each(b, "rm", rest, remove_one, &how);
}

int cli_sync(struct berth *b, int argc, char **argv)
{
	struct berth_error e;

	if (argc != 2)
		return cli_usage("sync", "one sandbox is wanted");
	return berth_sync(b, argv[1], &e) < 0 ? cli_fail("sync", &e) : CLI_OK;
}

int cli_timeout(struct berth *b, int argc, char **argv)
{
	struct berth_error e;
	uint64_t ms = 0;

	if (argc != 3)
		return cli_usage("timeout", "a sandbox and a time are wanted");
	if (!cli_time("timeout", argv[2], &ms))
		return CLI_USAGE;
	return berth_timeout(b, argv[1], ms, &e) < 0 ? cli_fail("timeout", &e) : CLI_OK;
}

/* --- the daemon --------------------------------------------------------------------------------------------------- */

static void say(void *ctx, const char *line)
{
	fprintf(ctx, "%s\n", line);
	fflush(ctx);
}

/* From the first line that begins with "[" on: rules of what is kept, which are cut off. */
static const char *cut_rules(char *all)
{
	char *at = all[0] == '[' ? all : strstr(all, "\n[");

	if (!at)
		return NULL;
	if (at == all)
		return at;
	*at = '\0';
	return at + 1;
}

/* Names of packages from a file: white space separates, # begins a comment. */
static int read_packages(const char *file, char *all, size_t size, const char **v, size_t max, const char **ret_rules)
{
	struct buf b;
	char *p = all, *save = NULL, *line, *word, *inner;
	size_t n = 0;

	buf_init(&b, size - 1);
	if (io_read_file(AT_FDCWD, file, &b) < 0)
		return -1;
	memcpy(all, buf_str(&b), buf_len(&b) + 1);
	buf_fini(&b);
	*ret_rules = cut_rules(all);
	for (line = strtok_r(p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		line[strcspn(line, "#")] = '\0';
		for (word = strtok_r(line, " \t\r", &inner); word && n < max; word = strtok_r(NULL, " \t\r", &inner))
			v[n++] = word;
	}
	v[n] = NULL;
	return (int)n;
}

static void hush(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static int template_build(struct berth *b, int argc, char **argv)
{
	enum { PACKAGES = 512 };
	static char all[65536];
	const char *file = NULL, *tar = NULL, *keep = NULL, *packages[PACKAGES + 1] = { NULL }, *rules = NULL;
	AUTO(str_free) char *own = NULL;
	bool replace = false, quiet = false;
	struct stat st = { .st_size = 0 };
	const struct cli_option options[] = {
		{ "--packages", &file, NULL }, { "--tar", &tar, NULL }, { "--replace", NULL, &replace },
		{ "--quiet", NULL, &quiet }, { "--keep", &keep, NULL },
	};
	AUTO(fd_close) int tar_fd = -1;
	struct berth_error e;
	char **rest;
	int i, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1)
		return n < 0 ? CLI_USAGE : cli_usage("template", "what is it to be called?");
	for (i = 1; i < n && i <= PACKAGES; i++)
		packages[i - 1] = rest[i];
	if ((n > 1) + (file != NULL) + (tar != NULL) != 1)
		return cli_usage("template", "either packages, --packages FILE or --tar FILE");
	if (file && read_packages(file, all, sizeof(all), packages, PACKAGES, &rules) < 1)
		return cli_usage("template", "no packages can be read from %s", file);
	if (tar) {
		tar_fd = open(tar, O_RDONLY | O_CLOEXEC);
		if (tar_fd < 0)
			return cli_usage("template", "%s: %s", tar, strerror(errno));
	}
	if (keep && !cli_rules("template", keep, &own))
		return CLI_USAGE;
	if (own || rules) /* before: they belong to the name, and a sandbox may be made at once */
		if (berth_template_set_keep(b, rest[0], own ? own : rules, &e) < 0)
			return cli_fail("template", &e);
	if (tar && fstat(tar_fd, &st) == 0)
		cli_progress(b, quiet, tar, (uint64_t)st.st_size);
	i = berth_template_build(b, rest[0], tar ? NULL : packages, tar_fd, replace, quiet ? hush : say, stdout, &e);
	cli_progress_end();
	if (i < 0)
		return cli_fail("template", &e);
	return CLI_OK;
}

static int template_keep(struct berth *b, const char *name, const char *file)
{
	AUTO(str_free) char *text = NULL;
	struct berth_error e;

	if (file && !cli_rules("template", file, &text))
		return CLI_USAGE;
	if ((file ? berth_template_set_keep(b, name, text, &e) : berth_template_keep(b, name, &text, &e)) < 0)
		return cli_fail("template", &e);
	if (!file)
		fputs(text, stdout);
	return CLI_OK;
}

int cli_template(struct berth *b, int argc, char **argv)
{
	struct berth_error e;
	char *text = NULL;

	if (argc == 2 && str_eq(argv[1], "ls")) {
		if (berth_template_list(b, &text, &e) < 0)
			return cli_fail("template", &e);
		fputs(text, stdout);
		free(text);
		return CLI_OK;
	}
	if (argc == 3 && str_eq(argv[1], "rm"))
		return berth_template_remove(b, argv[2], &e) < 0 ? cli_fail("template", &e) : CLI_OK;
	if (argc > 1 && str_eq(argv[1], "build")) {
		argv[1] = argv[0];
		return template_build(b, argc - 1, argv + 1);
	}
	if ((argc == 3 || argc == 4) && str_eq(argv[1], "keep"))
		return template_keep(b, argv[2], argv[3]);
	return cli_usage("template", "ls, rm, keep or build?");
}

int cli_fsck(struct berth *b, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json } };
	struct berth_error e;
	char **rest, *text = NULL;
	uint64_t problems = 0;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("fsck", "unexpected: %s", rest[0]);
	if (berth_fsck(b, json ? NULL : say, stdout, &problems, &text, &e) < 0)
		return cli_fail("fsck", &e);
	if (json)
		fputs(text, stdout);
	else
		printf("%llu problems\n", (unsigned long long)problems);
	free(text);
	return problems ? CLI_FAILED : CLI_OK;
}

int cli_dump(struct berth *b, int argc, char **argv)
{
	struct berth_error e;

	(void)b;
	if (argc != 3 || !str_eq(argv[1], "wire"))
		return cli_usage("dump", "wire FILE?");
	return berth_dump_wire(argv[2], STDOUT_FILENO, &e) < 0 ? cli_fail("dump", &e) : CLI_OK;
}

int cli_version(struct berth *b, int argc, char **argv)
{
	(void)b;
	(void)argc;
	(void)argv;
	printf("berth %s\n", berth_version());
	return CLI_OK;
}
