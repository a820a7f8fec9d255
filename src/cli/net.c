/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox may reach, seen and changed. */
#include "cli/cli.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool has(const char *const *v, const char *what)
{
	for (; v && *v; v++)
		if (str_eq(*v, what))
			return true;
	return false;
}

/* Without what stands in @less, then with @more. */
static void change(char ***slot, const struct cli_list *less, const struct cli_list *more)
{
	char **old = take(slot), **v;
	size_t i, n = 0, room = strv_len(old) + more->n + 1;

	v = must_calloc(room, sizeof(*v));
	for (i = 0; old && old[i]; i++)
		if (!has(less->v, old[i]))
			v[n++] = must_strdup(old[i]);
	for (i = 0; i < more->n; i++)
		if (!has((const char *const *)v, more->v[i]))
			v[n++] = must_strdup(more->v[i]);
	strv_free(&old);
	*slot = v;
}

static void print_list(const char *what, char *const *v)
{
	for (; v && *v; v++)
		printf("%-9s %s\n", what, *v);
}

static int show(struct berth *b, const char *id, struct berth_error *e)
{
	struct berth_network n;

	if (berth_network(b, id, &n, e) < 0)
		return cli_fail("net", e);
	printf("%-9s %s\n%-9s %s\n", "network", n.mode, "internet", n.internet ? "on" : "off");
	print_list("allow", n.allow);
	print_list("deny", n.deny);
	if (n.proxy[0])
		printf("%-9s %s\n", "proxy", n.proxy);
	berth_network_free(&n);
	return CLI_OK;
}

int cli_net(struct berth *b, int argc, char **argv)
{
	struct cli_list allow = { .n = 0 }, deny = { .n = 0 }, drop = { .n = 0 };
	const char *internet = NULL;
	bool clear = false;
	const struct cli_option options[] = { { "--internet", &internet, NULL }, { "--clear", NULL, &clear } };
	struct berth_network n;
	struct berth_error e;
	char **rest;
	int r;

	argc = cli_list(argc, argv, "--allow", &allow);
	argc = argc < 0 ? -1 : cli_list(argc, argv, "--deny", &deny);
	argc = argc < 0 ? -1 : cli_list(argc, argv, "--remove", &drop);
	r = argc < 0 ? -1 : cli_options(argc, argv, options, ARRAY_LEN(options), &rest);
	if (r != 1)
		return r < 0 ? CLI_USAGE : cli_usage("net", "one sandbox is wanted");
	if (internet && !str_eq(internet, "on") && !str_eq(internet, "off"))
		return cli_usage("net", "--internet on or off?");
	if (!internet && !clear && !allow.n && !deny.n && !drop.n)
		return show(b, rest[0], &e);
	if (berth_network(b, rest[0], &n, &e) < 0)
		return cli_fail("net", &e);
	if (clear) {
		strv_free(&n.allow);
		strv_free(&n.deny);
	}
	change(&n.allow, &drop, &allow);
	change(&n.deny, &drop, &deny);
	if (internet)
		n.internet = str_eq(internet, "on");
	r = berth_set_network(b, rest[0], &n, &e);
	berth_network_free(&n);
	return r < 0 ? cli_fail("net", &e) : CLI_OK;
}
