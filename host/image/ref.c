/* SPDX-License-Identifier: Apache-2.0 */
/* The first part is a registry when it has a dot or a port, or is "localhost"; else docker.io's is meant, whose
 * own images are below "library". A digest counts more than a tag beside it. */
#include "host/image/ref.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

enum { HTTPS = 443, TEXT_MAX = 480 };

#define SMALL "abcdefghijklmnopqrstuvwxyz"
#define LARGE "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static int bad(const char *text, struct err *e)
{
	return err_set(e, -EINVAL, "bad-image-name", "'%.80s' is no name of an image", text);
}

static bool is_of(const char *s, size_t max, const char *letters)
{
	size_t n = strlen(s);

	return n && n <= max && strspn(s, letters) == n;
}

/* Parts are separated by single slashes; each begins and ends with a letter or digit. */
static bool path_is_right(const char *p)
{
	size_t n;

	if (!is_of(p, REF_PATH_MAX, SMALL DIGITS "._-/"))
		return false;
	for (;; p += n + 1) {
		n = strcspn(p, "/");
		if (!n || !isalnum((unsigned char)p[0]) || !isalnum((unsigned char)p[n - 1]))
			return false;
		if (!p[n])
			return true;
	}
}

static bool host_is_right(const char *name)
{
	const char *p = name;
	size_t n;

	if (!is_of(name, REF_HOST_MAX, SMALL DIGITS ".-"))
		return false;
	for (;; p += n + 1) {
		n = strcspn(p, ".");
		if (!n || p[0] == '-' || p[n - 1] == '-')
			return false;
		if (!p[n])
			return true;
	}
}

static int read_host(char *host, struct image_ref *ret)
{
	char *colon = strchr(host, ':'), name[REF_HOST_MAX + 1], *p;
	uint64_t port = HTTPS;

	for (p = host; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (colon && (num_u64(colon + 1, UINT16_MAX, &port) < 0 || !port))
		return -EINVAL;
	if (str_copy(ret->host, sizeof(ret->host), host) < 0)
		return -EINVAL;
	ret->port = (uint16_t)port;
	ref_name(ret, name);
	if (!host_is_right(name))
		return -EINVAL;
	ret->is_here = str_eq(name, "localhost") || (str_starts(name, "127.") && is_of(name, 15, DIGITS "."));
	return 0;
}

static bool is_host(const char *text, size_t len)
{
	return memchr(text, '.', len) || memchr(text, ':', len) || (len == 9 && memcmp(text, "localhost", 9) == 0);
}

int ref_read(const char *text, struct image_ref *ret, struct err *e)
{
	AUTO(str_free) char *all = must_strdup(text);
	char *rest = all, *slash = strchr(all, '/'), *at, *tag;
	const char *library = "";
	char docker[] = "docker.io";

	*ret = (struct image_ref){ .port = HTTPS };
	if (strlen(text) > TEXT_MAX)
		return bad(text, e);
	if (slash && is_host(all, (size_t)(slash - all))) {
		*slash = '\0';
		rest = slash + 1;
		if (read_host(all, ret) < 0)
			return bad(text, e);
	} else if (read_host(docker, ret) < 0) {
		return bad(text, e);
	}
	if (str_eq(ret->host, "index.docker.io"))
		snprintf(ret->host, sizeof(ret->host), "docker.io");
	at = strchr(rest, '@');
	if (at) {
		*at++ = '\0';
		if (!str_starts(at, "sha256:") || strlen(at + 7) != REF_DIGEST ||
		    !is_of(at + 7, REF_DIGEST, DIGITS "abcdef"))
			return bad(text, e);
		snprintf(ret->digest, sizeof(ret->digest), "%s", at + 7);
	}
	tag = strchr(rest, ':');
	if (tag)
		*tag++ = '\0';
	if (tag && (!is_of(tag, REF_TAG_MAX, SMALL LARGE DIGITS "._-") || strchr(".-", tag[0])))
		return bad(text, e);
	if (!at)
		snprintf(ret->tag, sizeof(ret->tag), "%s", tag ? tag : "latest");
	if (str_eq(ret->host, "docker.io") && !strchr(rest, '/'))
		library = "library/";
	if (!path_is_right(rest) || strlen(library) + strlen(rest) > REF_PATH_MAX || strstr(rest, ".."))
		return bad(text, e);
	memcpy(ret->path, library, strlen(library));
	memcpy(ret->path + strlen(library), rest, strlen(rest) + 1);
	return 0;
}

void ref_name(const struct image_ref *ref, char to[REF_HOST_MAX + 1])
{
	snprintf(to, REF_HOST_MAX + 1, "%.*s", (int)strcspn(ref->host, ":"), ref->host);
}

enum ref_allowed ref_allowed(const struct image_ref *ref, const char *list)
{
	enum ref_allowed found = REF_NOT;
	size_t n;

	for (; *list; list += n) {
		list += strspn(list, ", \t");
		n = strcspn(list, ", \t");
		if (n == 1 && *list == '*' && !ref->is_here)
			found = REF_BY_STAR;
		if (n && n == strlen(ref->host) && strncasecmp(list, ref->host, n) == 0)
			return REF_BY_NAME;
	}
	return found;
}
