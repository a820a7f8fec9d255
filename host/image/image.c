/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a name to an archive. The manifest's digest says which image it is, whatever the tool does afterwards: the
 * configuration must have the digest that the manifest says, and each layer, unpacked, the one that the configuration
 * says. All of it is seen before a byte of the archive is believed: who unpacks it is told at the end whether it holds.
 */
#include "host/image/image.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/image/tool.h"
#include "json/json.h"
#include "seal/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MANIFEST_MAX = 4 * 1024 * 1024,
	CONFIG_MAX = 8 * 1024 * 1024,
	AUTH_MAX = 48 * 1024,
	PIECE = 256 * 1024,
	ASK_MS = 300
};

static bool has_tool(void)
{
	return access("/usr/bin/skopeo", X_OK) == 0 || access("/usr/local/bin/skopeo", X_OK) == 0 ||
	       access("/bin/skopeo", X_OK) == 0;
}

int image_may(const struct image_conf *conf, const struct image_ref *ref, struct err *e)
{
	if (!conf->priv)
		return err_set(e, -ENOENT, "no-image-tool", "berth fetches no images here ([images] tool = off)");
	if (ref_allowed(ref, conf->allow) == REF_NOT)
		return err_set(e, -ENOENT, "no-image",
			       "images are not fetched from %.80s: the operator has not named it ([images] allow)",
			       ref->host);
	if (!has_tool())
		return err_set(e, -ENOENT, "no-image-tool", "the image tool is not installed here: apt install skopeo");
	return 0;
}

int image_auth(const struct image_ref *ref, const char *user, const char *password, struct buf *to, struct err *e)
{
	struct json_writer w = { .b = to };
	struct buf pair, text;

	if (!user[0] || !password[0] || strchr(user, ':') || strlen(user) + strlen(password) > AUTH_MAX / 2)
		return err_set(e, -EINVAL, "bad-request", "credentials of a registry are a user name and a password");
	buf_init(&pair, AUTH_MAX);
	buf_init(&text, AUTH_MAX);
	pair.wipes = text.wipes = to->wipes = true;
	buf_append(&pair, user, strlen(user));
	buf_append(&pair, ":", 1);
	buf_append(&pair, password, strlen(password));
	base64_put(&text, buf_span(&pair), true);
	jw_open(&w, '{');
	jw_key(&w, "auths");
	jw_open(&w, '{');
	jw_key(&w, ref->host);
	jw_open(&w, '{');
	jw_key(&w, "auth");
	jw_str(&w, buf_span(&text));
	jw_close(&w, '}');
	jw_close(&w, '}');
	jw_close(&w, '}');
	buf_fini(&pair);
	buf_fini(&text);
	return to->failed ? err_set(e, -E2BIG, "bad-request", "credentials of a registry are too long") : 0;
}

static int ask(const struct image_job *job, const char *digest, struct image *ret, bool *ret_other, struct err *e)
{
	AUTO(buf_fini) struct buf text;
	int r;

	buf_init(&text, MANIFEST_MAX);
	r = tool_manifest(job, digest, &text, e);
	if (r == 0)
		r = manifest_read(buf_span(&text), job->conf->size_max_b, ret, ret_other, e);
	if (r == 0 && digest[0] && !str_eq(ret->digest, digest))
		r = err_set(e, -EBADMSG, "bad-image", "the registry sent another manifest than it was asked for");
	return r;
}

int image_look(const struct image_job *job, struct image *ret, struct err *e)
{
	struct image one = { .n_layers = 0 }, of = { .n_layers = 0 };
	bool several, more;
	int r = ask(job, job->ref->digest, &one, &several, e);

	if (r == 0 && several) {
		r = ask(job, one.fetched, &of, &more, e);
		if (r == 0 && more)
			r = err_set(e, -EBADMSG, "bad-image", "the registry sent a list of images in a list");
		memcpy(one.config, of.config, sizeof(one.config));
		one.n_layers = of.n_layers;
	}
	if (r == 0)
		*ret = one;
	return r;
}

/* --- its parts ---------------------------------------------------------------------------------------------------- */

struct parts {
	const struct image_job *job;
	const struct image_config *config;
	int dir, fd;
	size_t i;
	struct sha256 sum;
	bool ended, checked[IMAGE_LAYERS_MAX];
	uint64_t ask_at; /* when somebody is asked next whether to go on */
};

/* What is read has no bound but its size, and much work may be asked for with few bytes: so it is asked often. */
static int go_on(void *ctx)
{
	struct parts *p = ctx;
	uint64_t now = clock_now();

	if (now > p->job->until)
		return -ETIMEDOUT;
	if (now < p->ask_at)
		return 0;
	p->ask_at = now + ASK_MS * CLOCK_MS;
	return p->job->go_on ? p->job->go_on(p->job->ctx) : 0;
}

