/* SPDX-License-Identifier: Apache-2.0 */
#include "host/vault.h"

#include "base/log.h"
#include "base/str.h"
#include "seal/digest.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

int vault_conf(const struct conf *c, struct priv_conf *p, struct err *e)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	struct passwd *pw = getpwnam(c->broker_user);

	if (digest_setup() < 0)
		return err_set(e, -ENOSYS, "sodium", "libsodium does not work here");
	if (access(c->broker, X_OK) < 0)
		return err_sys(e, -errno, "the broker's program %s", c->broker);
	p->broker_uid = pw ? pw->pw_uid : p->uid;
	p->broker_gid = pw ? pw->pw_gid : p->gid;
	snprintf(p->broker_path, sizeof(p->broker_path), "%s", c->broker);
	snprintf(p->services_path, sizeof(p->services_path), "%s", c->services);
	if (credentials) {
		AUTO(str_free) char *given = str_printf("%s/berth.key", credentials);

		if (access(given, R_OK) == 0)
			snprintf(p->key_path, sizeof(p->key_path), "%s", given);
	}
	return 0;
}

static int broker_fork(void *ctx, const int fds[3], struct err *e)
{
	struct vault *v = ctx;

	return priv_broker_start(v->priv, fds, e);
}

static void broker_again(void *ctx)
{
	struct vault *v = ctx;

	secrets_hand_over(v->secrets);
}

static int broker_audit(void *ctx, const struct broker_use *u)
{
	const struct secrets_used told = { .secret = u->secret,
					   .service = u->service,
					   .sandbox = u->sandbox,
					   .key = u->key,
					   .method = u->method,
					   .host = u->host,
					   .path = u->path,
					   .rule = u->rule,
					   .exec = u->exec,
					   .command = u->command,
					   .first = u->first,
					   .refused = u->refused,
					   .status = u->status,
					   .count = u->count,
					   .up_b = u->up_b,
					   .down_b = u->down_b };
	struct vault *v = ctx;
	struct err e = ERR_NULL;
	int r = secrets_told(v->secrets, &told, &e);

	if (r < 0)
		log_error("broker", "a use of a secret was not written down", "secret=%s why=%s", u->secret, e.text);
	return r;
}

static int opener_open(void *ctx, struct span sealed, struct secret **ret, struct err *e)
{
	return broker_open(ctx, sealed, ret, e);
}

static void opener_keep(void *ctx, const char *name, struct span sealed)
{
	struct err e = ERR_NULL;

	if (broker_keep(ctx, name, sealed, &e) < 0) /* one that is started again is told all anew */
		log_warn("broker", "does not keep a secret", "name=%s why=%s", name, e.text);
}

int vault_open(struct vault *v, struct priv *priv, struct store *store, struct err *e)
{
	const struct broker_conf bc = { .ctx = v, .start = broker_fork, .again = broker_again, .audit = broker_audit };
	struct secrets_opener o = { .open = opener_open, .keep = opener_keep };
	int r;

	v->priv = priv;
	r = broker_new(&bc, &v->broker, e);
	if (r < 0)
		return r;
	o.ctx = v->broker;
	o.pub = broker_pub(v->broker);
	r = secrets_new(store, &o, &v->secrets, e);
	if (r == 0)
		broker_ready(v->broker);
	return r;
}

void vault_close(struct vault *v)
{
	broker_quiet(v->broker);
	secrets_free(&v->secrets);
	broker_free(&v->broker);
}
