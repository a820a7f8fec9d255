/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of registries as bases of builds (docs/images.md). One that was fetched is a template of the hub whose name is
 * a hash of its digest, and of the key's when it came with credentials, so that nobody but this key gets it. A record
 * beside says what it is; without one it counts as half and goes. Those that were used least recently go when all
 * together take too much room, but for those that a build names or works on, or a sandbox stands on.
 */
#include "host/api/e2b/work.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_MAX = 256 * 1024, WAIT_MS = 300, HEX = 32 };

_Static_assert((int)E2B_IMAGES_USED == (int)BUILDERS, "one for each thread that builds");

#define IMAGE_DISK BUILD_DISK "image-"

/* --- records ------------------------------------------------------------------------------------------------------ */

static char *record_path(const struct e2b *e2b, const char *name)
{
	return str_printf("%s/images/%s.json", e2b->build_dir, name);
}

static int record_read(const struct e2b *e2b, const char *name, struct json **ret)
{
	AUTO(str_free) char *path = record_path(e2b, name);
	AUTO(buf_fini) struct buf b;
	int r;

	buf_init(&b, RECORD_MAX);
	r = io_read_file(AT_FDCWD, path, &b);
	return r == 0 ? json_parse(buf_span(&b), ret, NULL) : r;
}

static int record_write(const struct e2b *e2b, const char *name, const struct image_ref *ref, const struct image *image,
			const struct image_config *config, uint64_t size_b, struct err *e)
{
	AUTO(str_free) char *dir = str_printf("%s/images", e2b->build_dir);
	AUTO(str_free) char *path = record_path(e2b, name);
	AUTO(buf_fini) struct buf b;
	struct json_writer w = { .b = &b };
	size_t i;
	int r;

	buf_init(&b, RECORD_MAX);
	jw_open(&w, '{');
	jw_kstr(&w, "host", ref->host);
	jw_kstr(&w, "path", ref->path);
	jw_kstr(&w, "digest", image->digest);
	jw_ku64(&w, "size", size_b);
	jw_key(&w, "envs");
	jw_open(&w, '{');
	for (i = 0; i < config->envs.len; i++) {
		const char *pair = config->envs.v[i], *eq = strchr(pair, '=');
		AUTO(str_free) char *key = span_dup(SPAN(pair, (size_t)(eq - pair)));

		if (step_env_ok(key))
			jw_kstr(&w, key, eq + 1);
	}
	jw_close(&w, '}');
	jw_close(&w, '}');
	r = b.failed ? -E2BIG : io_mkdir_p(dir, 0700);
	if (r == 0)
		r = io_write_file(AT_FDCWD, path, buf_span(&b).p, buf_len(&b), 0600);
	return r < 0 ? err_sys(e, r, "writing what is known of an image") : 0;
}

/* --- which are used ----------------------------------------------------------------------------------------------- */

/* The lock is held. */
static struct e2b_image_use *use_of(struct e2b *e2b, const char *name)
{
	size_t i;

	for (i = 0; i < E2B_IMAGES_USED; i++)
		if (str_eq(e2b->images.used[i].name, name))
			return &e2b->images.used[i];
	return NULL;
}

/* From now on it stays. Return: 1 when nobody else fetches it now: it is for this build to do, if it is not there. */
static int take_use(struct work *w, const char *name)
{
	struct e2b *e2b = w->e2b;
	struct e2b_image_use *u;
	int r = 1;

	lock_take(&e2b->images.lock);
	while ((u = use_of(e2b, name)) && u->fetches && r > 0) {
		(void)!lock_wait(&e2b->images.lock, &e2b->images.cond, clock_after_ms(WAIT_MS));
		r = work_is_stopped(w) ? -ECANCELED : 1;
	}
	if (r > 0 && (u = use_of(e2b, ""))) {
		snprintf(u->name, sizeof(u->name), "%s", name);
		u->who = w;
		u->fetches = true;
		snprintf(w->image, sizeof(w->image), "%s", name);
	}
	lock_drop(&e2b->images.lock);
	return r;
}