static ssize_t read_part(void *ctx, void *to, size_t max)
{
	struct parts *p = ctx;
	ssize_t n = read(p->fd, to, max);
	int r;

	if (n < 0)
		return -errno;
	p->ended = n == 0;
	if (!p->checked[p->i])
		sha256_add(&p->sum, to, (size_t)n);
	r = go_on(p);
	return r < 0 ? r : n;
}

/* To the end of the layer that is open: what is behind the archive's end counts, too. */
static int check_part(struct parts *p, struct err *e)
{
	AUTO(mem_free) char *piece = NULL;
	uint8_t hash[32];
	char text[IMAGE_DIGEST + 1];
	ssize_t n;

	if (p->fd < 0 || p->checked[p->i])
		return 0;
	piece = must_calloc(1, PIECE);
	while (!p->ended)
		if ((n = read_part(p, piece, PIECE)) < 0)
			return err_sys(e, (int)n, "reading a layer");
	sha256_end(&p->sum, hash);
	str_hex(hash, sizeof(hash), text);
	if (!str_eq(text, p->config->layers.v[p->i]))
		return err_set(e, -EBADMSG, "bad-image", "layer %zu of the image has another digest than it should",
			       p->i + 1);
	p->checked[p->i] = true;
	return 0;
}

/* A layer that comes twice is one file, and has its digest already. */
static bool is_checked(const struct parts *p, size_t i)
{
	size_t k;

	for (k = 0; k < p->config->layers.len; k++)
		if (p->checked[k] && str_eq(p->config->layers.v[k], p->config->layers.v[i]))
			return true;
	return false;
}

static int open_part(void *ctx, size_t i, struct err *e)
{
	struct parts *p = ctx;
	struct stat st;
	int r = check_part(p, e);

	if (r < 0)
		return r;
	fd_close(&p->fd);
	p->fd = openat(p->dir, p->config->layers.v[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (p->fd < 0 || fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "bad-image", "layer %zu of the image is not what its configuration says",
			       i + 1);
	p->i = i;
	p->checked[i] = is_checked(p, i);
	p->ended = false;
	sha256_begin(&p->sum);
	return 0;
}

static int read_config(int dir, const struct image *image, struct image_config *ret, struct err *e)
{
	AUTO(buf_fini) struct buf text;
	AUTO(fd_close) int fd = openat(dir, image->config, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	uint8_t hash[32];
	char hex[IMAGE_DIGEST + 1];
	void *to;
	int r;

	buf_init(&text, CONFIG_MAX);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX - 1)
		return err_set(e, -EBADMSG, "bad-image", "the image has no configuration, or a huge one");
	to = buf_reserve(&text, (size_t)st.st_size);
	if (!to || io_read_full(fd, to, (size_t)st.st_size) < 0)
		return err_sys(e, -EIO, "reading the image's configuration");
	buf_commit(&text, (size_t)st.st_size);
	sha256_of(buf_span(&text), hash);
	str_hex(hash, sizeof(hash), hex);
	if (!str_eq(hex, image->config))
		return err_set(e, -EBADMSG, "bad-image", "the image's configuration has another digest than it should");
	r = manifest_config(buf_span(&text), ret, e);
	if (r == 0 && ret->layers.len != image->n_layers)
		r = err_set(e, -EBADMSG, "bad-image", "the image's manifest and its configuration differ");
	return r;
}

int image_fetch(const struct image_job *job, const struct image *image, tar_put_fn *put, void *ctx,
		struct image_config *ret, uint64_t *ret_size_b, struct err *e)
{
	AUTO(fd_close) int dir = -1;
	struct parts p = { .job = job, .config = ret, .fd = -1 };
	struct flat_source from = {
		.open = open_part, .get = read_part, .go_on = go_on, .ctx = &p, .max_b = job->conf->size_max_b
	};
	int r = tool_image(job, image->fetched, &dir, e);

	*ret = (struct image_config){ .envs = { .v = NULL } };
	if (r == 0)
		r = read_config(dir, image, ret, e);
	p.dir = dir;
	from.n = ret->layers.len;
	if (r == 0 && (r = flat_put(&from, put, ctx, ret_size_b, e)) == -ETIMEDOUT)
		err_set(e, r, "image-large", "the time is over while its layers are read");
	fd_close(&p.fd);
	if (r < 0)
		image_config_fini(ret);
	return r;
}
