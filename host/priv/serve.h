/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_SERVE_H
#define HOST_PRIV_SERVE_H

/* The privileged process. */
#include "host/priv/priv.h"

/** serve_run() - prepare, tell the daemon on @sock how that went, then answer requests until the socket hangs up. */
NORETURN void serve_run(const struct priv_conf *conf, int sock);

#endif
