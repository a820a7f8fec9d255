/* SPDX-License-Identifier: Apache-2.0 */
/* An authority of one's own, and a certificate that it signs. */
#include "tls/tls.h"

#include "base/io.h"
#include "base/own.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509-ext.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { PEM_MAX = 64 * 1024, DOMAIN_MAX = 200, AUTHORITY_DAYS = 3650, CERTIFICATE_DAYS = 365, DAY_S = 86400 };

static void key_free(gnutls_x509_privkey_t *k)
{
	if (*k)
		gnutls_x509_privkey_deinit(*k);
}

static void crt_free(gnutls_x509_crt_t *c)
{
	if (*c)
		gnutls_x509_crt_deinit(*c);
}

static int failed(int code, struct err *e)
{
	return err_set(e, -EINVAL, "tls", "making a certificate: %s", gnutls_strerror(code));
}

static bool is_domain(const char *s)
{
	size_t i, len = strlen(s), label = 0;

	for (i = 0; i < len; i++) {
		bool word = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');

		if (s[i] == '.' && (!label || s[i - 1] == '-'))
			return false;
		if (s[i] != '.' && !word && !(s[i] == '-' && label))
			return false;
		label = s[i] == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return len && len <= DOMAIN_MAX && label && s[len - 1] != '-';
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static int save(const char *dir, const char *name, mode_t mode, gnutls_datum_t *pem, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/%s", dir, name);
	int r = io_write_file(AT_FDCWD, path, pem->data, pem->size, mode);

	if (mode == 0600)
		gnutls_memset(pem->data, 0, pem->size);
	gnutls_free(pem->data);
	return r < 0 ? err_sys(e, r, "%s", path) : 0;
}

static int save_key(const char *dir, const char *name, gnutls_x509_privkey_t key, struct err *e)
{
	gnutls_datum_t pem = { .data = NULL };
	int r = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem);

	return r < 0 ? failed(r, e) : save(dir, name, 0600, &pem, e);
}

static int save_crt(const char *dir, const char *name, gnutls_x509_crt_t crt, struct err *e)
{
	gnutls_datum_t pem = { .data = NULL };
	int r = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);

	return r < 0 ? failed(r, e) : save(dir, name, 0644, &pem, e);
}

/* Return: 1 read, 0 not there. */
static int read_pem(const char *dir, const char *name, struct buf *b, gnutls_datum_t *ret, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/%s", dir, name);
	int r = io_read_file(AT_FDCWD, path, b);
	struct span s = buf_span(b);

	if (r < 0)
		return r == -ENOENT ? 0 : err_sys(e, r, "%s", path);
	*ret = (gnutls_datum_t){ .data = (unsigned char *)(uintptr_t)s.p, .size = (unsigned)s.len };
	return 1;
}

/* --- what is said in a certificate -------------------------------------------------------------------------------- */

static int new_key(gnutls_x509_privkey_t *ret)
{
	int r = gnutls_x509_privkey_init(ret);

	return r < 0 ? r
		     : gnutls_x509_privkey_generate2(*ret, GNUTLS_PK_ECDSA,
						     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0, NULL, 0);
}

static int begin(gnutls_x509_crt_t *ret, gnutls_x509_privkey_t key, const char *name, unsigned days)
{
	uint8_t serial[16], id[64];
	size_t id_len = sizeof(id);
	time_t now = time(NULL);
	int r = gnutls_x509_crt_init(ret);

	if (r == 0)
		r = gnutls_rnd(GNUTLS_RND_RANDOM, serial, sizeof(serial));
	serial[0] = (uint8_t)((serial[0] & 0x7f) | 1); /* positive, and of this length */
	if (r == 0)
		r = gnutls_x509_crt_set_version(*ret, 3);
	if (r == 0)
		r = gnutls_x509_crt_set_serial(*ret, serial, sizeof(serial));
	if (r == 0)
		r = gnutls_x509_crt_set_activation_time(*ret, now - DAY_S); /* clocks differ */
	if (r == 0)
		r = gnutls_x509_crt_set_expiration_time(*ret, now + (time_t)days * DAY_S);
	if (r == 0)
		r = gnutls_x509_crt_set_key(*ret, key);
	if (r == 0)
		r = gnutls_x509_crt_set_dn_by_oid(*ret, GNUTLS_OID_X520_COMMON_NAME, 0, name,
						  (unsigned)MIN(strlen(name), (size_t)64));
	if (r == 0)
		r = gnutls_x509_crt_get_key_id(*ret, 0, id, &id_len);
	if (r == 0)
		r = gnutls_x509_crt_set_subject_key_id(*ret, id, id_len);
	return r;
}

static int permit(gnutls_x509_name_constraints_t to, unsigned kind, const void *p, size_t len)
{
	gnutls_datum_t what = { .data = (unsigned char *)(uintptr_t)p, .size = (unsigned)len };

	return gnutls_x509_name_constraints_add_permitted(to, kind, &what);
}

/* Whoever gets hold of its key can pretend to be these, and nobody else. */
static int constrain(gnutls_x509_crt_t ca, const char *domain)
{
	static const uint8_t v4[8] = { 127, 0, 0, 1, 255, 255, 255, 255 };
	uint8_t v6[32];
	gnutls_x509_name_constraints_t to = NULL;
	int r = gnutls_x509_name_constraints_init(&to);

	memset(v6, 0, 15);
	v6[15] = 1;
	memset(v6 + 16, 255, 16);
	if (r == 0)
		r = permit(to, GNUTLS_SAN_DNSNAME, domain, strlen(domain));
	if (r == 0 && !str_eq(domain, "localhost"))
		r = permit(to, GNUTLS_SAN_DNSNAME, "localhost", 9);
	if (r == 0)
		r = permit(to, GNUTLS_SAN_IPADDRESS, v4, sizeof(v4));
	if (r == 0)
		r = permit(to, GNUTLS_SAN_IPADDRESS, v6, sizeof(v6));
	if (r == 0)
		r = gnutls_x509_crt_set_name_constraints(ca, to, 1);
	if (to)
		gnutls_x509_name_constraints_deinit(to);
	return r;
}

