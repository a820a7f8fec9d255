/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

/* Certificates: making an authority of one's own and what it signs, and showing them to clients; TLS to servers inside
 * of sandboxes. The door of GnuTLS. */
#include "base/err.h"

/**
 * tls_make() - a certificate for @domain, every name one level below it, localhost and the loopback addresses, signed
 * by the authority in @dir, which is made when there is none
 * @domain: a DNS name without a dot at its end, at most 200 bytes
 *
 * Writes ca.pem, cert.pem (0644), ca-key.pem, key.pem (0600), each at once whole. The authority may sign for @domain
 * alone (name constraints); it is valid for ten years, the certificate for one. Keys are ECDSA over P-256.
 * Return: 0; -EINVAL; -EEXIST slug "other-domain": the authority in @dir is for another one; -errno.
 */
int tls_make(const char *dir, const char *domain, struct err *e) MUST_CHECK;

/**
 * tls_serve() - read a certificate with its chain and its key (PEM), to be shown from now on by this process
 *
 * One for a process. Both files are looked at again at a handshake, once a second at most: when they have changed they
 * are read anew, and what cannot be read leaves things as they are. Both paths are copied. Return: 0, -errno.
 */
int tls_serve(const char *cert, const char *key, struct err *e) MUST_CHECK;
void tls_end(void);

/** tls_retriever() - a gnutls_certificate_retrieve_function2 for a server; cast here, so that others need not know it.
 */
typedef void tls_fn(void);
tls_fn *tls_retriever(void);
/** TLS_PRIORITIES - for gnutls_priority_init(): 1.2 and 1.3. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct loop;
/** tls_wrap() - speak TLS, as a client, with the server at the other end of the stream socket @fd, which is taken; any
 * thread. Nothing of the server is verified: for one whose connection cannot be another's. *@ret_fd: a socket of plain
 * bytes, the caller's; it ends when the server ends, or does not speak TLS within ten seconds. Return: 0 or -errno. */
int tls_wrap(struct loop *loop, int fd, int *ret_fd, struct err *e) MUST_CHECK;

#endif
