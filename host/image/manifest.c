/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests of OCI and of docker's second form, which have the same members: one is a list of manifests for machines,
 * the other names a configuration and layers by their digests. What is called by its digest is only believed when it
 * has that digest, so that a chain leads from the name to each byte: manifest, configuration, layers as the
 * configuration has them (unpacked).
 */
#include "host/image/image.h"

#include "base/str.h"
#include "json/json.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>
#include <sys/utsname.h>

enum { LISTED_MAX = 1024, ENV_MAX_B = 64 * 1024 };

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "bad-image", "what the registry sent is no image: %s", what);
}

const char *manifest_machine(void)
{
	static const char *const known[][2] = { { "x86_64", "amd64" }, { "aarch64", "arm64" }, { "armv7l", "arm" },
						{ "i686", "386" },     { "loongarch64", "loong64" } };
	static const char *const same[] = { "ppc64le", "s390x", "riscv64" };
	struct utsname u;
	size_t i;

	if (uname(&u) < 0)
		return "unknown";
	for (i = 0; i < ARRAY_LEN(known); i++)
		if (str_eq(u.machine, known[i][0]))
			return known[i][1];
	for (i = 0; i < ARRAY_LEN(same); i++)
		if (str_eq(u.machine, same[i]))
			return same[i];
	return "unknown";
}

static int digest_at(const char *text, char to[IMAGE_DIGEST + 1])
{
	if (!text || !str_starts(text, "sha256:") || strlen(text + 7) != IMAGE_DIGEST ||
	    strspn(text + 7, "0123456789abcdef") != IMAGE_DIGEST)
		return -EBADMSG;
	memcpy(to, text + 7, IMAGE_DIGEST + 1);
	return 0;
}

/* The first that is for this machine; those that are for none (statements about others) say "unknown". */
static int choose(const struct json *list, struct image *ret, struct err *e)
{
	const char *machine = manifest_machine();
	size_t i;

	if (json_len(list) > LISTED_MAX)
		return bad(e, "its list of machines is too long");
	for (i = 0; i < json_len(list); i++) {
		const struct json *one = json_at(list, i), *platform = json_get(one, "platform");

		if (!str_eq(json_get_str(platform, "os", ""), "linux") ||
		    !str_eq(json_get_str(platform, "architecture", ""), machine))
			continue;
		return digest_at(json_get_str(one, "digest", NULL), ret->fetched) < 0 ? bad(e, "a digest") : 0;
	}
	return err_set(e, -ENOENT, "no-image", "the image is not there for linux/%s", machine);
}

static int read_one(const struct json *j, uint64_t size_max_b, struct image *ret, struct err *e)
{
	const struct json *layers = json_get(j, "layers");
	uint64_t sum = 0;
	size_t i;

	if (json_get_u64(j, "schemaVersion", 0) != 2)
		return bad(e, "manifests of version 2 are known here");
	if (digest_at(json_get_str(json_get(j, "config"), "digest", NULL), ret->config) < 0)
		return bad(e, "the digest of its configuration");
	ret->n_layers = json_len(layers);
	if (!ret->n_layers || ret->n_layers > IMAGE_LAYERS_MAX)
		return err_set(e, -EBADMSG, "bad-image", "an image has 1 to %d layers, this one has %zu",
			       IMAGE_LAYERS_MAX, ret->n_layers);
	for (i = 0; i < ret->n_layers; i++)
		if (num_add(sum, json_get_u64(json_at(layers, i), "size", 0), &sum) || sum > size_max_b)
			return err_set(e, -EFBIG, "image-large", "the image is larger than %llu MB",
				       (unsigned long long)(size_max_b >> 20));
	return 0;
}

int manifest_read(struct span text, uint64_t size_max_b, struct image *ret, bool *ret_other, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	uint8_t hash[32];

	if (json_parse(text, &j, e) < 0)
		return bad(e, "its manifest is no JSON");
	sha256_of(text, hash);
	str_hex(hash, sizeof(hash), ret->digest);
	memcpy(ret->fetched, ret->digest, sizeof(ret->fetched));
	*ret_other = json_get(j, "manifests") != NULL;
	return *ret_other ? choose(json_get(j, "manifests"), ret, e) : read_one(j, size_max_b, ret, e);
}

void image_config_fini(struct image_config *c)
{
	size_t i;

	for (i = 0; i < c->envs.len; i++)
		free(c->envs.v[i]);
	for (i = 0; i < c->layers.len; i++)
		free(c->layers.v[i]);
	vec_fini(&c->envs);
	vec_fini(&c->layers);
}

/* Which of them may be variables of a template is for whoever makes them so. */
static int read_envs(const struct json *list, struct image_config *ret, struct err *e)
{
	size_t i, sum = 0;

	for (i = 0; i < json_len(list); i++) {
		const char *pair = json_text(json_at(list, i));

		if (!pair || !strchr(pair, '='))
			continue;
		sum += strlen(pair);
		if (ret->envs.len >= IMAGE_ENVS_MAX || sum > ENV_MAX_B)
			return bad(e, "it has too many variables");
		vec_push(&ret->envs, must_strdup(pair));
	}
	return 0;
}

int manifest_config(struct span text, struct image_config *ret, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	const struct json *ids;
	char one[IMAGE_DIGEST + 1];
	size_t i;

	*ret = (struct image_config){ .envs = { .v = NULL } };
	if (json_parse(text, &j, e) < 0)
		return bad(e, "its configuration is no JSON");
	if (!str_eq(json_get_str(j, "os", "linux"), "linux") ||
	    !str_eq(json_get_str(j, "architecture", manifest_machine()), manifest_machine()))
		return err_set(e, -ENOENT, "no-image", "the image is for %.20s/%.20s, not for linux/%s",
			       json_get_str(j, "os", "?"), json_get_str(j, "architecture", "?"), manifest_machine());
	ids = json_get(json_get(j, "rootfs"), "diff_ids");
	if (!json_len(ids) || json_len(ids) > IMAGE_LAYERS_MAX)
		return bad(e, "its configuration names no layers");
	for (i = 0; i < json_len(ids); i++) {
		if (digest_at(json_text(json_at(ids, i)), one) < 0)
			return bad(e, "the digest of a layer");
		vec_push(&ret->layers, must_strdup(one));
	}
	return read_envs(json_get(json_get(j, "config"), "Env"), ret, e);
}