static void change_use(struct work *w, bool ends)
{
	struct e2b *e2b = w->e2b;
	size_t i;

	lock_take(&e2b->images.lock);
	for (i = 0; i < E2B_IMAGES_USED; i++) {
		struct e2b_image_use *u = &e2b->images.used[i];

		if (u->who == w && ends)
			*u = (struct e2b_image_use){ .who = NULL };
		else if (u->who == w)
			u->fetches = false;
	}
	pthread_cond_broadcast(&e2b->images.cond);
	lock_drop(&e2b->images.lock);
}

void image_done(struct work *w)
{
	if (!w->image[0])
		return;
	change_use(w, true);
	w->image[0] = '\0';
	images_tidy(w->e2b);
}

/* --- which go ----------------------------------------------------------------------------------------------------- */

struct kept {
	char name[PRIV_ID_MAX + 1];
	uint64_t size_b;
	int64_t used_ns;
};

struct tidying {
	struct e2b *e2b;
	VEC(struct kept) v;
	uint64_t sum_b;
};

static bool is_used(struct e2b *e2b, const char *name)
{
	bool yes;

	lock_take(&e2b->images.lock);
	yes = use_of(e2b, name);
	lock_drop(&e2b->images.lock);
	return yes || templates_names(e2b, name);
}

/* Return: whether it went. */
static bool drop_one(struct e2b *e2b, const char *name)
{
	AUTO(str_free) char *path = record_path(e2b, name);
	struct err e = ERR_NULL;
	int r = is_used(e2b, name) ? -EBUSY : hub_template_remove(e2b->hub, name, &e);

	if (r < 0 && r != -ENOENT) {
		if (r != -EBUSY)
			log_warn("e2b", "an image was not removed", "name=%s why=%s", name, e.text);
		return false;
	}
	(void)!unlink(path);
	return true;
}

static int note_one(void *ctx, const char *name)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = NULL;
	struct tidying *t = ctx;
	struct kept one = { .size_b = 0 };
	struct stat st;

	if (!str_starts(name, IMAGE_DISK))
		return 0;
	path = record_path(t->e2b, name);
	snprintf(one.name, sizeof(one.name), "%s", name);
	if (stat(path, &st) == 0 && record_read(t->e2b, name, &j) == 0) {
		one.size_b = json_get_u64(j, "size", 0);
		one.used_ns = clock_ns(st.st_mtim);
	} else {
		one.used_ns = -1; /* nobody knows what is in it */
	}
	t->sum_b += one.size_b;
	vec_push(&t->v, one);
	return 0;
}

static int by_use(const void *a, const void *b)
{
	int64_t x = ((const struct kept *)a)->used_ns, y = ((const struct kept *)b)->used_ns;

	return x < y ? -1 : x > y;
}

void images_tidy(struct e2b *e2b)
{
	struct tidying t = { .e2b = e2b };
	size_t i;

	(void)!hub_template_each(e2b->hub, note_one, &t);
	if (t.v.len)
		qsort(t.v.v, t.v.len, sizeof(*t.v.v), by_use);
	for (i = 0; i < t.v.len; i++)
		if ((t.v.v[i].used_ns < 0 || t.sum_b > e2b->images.room_b) && drop_one(e2b, t.v.v[i].name))
			t.sum_b -= t.v.v[i].size_b;
	vec_fini(&t.v);
}

/* --- fetching ----------------------------------------------------------------------------------------------------- */

static int go_on(void *ctx)
{
	struct work *w = ctx;
	struct hub_disk disk;

	hub_disk(w->e2b->hub, &disk);
	return work_is_stopped(w) ? -ECANCELED : disk.state != HUB_DISK_OK ? -ENOSPC : 0;
}

/* What their SDK sends beside the name: fromImage(…, {username, password}), fromGCPRegistry, fromAWSRegistry. */
static int read_auth(const struct json *j, const struct image_ref *ref, struct buf *to, struct err *e)
{
	const char *type = json_get_str(j, "type", "");

	if (json_is_empty(j))
		return 0;
	if (str_eq(type, "registry"))
		return image_auth(ref, json_get_str(j, "username", ""), json_get_str(j, "password", ""), to, e);
	if (str_eq(type, "gcp"))
		return image_auth(ref, "_json_key", json_get_str(j, "serviceAccountJson", ""), to, e);
	return err_set(e, -EOPNOTSUPP, "no-such-registry",
		       "credentials of type \"%.20s\" are not there yet (fromAWSRegistry): berth knows user names with "
		       "passwords, and service accounts of Google's",
		       type);
}

