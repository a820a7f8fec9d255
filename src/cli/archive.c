/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth export and import. Compression is done here, by the programs that everybody has for it: the daemon never
 * unpacks what somebody made. An archive appears under its name when it is whole.
 */
#include "cli/cli.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of what a name says it is, or what the first bytes of a file are. */
static const char *packer_of(const char *name)
{
	size_t len = strlen(name);

	if (len > 4 && str_eq(name + len - 4, ".zst"))
		return "zstd";
	if ((len > 3 && str_eq(name + len - 3, ".gz")) || (len > 4 && str_eq(name + len - 4, ".tgz")))
		return "gzip";
	return NULL;
}

/* A child between @from and @to, one of which is a pipe to us. Return: its pid; -1 with words. */
static pid_t start(const char *verb, const char *program, const char *option, int from, int to, int close_too)
{
	pid_t pid = fork();

	if (pid < 0)
		fprintf(stderr, "berth %s: %s: %s\n", verb, program, strerror(errno));
	if (pid != 0)
		return pid;
	close(close_too);
	if (dup2(from, STDIN_FILENO) < 0 || dup2(to, STDOUT_FILENO) < 0)
		_exit(127);
	execlp(program, program, "-q", option, (char *)NULL);
	fprintf(stderr, "berth %s: %s: %s\n", verb, program, strerror(errno));
	_exit(127);
}

static bool ended_well(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int complain(const char *verb, const char *file)
{
	fprintf(stderr, "berth %s: %s: %s\n", verb, file, strerror(errno));
	return CLI_FAILED;
}

static int export_to(struct berth *b, const char *state, const char *path, int fd, const char *packer)
{
	struct berth_error e;
	int p[2] = { -1, fd }, r;
	uint64_t left_out = 0;
	pid_t pid = 0;

	if (packer) {
		if (pipe2(p, O_CLOEXEC) < 0)
			return complain("export", "pipe");
		pid = start("export", packer, "-c", p[0], fd, p[1]);
		close(p[0]);
		if (pid < 0)
			return CLI_FAILED;
	}
	r = berth_export_counted(b, state, path, p[1], &left_out, &e);
	cli_progress_end();
	if (r == 0 && left_out)
		fprintf(stderr, "berth export: %llu files were left out, only their names were kept\n",
			(unsigned long long)left_out);
	if (packer)
		close(p[1]);
	if (packer && !ended_well(pid) && r == 0) {
		fprintf(stderr, "berth export: %s failed\n", packer);
		return CLI_FAILED;
	}
	return r < 0 ? cli_fail("export", &e) : CLI_OK;
}

int cli_export(struct berth *b, int argc, char **argv)
{
	const char *file = NULL;
	bool quiet = false;
	const struct cli_option options[] = { { "-o", &file, NULL }, { "--quiet", NULL, &quiet } };
	AUTO(str_free) char *part = NULL;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest), fd, r;
	const char *path;

	if (n < 1 || n > 2)
		return n < 0 ? CLI_USAGE : cli_usage("export", "a sandbox is wanted, and perhaps a path in it");
	if (!file)
		return cli_usage("export", "-o FILE? (-o - is standard output)");
	path = n == 2 ? rest[1] : NULL;
	cli_progress(b, quiet, rest[0], 0);
	if (str_eq(file, "-"))
		return export_to(b, rest[0], path, STDOUT_FILENO, NULL);
	part = str_printf("%s.part", file);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return complain("export", part);
	r = export_to(b, rest[0], path, fd, packer_of(file));
	if (r == CLI_OK && rename(part, file) < 0)
		r = complain("export", file);
	if (close(fd) < 0 && r == CLI_OK)
		r = complain("export", file);
	if (r != CLI_OK)
		unlink(part);
	return r;
}

int cli_import(struct berth *b, int argc, char **argv)
{
	const char *name = NULL, *size = NULL;
	bool quiet = false;
	const struct cli_option options[] = { { "--name", &name, NULL },
					      { "--workspace", &size, NULL },
					      { "--quiet", NULL, &quiet } };
	struct berth_imported got;
	struct berth_error e;
	const char *packer;
	char **rest;
	struct stat st;
	uint64_t workspace_b = 0;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest), fd, p[2], r;
	pid_t pid = 0;

	if (n != 1)
		return n < 0 ? CLI_USAGE : cli_usage("import", "which archive? (- is standard input)");
	if (size && !cli_size("import", size, &workspace_b))
		return CLI_USAGE;
	fd = str_eq(rest[0], "-") ? STDIN_FILENO : open(rest[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain("import", rest[0]);
	packer = packer_of(rest[0]);
	if (packer) {
		if (pipe2(p, O_CLOEXEC) < 0)
			return complain("import", "pipe");
		pid = start("import", packer, "-dc", fd, p[1], p[0]);
		close(p[1]);
		close(fd);
		if (pid < 0)
			return CLI_FAILED;
		fd = p[0];
	}
	cli_progress(b, quiet, rest[0],
		     !packer && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
	r = berth_import(b, fd, name, workspace_b, &got, &e);
	cli_progress_end();
	close(fd);
	if (packer && !ended_well(pid) && r == 0) {
		/* What was cut off may look like an archive that is whole. */
		fprintf(stderr, "berth import: %s failed; what it gave is %s\n", packer, got.id);
		return CLI_FAILED;
	}
	if (r < 0)
		return cli_fail("import", &e);
	if (got.left_out)
		fprintf(stderr, "berth import: %llu device nodes were left out\n", (unsigned long long)got.left_out);
	puts(got.id);
	return CLI_OK;
}
