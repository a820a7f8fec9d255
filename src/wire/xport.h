/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_XPORT_H
#define WIRE_XPORT_H

/*
 * Addresses: "unix:PATH", "hybrid:UDS-PATH:PORT" (CONNECT handshake of Firecracker and vhost-device-vsock),
 * "vsock:CID:PORT" (inside guests only), "fd:N" (a listening or connected descriptor that was handed down).
 */
#include "base/err.h"

#include <stdint.h>

/** xport_connect() - dial until @until; the descriptor is non-blocking and close-on-exec, yours.
 * The hybrid handshake is one write and an answer that begins with "OK "; a peer that is not listening yet is
 * -ECONNREFUSED. Return: 0; -EINVAL (address), -ECONNREFUSED, -ETIMEDOUT, -errno. */
int xport_connect(const char *address, uint64_t until, int *ret_fd, struct err *e) MUST_CHECK;
/** xport_listen() - listen on unix:, vsock:CID:PORT (CID "any") or take over fd:N. Non-blocking. */
int xport_listen(const char *address, int *ret_fd, struct err *e) MUST_CHECK;
/** xport_accept() - one connection, non-blocking, close-on-exec; on AF_VSOCK only the host (CID 2) is let in.
 * Return: 0; -EAGAIN; -EPERM (a stranger was closed); -errno. */
int xport_accept(int listener, int *ret_fd) MUST_CHECK;

#endif
