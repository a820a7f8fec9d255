/* SPDX-License-Identifier: Apache-2.0 */
/* Theory. A pair that was shown may be in a handshake that another thread works on, so old ones are kept until the end:
 * they are few, each change of the files makes one. */
#include "tls/tls.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/own.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <sys/stat.h>

enum { PEM_MAX = 256 * 1024, CHAIN_MAX = 8, LOOK_MS = 1000 };

struct pair {
	struct pair *next;
	gnutls_pcert_st chain[CHAIN_MAX];
	unsigned len;
	gnutls_privkey_t key;
};

static struct {
	char *cert, *key;
	struct timespec cert_at, key_at;
	uint64_t looked_at;
	struct pair *now; /* the newest; older ones behind it */
} serving;

static int refused(int code, const char *path, struct err *e)
{
	return err_set(e, -EINVAL, "bad-certificate", "%s: %s", path, gnutls_strerror(code));
}

static void pair_free(struct pair *p)
{
	unsigned i;

	for (i = 0; i < p->len; i++)
		gnutls_pcert_deinit(&p->chain[i]);
	if (p->key)
		gnutls_privkey_deinit(p->key);
	free(p);
}

static int read_pem(const char *path, struct buf *b, gnutls_datum_t *ret, struct err *e)
{
	struct span s;
	int r = io_read_file(AT_FDCWD, path, b);

	if (r < 0)
		return err_sys(e, r, "%s", path);
	s = buf_span(b);
	*ret = (gnutls_datum_t){ .data = (unsigned char *)(uintptr_t)s.p, .size = (unsigned)s.len };
	return 0;
}

static int read_key(const char *path, gnutls_privkey_t *ret, struct err *e)
{
	AUTO(buf_fini) struct buf b;
	gnutls_datum_t pem;
	int r;

	buf_init(&b, PEM_MAX);
	r = read_pem(path, &b, &pem, e);
	if (r < 0)
		return r;
	r = gnutls_privkey_init(ret);
	if (r == 0)
		r = gnutls_privkey_import_x509_raw(*ret, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	gnutls_memset(pem.data, 0, pem.size);
	return r < 0 ? refused(r, path, e) : 0;
}

/* The first of a chain must be of this key: who shows another one is refused by every client. */
static int matches(const struct pair *p)
{
	gnutls_pubkey_t mine = NULL;
	uint8_t a[64], b[64];
	size_t a_len = sizeof(a), b_len = sizeof(b);
	int r = gnutls_pubkey_init(&mine);

	if (r == 0)
		r = gnutls_pubkey_import_privkey(mine, p->key, 0, 0);
	if (r == 0)
		r = gnutls_pubkey_get_key_id(mine, 0, a, &a_len);
	if (r == 0)
		r = gnutls_pubkey_get_key_id(p->chain[0].pubkey, 0, b, &b_len);
	if (r == 0 && (a_len != b_len || memcmp(a, b, a_len) != 0))
		r = GNUTLS_E_CERTIFICATE_KEY_MISMATCH;
	if (mine)
		gnutls_pubkey_deinit(mine);
	return r;
}

static int load(struct err *e)
{
	AUTO(buf_fini) struct buf b;
	struct pair *p = NEW(struct pair);
	gnutls_datum_t pem;
	unsigned len = CHAIN_MAX;
	int r;

	buf_init(&b, PEM_MAX);
	r = read_pem(serving.cert, &b, &pem, e);
	if (r == 0) {
		r = gnutls_pcert_list_import_x509_raw(p->chain, &len, &pem, GNUTLS_X509_FMT_PEM, 0);
		if (r < 0)
			r = refused(r, serving.cert, e);
		else
			p->len = len;
	}
	if (r >= 0)
		r = read_key(serving.key, &p->key, e);
	if (r >= 0) {
		r = p->len ? matches(p) : GNUTLS_E_NO_CERTIFICATE_FOUND;
		r = r < 0 ? refused(r, serving.cert, e) : 0;
	}
	if (r < 0) {
		pair_free(p);
		return r;
	}
	p->next = serving.now;
	serving.now = p;
	return 0;
}

static bool is_changed(void)
{
	struct stat cert, key;
	bool changed;

	if (stat(serving.cert, &cert) < 0 || stat(serving.key, &key) < 0)
		return false;
	changed = memcmp(&cert.st_ctim, &serving.cert_at, sizeof(cert.st_ctim)) != 0 ||
		  memcmp(&key.st_ctim, &serving.key_at, sizeof(key.st_ctim)) != 0;
	serving.cert_at = cert.st_ctim;
	serving.key_at = key.st_ctim;
	return changed;
}

int tls_serve(const char *cert, const char *key, struct err *e)
{
	/* A record that was read stays in its memory else, until somebody else gets that. */
	gnutls_free = free_wiped;
	gnutls_realloc = realloc_wiped;
	serving.cert = must_strdup(cert);
	serving.key = must_strdup(key);
	(void)is_changed();
	serving.looked_at = clock_now();
	return load(e);
}

void tls_end(void)
{
	while (serving.now) {
		struct pair *next = serving.now->next;

		pair_free(serving.now);
		serving.now = next;
	}
	str_free(&serving.cert);
	str_free(&serving.key);
}

/* On the one thread of the server that speaks TLS. */
static int retrieve(gnutls_session_t session, const gnutls_datum_t *authorities, int n,
		    const gnutls_pk_algorithm_t *algos, int algos_n, gnutls_pcert_st **chain, unsigned *len,
		    gnutls_privkey_t *key)
{
	struct err e = ERR_NULL;

	(void)session, (void)authorities, (void)n, (void)algos, (void)algos_n;
	if (clock_now() - serving.looked_at > LOOK_MS * CLOCK_MS) {
		serving.looked_at = clock_now();
		if (is_changed()) {
			if (load(&e) == 0)
				log_info("tls", "certificate read anew", "path=%s", serving.cert);
			else
				log_warn("tls", "certificate not read anew", "why=%s", e.text);
			if (e.code && e.code != -EINVAL) /* a passing shortage */
				serving.cert_at.tv_sec = 0;
		}
	}
	if (!serving.now)
		return -1;
	*chain = serving.now->chain;
	*len = serving.now->len;
	*key = serving.now->key;
	return 0;
}

tls_fn *tls_retriever(void)
{
	return (tls_fn *)retrieve;
}