static int add_name(gnutls_x509_crt_t crt, const char *name)
{
	return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
						    GNUTLS_FSAN_APPEND);
}

static int add_names(gnutls_x509_crt_t crt, const char *domain)
{
	static const uint8_t v4[4] = { 127, 0, 0, 1 }, v6[16] = { [15] = 1 };
	AUTO(str_free) char *below = str_printf("*.%s", domain);
	int r = add_name(crt, domain);

	if (r == 0)
		r = add_name(crt, below);
	if (r == 0 && !str_eq(domain, "localhost"))
		r = add_name(crt, "localhost");
	if (r == 0)
		r = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v4, sizeof(v4), GNUTLS_FSAN_APPEND);
	if (r == 0)
		r = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v6, sizeof(v6), GNUTLS_FSAN_APPEND);
	return r;
}

/* --- both --------------------------------------------------------------------------------------------------------- */

static int make_authority(const char *dir, const char *domain, const char *name, gnutls_x509_crt_t *crt,
			  gnutls_x509_privkey_t *key, struct err *e)
{
	int r = new_key(key);

	if (r == 0)
		r = begin(crt, *key, name, AUTHORITY_DAYS);
	if (r == 0)
		r = gnutls_x509_crt_set_basic_constraints(*crt, 1, 0);
	if (r == 0)
		r = gnutls_x509_crt_set_key_usage(*crt, GNUTLS_KEY_KEY_CERT_SIGN);
	if (r == 0)
		r = constrain(*crt, domain);
	if (r == 0)
		r = gnutls_x509_crt_sign2(*crt, *crt, *key, GNUTLS_DIG_SHA256, 0);
	if (r < 0)
		return failed(r, e);
	r = save_key(dir, "ca-key.pem", *key, e); /* first: a certificate without its key would be in the way */
	return r < 0 ? r : save_crt(dir, "ca.pem", *crt, e);
}

/* Return: 1 it is there, 0 not yet. */
static int read_authority(const char *dir, const char *name, gnutls_x509_crt_t *crt, gnutls_x509_privkey_t *key,
			  struct err *e)
{
	AUTO(buf_fini) struct buf a, b;
	gnutls_datum_t cert_pem, key_pem;
	char is[128] = "";
	size_t len = sizeof(is);
	int r;

	buf_init(&a, PEM_MAX);
	buf_init(&b, PEM_MAX);
	r = read_pem(dir, "ca.pem", &a, &cert_pem, e);
	if (r <= 0)
		return r;
	r = read_pem(dir, "ca-key.pem", &b, &key_pem, e);
	if (r == 0) /* kept elsewhere: another authority in its place would be trusted by nobody */
		return err_set(e, -ENOKEY, "no-key", "%s has ca.pem but not ca-key.pem, which signs certificates", dir);
	if (r < 0)
		return r;
	r = gnutls_x509_crt_init(crt);
	if (r == 0)
		r = gnutls_x509_crt_import(*crt, &cert_pem, GNUTLS_X509_FMT_PEM);
	if (r == 0)
		r = gnutls_x509_privkey_init(key);
	if (r == 0)
		r = gnutls_x509_privkey_import2(*key, &key_pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	gnutls_memset(key_pem.data, 0, key_pem.size);
	if (r == 0)
		r = gnutls_x509_crt_get_dn_by_oid(*crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, is, &len);
	if (r < 0)
		return failed(r, e);
	if (!str_eq(is, name))
		return err_set(e, -EEXIST, "other-domain",
			       "the authority in %s is \"%s\"; another domain needs another directory", dir, is);
	return 1;
}

int tls_make(const char *dir, const char *domain, struct err *e)
{
	AUTO(crt_free) gnutls_x509_crt_t ca = NULL, crt = NULL;
	AUTO(key_free) gnutls_x509_privkey_t ca_key = NULL, key = NULL;
	char name[128];
	uint8_t id[64];
	size_t id_len = sizeof(id);
	int r;

	if (!is_domain(domain))
		return err_set(e, -EINVAL, "bad-domain",
			       "\"%.80s\": a domain in small letters, digits, - and dots is wanted", domain);
	snprintf(name, sizeof(name), "berth for %.48s", domain);
	r = io_mkdir_p(dir, 0755);
	if (r < 0)
		return err_sys(e, r, "%s", dir);
	r = read_authority(dir, name, &ca, &ca_key, e);
	if (r == 0)
		r = make_authority(dir, domain, name, &ca, &ca_key, e);
	if (r < 0)
		return r;
	r = new_key(&key);
	if (r == 0)
		r = begin(&crt, key, domain, CERTIFICATE_DAYS);
	if (r == 0)
		r = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
	if (r == 0)
		r = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
	if (r == 0)
		r = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
	if (r == 0)
		r = add_names(crt, domain);
	if (r == 0)
		r = gnutls_x509_crt_get_subject_key_id(ca, id, &id_len, NULL);
	if (r == 0)
		r = gnutls_x509_crt_set_authority_key_id(crt, id, id_len);
	if (r == 0)
		r = gnutls_x509_crt_sign2(crt, ca, ca_key, GNUTLS_DIG_SHA256, 0);
	if (r < 0)
		return failed(r, e);
	r = save_key(dir, "key.pem", key, e);
	return r < 0 ? r : save_crt(dir, "cert.pem", crt, e);
}
