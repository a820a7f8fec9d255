/* SPDX-License-Identifier: Apache-2.0 */
/* berth backup. The file appears under its name when it is whole. */
#include "cli/cli.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int cli_backup(struct berth *b, int argc, char **argv)
{
	const char *file = NULL;
	const struct cli_option options[] = { { "-o", &file, NULL } };
	AUTO(str_free) char *part = NULL;
	struct berth_error e;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest), fd;

	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("backup", "unexpected: %s", rest[0]);
	if (!file)
		return cli_usage("backup", "-o FILE? (-o - is standard output)");
	if (str_eq(file, "-"))
		return berth_backup(b, STDOUT_FILENO, &e) < 0 ? cli_fail("backup", &e) : CLI_OK;
	part = str_printf("%s.part", file);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		fprintf(stderr, "berth backup: %s: %s\n", part, strerror(errno));
		return CLI_FAILED;
	}
	if (berth_backup(b, fd, &e) < 0) {
		unlink(part);
		close(fd);
		return cli_fail("backup", &e);
	}
	if (fsync(fd) < 0 || close(fd) < 0 || rename(part, file) < 0) {
		fprintf(stderr, "berth backup: %s: %s\n", file, strerror(errno));
		unlink(part);
		return CLI_FAILED;
	}
	return CLI_OK;
}
