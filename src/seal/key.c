/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seed is all that is kept. Both pairs are derived from it under words of their own, so that no key is used for two
 * things, and a file of one line is the whole key. Every text carries four bytes of a digest, so that a mistyped one is
 * told from a wrong one.
 */
#include "seal/key.h"

#include "base/io.h"
#include "base/str.h"
#include "seal/digest.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <time.h>

enum { SEED = 32, CHECK = 4, SALT = crypto_pwhash_argon2id_SALTBYTES };
enum { OPS_MAX = 16, MEM_KIB_MAX = 2 * 1024 * 1024 }; /* what a file may make us spend */
#define PUB_WORD "berth-pub-1:"
#define KEY_WORD "berth-key-1:"
#define PASS_WORD "berth-key-pass-1:"

struct seal_key {
	struct secret *seed;
	struct seal_pub pub;
};

/* What is behind PASS_WORD; numbers are little-endian. The first two fields and the salt are authenticated with it. */
struct wrapped {
	uint8_t ops[4], mem_kib[4], salt[SALT];
	uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
	uint8_t box[SEED + crypto_aead_xchacha20poly1305_ietf_ABYTES];
};
enum { WRAPPED_AD = 8 + SALT };

static void put_le32(uint8_t *p, uint32_t v)
{
	int i;

	for (i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void derive(const uint8_t *seed, const char *word, uint8_t ret[32])
{
	uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = { 0 };
	int r;

	assert(strlen(word) <= sizeof(personal));
	memcpy(personal, word, strlen(word));
	r = crypto_generichash_blake2b_salt_personal(ret, 32, NULL, 0, seed, SEED, NULL, personal);
	assert(r == 0);
	(void)r;
}

int seal_key_of(struct secret *seed, struct seal_key **ret)
{
	AUTO(seal_key_free) struct seal_key *k = NULL;
	uint8_t part[32], whole[64];

	if (secret_len(seed) != SEED)
		return -EINVAL;
	k = NEW(struct seal_key);
	k->seed = secret_of(SPAN(secret_use(seed), SEED));
	secret_rest(seed);
	if (!k->seed)
		return -ENOMEM;
	derive(secret_use(k->seed), "berth-key-box", part);
	crypto_box_seed_keypair(k->pub.box, whole, part);
	derive(secret_use(k->seed), "berth-key-sign", part);
	crypto_sign_seed_keypair(k->pub.sign, whole, part);
	secret_rest(k->seed);
	secret_rest(k->seed);
	wipe(part, sizeof(part));
	wipe(whole, sizeof(whole));
	*ret = take(&k);
	return 0;
}

int seal_key_new(struct seal_key **ret)
{
	AUTO(secret_free) struct secret *seed = secret_new(SEED);

	if (!seed)
		return -ENOMEM;
	randombytes_buf(secret_use(seed), SEED);
	secret_rest(seed);
	return seal_key_of(seed, ret);
}

void seal_key_free(struct seal_key **slot)
{
	struct seal_key *k = *slot;

	if (!k)
		return;
	*slot = NULL;
	secret_free(&k->seed);
	free(k);
}

const struct seal_pub *seal_key_pub(const struct seal_key *k)
{
	return &k->pub;
}

struct secret *seal_key_seed(struct seal_key *k)
{
	return k->seed;
}

void seal_key_sign_pair(struct seal_key *k, uint8_t ret[64])
{
	uint8_t part[32], pub[32];

	derive(secret_use(k->seed), "berth-key-sign", part);
	secret_rest(k->seed);
	crypto_sign_seed_keypair(pub, ret, part);
	wipe(part, sizeof(part));
}

int seal_key_unwrap(struct seal_key *k, const uint8_t *box, size_t len, uint8_t *ret)
{
	uint8_t part[32], priv[32], pub[32];
	int r;

	derive(secret_use(k->seed), "berth-key-box", part);
	secret_rest(k->seed);
	crypto_box_seed_keypair(pub, priv, part);
	r = crypto_box_seal_open(ret, box, len, pub, priv);
	wipe(part, sizeof(part));
	wipe(priv, sizeof(priv));
	return r == 0 ? 0 : -EBADMSG;
}

static struct digest digest_pub(const struct seal_pub *p)
{
	uint8_t both[64];

	memcpy(both, p->box, 32);
	memcpy(both + 32, p->sign, 32);
	return digest_of("berth-key-id", SPAN(both, sizeof(both)));
}

struct seal_id seal_pub_id(const struct seal_pub *p)
{
	struct digest d = digest_pub(p);
	struct seal_id id;

	memcpy(id.b, d.b, sizeof(id.b));
	return id;
}

void seal_id_text(const struct seal_id *id, char ret[SEAL_ID_TEXT])
{
	str_hex(id->b, SEAL_ID_LEN, ret);
}

void seal_pub_text(const struct seal_pub *p, struct buf *to)
{
	struct digest d = digest_pub(p);
	uint8_t all[64 + CHECK];

	memcpy(all, p->box, 32);
	memcpy(all + 32, p->sign, 32);
	memcpy(all + 64, d.b + SEAL_ID_LEN, CHECK);
	buf_append(to, PUB_WORD, strlen(PUB_WORD));
	base64_put(to, SPAN(all, sizeof(all)), false);
}

/* Exactly @len bytes in base64 without padding. */
static bool base64_exact(struct span text, uint8_t *ret, size_t len)
{
	size_t n = 0;

	return base64_plain(text) && sodium_base642bin(ret, len, text.p, text.len, NULL, &n, NULL,
				 sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0 &&
	       n == len;
}

static bool cut_word(struct span *s, const char *word)
{
	size_t len = strlen(word);

	if (s->len < len || memcmp(s->p, word, len) != 0)
		return false;
	*s = SPAN((const char *)s->p + len, s->len - len);
	return true;
}

int seal_pub_parse(struct span text, struct seal_pub *ret, struct err *e)
{
	uint8_t all[64 + CHECK];
	struct seal_pub p;
	struct digest d;

	if (!cut_word(&text, PUB_WORD))
		return err_set(e, -EINVAL, "bad-key", "no public key: it begins with \"" PUB_WORD "\"");
	if (!base64_exact(text, all, sizeof(all)))
		return err_set(e, -EINVAL, "bad-key", "the public key is not whole");
	memcpy(p.box, all, 32);
	memcpy(p.sign, all + 32, 32);
	d = digest_pub(&p);
	if (memcmp(d.b + SEAL_ID_LEN, all + 64, CHECK) != 0)
		return err_set(e, -EINVAL, "bad-key", "the public key has a typing error");
	*ret = p;
	return 0;
}

/* The next line of @text without what is white around it; false at the end. */
static bool next_line(struct span *text, struct span *ret)
{
	const char *p = text->p, *end;
	size_t len;

	if (!text->len)
		return false;
	end = memchr(p, '\n', text->len);
	len = end ? (size_t)(end - p) : text->len;
	*text = SPAN(p + len + (end ? 1 : 0), text->len - len - (end ? 1 : 0));
	while (len && (*p == ' ' || *p == '\t')) {
		p++;
		len--;
	}
	while (len && (p[len - 1] == ' ' || p[len - 1] == '\t' || p[len - 1] == '\r'))
		len--;
	*ret = SPAN(p, len);
	return true;
}

int seal_pub_list(struct span text, struct seal_pub *ret, size_t max, struct err *e)
{
	struct span line;
	size_t n = 0;
	int number = 0, r;

	while (next_line(&text, &line)) {
		number++;
		if (!line.len || *(const char *)line.p == '#')
			continue;
		if (n == max)
			return err_set(e, -E2BIG, "too-many-keys", "more than %zu recipients", max);
		r = seal_pub_parse(line, &ret[n], e);
		if (r < 0)
			return err_wrap(e, "line %d", number);
		n++;
	}
	return (int)n;
}

static int stretch(struct secret *pass, const struct wrapped *w, uint8_t ret[32])
{
	int r = crypto_pwhash(ret, 32, (const char *)secret_use(pass), secret_len(pass), w->salt, get_le32(w->ops),
			      (size_t)get_le32(w->mem_kib) * 1024, crypto_pwhash_ALG_ARGON2ID13);

	secret_rest(pass);
	return r == 0 ? 0 : -ENOMEM;
}

static int wrap(struct seal_key *k, struct secret *pass, bool quick, struct wrapped *w)
{
	uint8_t key[32];
	int r;

	put_le32(w->ops, quick ? 1 : crypto_pwhash_OPSLIMIT_MODERATE);
	put_le32(w->mem_kib, (uint32_t)((quick ? 8192 * 1024 : crypto_pwhash_MEMLIMIT_MODERATE) / 1024));
	randombytes_buf(w->salt, sizeof(w->salt));
	randombytes_buf(w->nonce, sizeof(w->nonce));
	r = stretch(pass, w, key);
	if (r < 0)
		return r;
	crypto_aead_xchacha20poly1305_ietf_encrypt(w->box, NULL, secret_use(k->seed), SEED, w->ops, WRAPPED_AD, NULL,
						   w->nonce, key);
	secret_rest(k->seed);
	wipe(key, sizeof(key));
	return 0;
}

int seal_key_text(struct seal_key *k, struct secret *pass, bool quick, struct secret **ret)
{
	AUTO(secret_free) struct secret *s = secret_new(1024);
	AUTO(buf_fini) struct buf pub;
	char id[SEAL_ID_TEXT];
	struct seal_id the_id = seal_pub_id(&k->pub);
	struct wrapped w;
	char *p;
	int n, r;

	buf_init(&pub, 256);
	if (!s)
		return -ENOMEM;
	seal_pub_text(&k->pub, &pub);
	seal_id_text(&the_id, id);
	if (pass) {
		r = wrap(k, pass, quick, &w);
		if (r < 0)
			return r;
	}
	p = (char *)secret_use(s);
	n = snprintf(p, 1024, "# berth key %s: whoever has this file%s opens what is sealed to it\n# %s\n%s", id,
		     pass ? " and its passphrase" : "", buf_str(&pub), pass ? PASS_WORD : KEY_WORD);
	if (pass) {
		sodium_bin2base64(p + n, 1024 - (size_t)n, (uint8_t *)&w, sizeof(w),
				  sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
	} else {
		uint8_t all[SEED + CHECK];
		struct digest d = digest_of("berth-key-check", SPAN(secret_use(k->seed), SEED));

		memcpy(all, secret_use(k->seed), SEED);
		memcpy(all + SEED, d.b, CHECK);
		secret_rest(k->seed);
		secret_rest(k->seed);
		sodium_bin2base64(p + n, 1024 - (size_t)n, all, sizeof(all), sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
		wipe(all, sizeof(all));
	}
	n = (int)strlen(p);
	p[n++] = '\n';
	secret_rest(s);
	secret_cut(s, (size_t)n);
	*ret = take(&s);
	return 0;
}

static int parse_plain(struct span line, struct secret **ret, struct err *e)
{
	AUTO(secret_free) struct secret *seed = secret_new(SEED + CHECK);
	struct digest d;
	uint8_t *p;
	bool ok;

	if (!seed)
		return -ENOMEM;
	p = secret_use(seed);
	ok = base64_exact(line, p, SEED + CHECK);
	d = digest_of("berth-key-check", SPAN(p, SEED));
	ok = ok && memcmp(d.b, p + SEED, CHECK) == 0;
	secret_rest(seed);
	if (!ok)
		return err_set(e, -EINVAL, "bad-key", "the key is not whole or has a typing error");
	secret_cut(seed, SEED);
	*ret = take(&seed);
	return 0;
}

static int parse_wrapped(struct span line, struct secret *pass, struct secret **ret, struct err *e)
{
	AUTO(secret_free) struct secret *seed = secret_new(SEED);
	struct wrapped w;
	uint8_t key[32];
	int r;

	if (!seed)
		return -ENOMEM;
	if (!base64_exact(line, (uint8_t *)&w, sizeof(w)) || get_le32(w.ops) < 1 || get_le32(w.ops) > OPS_MAX ||
	    get_le32(w.mem_kib) < 8 || get_le32(w.mem_kib) > MEM_KIB_MAX)
		return err_set(e, -EINVAL, "bad-key", "the key is not whole");
	if (!pass)
		return err_set(e, -ENOKEY, "passphrase-needed", "the key is under a passphrase");
	r = stretch(pass, &w, key);
	if (r < 0)
		return err_set(e, r, "enomem", "%u MiB of memory are needed for the passphrase",
			       get_le32(w.mem_kib) / 1024);
	r = crypto_aead_xchacha20poly1305_ietf_decrypt(secret_use(seed), NULL, NULL, w.box, sizeof(w.box), w.ops,
						       WRAPPED_AD, w.nonce, key);
	secret_rest(seed);
	wipe(key, sizeof(key));
	if (r != 0)
		return err_set(e, -ENOKEY, "passphrase-wrong", "the passphrase is wrong, or the key file is damaged");
	*ret = take(&seed);
	return 0;
}

int seal_key_parse(struct secret *text, struct secret *pass, struct seal_key **ret, struct err *e)
{
	AUTO(secret_free) struct secret *seed = NULL;
	struct span all = SPAN(secret_use(text), secret_len(text)), line, found = SPAN_NULL;
	bool twice = false;
	int r;

	while (next_line(&all, &line)) {
		if (!line.len || *(const char *)line.p == '#')
			continue;
		twice = twice || found.len;
		found = line;
	}
	if (twice)
		r = err_set(e, -EINVAL, "bad-key", "a key file has one key");
	else if (cut_word(&found, KEY_WORD))
		r = parse_plain(found, &seed, e);
	else if (cut_word(&found, PASS_WORD))
		r = parse_wrapped(found, pass, &seed, e);
	else if (found.len > 10 && memcmp(found.p, "berth-key-", 10) == 0)
		r = err_set(e, -EPROTO, "key-kind", "a key of a kind that is not known here");
	else if (found.len > 10 && memcmp(found.p, "berth-pub-", 10) == 0)
		r = err_set(e, -EINVAL, "bad-key", "this is a public key: what opens is the other half");
	else
		r = err_set(e, -EINVAL, "bad-key", "no key file");
	secret_rest(text);
	return r < 0 ? r : seal_key_of(seed, ret);
}

int seal_key_load(const char *path, struct secret *pass, struct seal_key **ret, struct err *e)
{
	AUTO(secret_free) struct secret *text = NULL;
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		return err_set(e, -EPERM, "key-open", "%s may be read by others (mode %03o): chmod 600", path,
			       st.st_mode & 0777);
	r = secret_read(fd, SEAL_KEY_FILE_MAX, &text);
	if (r < 0)
		return err_sys(e, r, "%s", path);
	r = seal_key_parse(text, pass, ret, e);
	if (r < 0)
		err_wrap(e, "%s", path);
	return r;
}
