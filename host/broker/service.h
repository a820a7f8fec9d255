/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_SERVICE_H
#define HOST_BROKER_SERVICE_H

/*
 * Policies of services, files NAME.json in one of two directories; docs/broker.md, "Services". One is read whole and
 * checked whole, or it is broken: then nothing goes through it.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

enum {
	SERVICE_NAME_MAX = 64, SERVICE_FILE_MAX = 64 * 1024, SERVICE_ROUTES_MAX = 16, SERVICE_LIST_MAX = 64,
	SERVICE_TEXT_MAX = 512, SERVICES_MAX = 256
};

/* A few texts. */
struct service_list {
	size_t n;
	char *v[SERVICE_LIST_MAX];
};

enum service_put { PUT_NONE, PUT_BEARER, PUT_BASIC, PUT_HEADER, PUT_QUERY };

struct service_route {
	char *prefix;	  /* of the path behind the service, "/" or "/git/" */
	char *host; /* "api.github.com", with ":PORT" where it is not 443; NULL: the path's first segment says it */
	char *base;	  /* path upstream that stands for the prefix, "/" or "/v1/" */
	struct service_list methods, paths;
	enum service_put put;
	char *put_name;	  /* of the header or parameter, the user of basic */
	char *put_prefix; /* before the value in a header, "token "; NULL: nothing */
	bool slashes;	  /* "%2F" may be in a segment */
	bool ranges;	  /* the header Range may be asked */
	struct service_list redirects; /* hosts that a redirect may lead to */
};

struct service {
	unsigned refs; /* requests under way keep it when a file changes */
	char name[SERVICE_NAME_MAX + 1];
	struct service_list secrets; /* names; "*": any that no other service names */
	size_t n_routes;
	struct service_route routes[SERVICE_ROUTES_MAX]; /* the longest prefixes first */
	bool private_;	  /* addresses of the inside may be connected to */
	bool leads;	  /* rules of sandboxes may go to its hosts as it does */
	struct buf ca;	  /* certificates of a private authority, PEM; empty: those of the host */
	uint64_t per_minute, body_max, answer_max; /* 0: any number */
	struct service_list vars; /* "NAME=VALUE" */
	char *git_from, *git_prefix, *npmrc, *pip;
	struct service_list rewrite; /* "FROM=TO" in bodies that are text; FROM begins with https:// */
};

/** service_parse() - Return: 0; -EINVAL, slug "bad-service", which says what and where. The authority's file, when one
 * is named, is not read: *@ret_ca is its path, or NULL. */
int service_parse(const char *name, struct span text, struct service **ret, char **ret_ca, struct err *e) MUST_CHECK;
/** service_rules() - the one that stands for rules of sandboxes: any host, path and method. */
struct service *service_rules(void);
struct service *service_ref(const struct service *s);
void service_unref(struct service **slot);

/** service_path_clean() - bring the path of a target into one form, so that upstream and we see the same: what needs no
 * percent is decoded, digits are upper case, empty and dotted segments refused, and whatever a second decoding could
 * turn into a border or a dot. "%2F" is left where @slashes. Return: on the heap; NULL: refused. */
char *service_path_clean(struct span raw, bool slashes);

/* All that there are. One thread. */
struct services;

/** services_new() - @dirs is "A:B", in the later ones are the operator's, which win. */
struct services *services_new(const char *dirs);
void services_free(struct services **slot);
/** services_look() - read anew what has changed; cheap, at most once a second. */
void services_look(struct services *s);
/** services_find() - borrowed until the next services_look(); NULL: none. *@ret_broken: there is one that cannot be
 * read. */
const struct service *services_find(struct services *s, const char *name, bool *ret_broken);
/** services_at() - in the order of names; NULL: that one is broken, or behind the end. */
const struct service *services_at(struct services *s, size_t i, bool *ret_end);
/** services_leading() - one of an operator's that says how rules of sandboxes reach @host; NULL: none does. Borrowed as
 * above. */
const struct service *services_leading(struct services *s, const char *host);
/** services_claim() - does any service name this secret itself, not by "*"? */
bool services_claim(struct services *s, const char *secret);

#endif
