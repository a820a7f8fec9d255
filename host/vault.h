/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_VAULT_H
#define HOST_VAULT_H

/* Secrets and the process that opens them, tied together: docs/broker.md. */
#include "host/broker/client.h"
#include "host/conf.h"
#include "host/priv/priv.h"
#include "host/secret/secret.h"

struct vault {
	struct priv *priv; /* borrowed */
	struct broker *broker;
	struct secrets *secrets;
};

/** vault_conf() - as root, before anything is given up: what the privileged process needs to start the broker with. The
 * key is not read here. Return: 0 or -errno. */
int vault_conf(const struct conf *c, struct priv_conf *p, struct err *e) MUST_CHECK;
/** vault_open() - start the broker and tell it what it is to keep. Return: 0 or -errno. */
int vault_open(struct vault *v, struct priv *priv, struct store *store, struct err *e) MUST_CHECK;
/** vault_close() - nobody asks for secrets any more. */
void vault_close(struct vault *v);

#endif