static int fetch(struct work *w, const struct image_job *job, const struct image *image, const char *name,
		 struct err *e)
{
	struct image_config config;
	struct unpack *u = NULL;
	struct err mine = ERR_NULL;
	uint64_t size_b = 0, began = clock_now();
	int r = unpack_begin(w, name, &u, e);

	if (r < 0)
		return r;
	r = image_fetch(job, image, unpack_put, u, &config, &size_b, &mine);
	if (r == -ENOSPC)
		err_set(&mine, r, "disk-low", "the host's disk is too full for it");
	else if (r < 0 && r != -EPIPE && !mine.code)
		err_sys(&mine, r, "fetching it");
	r = unpack_end(&u, r, &mine);
	if (r == 0)
		r = record_write(w->e2b, name, job->ref, image, &config, size_b, &mine);
	if (r == 0)
		log_info("e2b", "image fetched", "from=%s/%s digest=%.12s bytes=%llu ms=%llu", job->ref->host,
			 job->ref->path, image->digest, (unsigned long long)size_b,
			 (unsigned long long)((clock_now() - began) / CLOCK_MS));
	else
		(void)!hub_template_remove(w->e2b->hub, name, NULL);
	image_config_fini(&config);
	*e = mine;
	return r;
}

static void name_of(const struct work *w, const struct image *image, bool secret, char name[PRIV_ID_MAX + 1])
{
	AUTO(str_free) char *text = str_printf("%s %s", secret ? w->owner : "", image->digest);
	struct digest d = digest_of("e2b-image", span_str(text));
	char hex[2 * DIGEST_LEN + 1];

	str_hex(d.b, sizeof(d.b), hex);
	snprintf(name, PRIV_ID_MAX + 1, IMAGE_DISK "%s%.*s", secret ? "own-" : "", HEX, hex);
}

/* It is there, and was used now. */
static int use(struct work *w, const char *name)
{
	AUTO(str_free) char *path = record_path(w->e2b, name);
	AUTO(json_free) struct json *j = NULL;

	if (!hub_template_mark(w->e2b->hub, name) || record_read(w->e2b, name, &j) < 0)
		return -ENOENT;
	(void)!utimensat(AT_FDCWD, path, NULL, 0);
	step_state_read(&w->state, j);
	snprintf(w->base, sizeof(w->base), "%s", name);
	return 0;
}

static int look_and_fetch(struct work *w, const struct image_job *job, struct err *e)
{
	struct image image;
	char name[PRIV_ID_MAX + 1];
	int r = image_look(job, &image, e);

	if (r < 0)
		return r;
	name_of(w, &image, job->auth.len, name);
	r = take_use(w, name);
	if (r < 0)
		return r;
	r = use(w, name);
	work_say(w, false, "%s[base] sha256:%.12s", r == 0 ? "CACHED " : "", image.digest);
	if (r < 0) {
		(void)!hub_template_remove(w->e2b->hub, name, NULL); /* of one that was cut off */
		r = fetch(w, job, &image, name, e);
		if (r == 0)
			r = use(w, name);
	}
	change_use(w, false);
	return r;
}

int work_image(struct work *w, const char *text, struct err *e)
{
	const struct image_conf *conf = &w->e2b->images.conf;
	struct image_ref ref;
	struct image_job job = { .conf = conf, .ref = &ref, .go_on = go_on, .ctx = w,
				 .until = MIN(w->until, clock_after_ms(conf->time_ms)) };
	struct buf auth;
	int r = ref_read(text, &ref, e);

	buf_init(&auth, PRIV_AUTH_MAX - 1);
	auth.wipes = true;
	if (r == 0)
		r = image_may(conf, &ref, e);
	if (r == 0)
		r = read_auth(json_get(w->request, "fromImageRegistry"), &ref, &auth, e);
	job.auth = buf_span(&auth);
	snprintf(w->prefix, sizeof(w->prefix), "[base]");
	if (r == 0)
		r = look_and_fetch(w, &job, e);
	buf_fini(&auth);
	if (r < 0 && !e->code)
		err_sys(e, r, "fetching it");
	return r < 0 && r != -ECANCELED ? err_wrap(e, "image '%.80s'", text) : r;
}
