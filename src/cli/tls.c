/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for the door with TLS. */
#include "cli/cli.h"

#include "base/str.h"
#include "tls/tls.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The daemon reads it as the account that it runs as. */
static int give_key(const char *path)
{
	const struct passwd *pw = geteuid() == 0 ? getpwnam("berth") : NULL;

	return pw && chown(path, pw->pw_uid, (gid_t)-1) < 0 ? -errno : 0;
}

int cli_tls(struct berth *b, int argc, char **argv)
{
	const char *dir = CONF_DIR "/tls", *domain = "sbx.localhost";
	const struct cli_option options[] = { { "--dir", &dir, NULL }, { "--domain", &domain, NULL } };
	AUTO(str_free) char *key = NULL;
	struct err e = ERR_NULL;
	char **rest;
	int n, r;

	(void)b;
	if (argc < 2 || !str_eq(argv[1], "init"))
		return cli_usage("tls", "init?");
	argv[1] = argv[0];
	n = cli_options(argc - 1, argv + 1, options, ARRAY_LEN(options), &rest);
	if (n != 0)
		return n < 0 ? CLI_USAGE : cli_usage("tls", "init has no arguments");
	r = tls_make(dir, domain, &e);
	key = str_printf("%s/key.pem", dir);
	if (r == 0) {
		r = give_key(key);
		if (r < 0)
			err_sys(&e, r, "%s", key);
	}
	if (r < 0) {
		fprintf(stderr, "berth tls: %s\n", e.text);
		return CLI_FAILED;
	}
	printf("%s/cert.pem and key.pem: for %s, *.%s and localhost, one year\n"
	       "%s/ca.pem: what clients are to trust (NODE_EXTRA_CA_CERTS, SSL_CERT_FILE)\n",
	       dir, domain, domain, dir);
	return CLI_OK;
}
