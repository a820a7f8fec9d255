/* SPDX-License-Identifier: Apache-2.0 */
/* What files have besides bytes: xattr, ln. */
#include "cli/cli.h"

#include "base/str.h"

#include <stdlib.h>
#include <string.h>

static int print_name(void *ctx, const char *name)
{
	(void)ctx;
	cli_put(stdout, name);
	putchar('\n');
	return 0;
}

static int print_value(struct berth *b, const char *id, const char *path, const char *name, struct berth_error *e)
{
	AUTO(str_free) char *value = NULL;
	size_t len = 0;
	int r = berth_xattr_get(b, id, path, name, &value, &len, e);

	if (r == 0)
		fwrite(value, 1, len, stdout);
	return r;
}

/* A name without its space is meant in the only one there is. */
static char *full_name(const char *name)
{
	return str_starts(name, "user.") ? must_strdup(name) : str_printf("user.%s", name);
}

int cli_xattr(struct berth *b, int argc, char **argv)
{
	bool drop = false;
	const struct cli_option options[] = { { "--remove", NULL, &drop } };
	AUTO(str_free) char *id = NULL;
	AUTO(str_free) char *name = NULL;
	const char *path;
	struct berth_error e;
	char **rest;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 0)
		return CLI_USAGE;
	id = n >= 1 && n <= 3 ? cli_split(rest[0], &path) : NULL;
	if (!id || (drop && n != 2))
		return cli_usage("xattr", "ID:PATH is wanted, maybe a name, maybe a value");
	name = n > 1 ? full_name(rest[1]) : NULL;
	if (n == 1)
		r = berth_xattr_list(b, id, path, print_name, NULL, &e);
	else if (drop)
		r = berth_xattr_set(b, id, path, name, NULL, 0, &e);
	else
		r = n == 2 ? print_value(b, id, path, name, &e)
			   : berth_xattr_set(b, id, path, name, rest[2], strlen(rest[2]), &e);
	return r < 0 ? cli_fail("xattr", &e) : CLI_OK;
}

int cli_ln(struct berth *b, int argc, char **argv)
{
	bool symbolic = false;
	const struct cli_option options[] = { { "-s", NULL, &symbolic } };
	AUTO(str_free) char *id = NULL;
	const char *path;
	struct berth_error e;
	char **rest;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 0)
		return CLI_USAGE;
	id = n == 2 ? cli_split(rest[1], &path) : NULL;
	if (!id)
		return cli_usage("ln", "what it leads to and ID:PATH are wanted");
	r = symbolic ? berth_symlink(b, id, path, rest[0], &e) : berth_link(b, id, path, rest[0], &e);
	return r < 0 ? cli_fail("ln", &e) : CLI_OK;
}
