/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_BIND_H
#define HOST_BROKER_BIND_H

/* Which service, which route of it and which one secret a request is for; and whether all of them allow it. */
#include "host/broker/hold.h"
#include "host/broker/say.h"
#include "host/broker/service.h"

struct bound {
	struct service *service;	   /* referenced */
	const struct service_route *route; /* of it */
	struct held *held;		   /* referenced */
	char *host;			   /* upstream, with its port where it is not 443 */
	char *path;			   /* in the one form, from the root of the host */
	/* What both allow; the texts are borrowed of one of them. */
	const char *put_name, *put_prefix; /* of the header that the value goes into; NULL: it goes into none */
	uint64_t body_max, answer_max;	   /* 0: any number */
};

#define BOUND_NULL ((struct bound){ .service = NULL })
void bound_fini(struct bound *b);

/** bind_request() - @path is the raw one, from the first slash to '?'. Return: 0; -EACCES, and the slug is the rule:
 * "no-such-service", "service-broken", "no-secret", "ambiguous-secret", "path-form", "no-route", "method", "path",
 * "host", "header", or what a sealed file's policy says. What is known by then is in @ret all the same, a secret too
 * that would be the one if its file allowed it. */
int bind_request(struct hold *h, struct services *all, const struct say_who *who, const char *method, struct span path,
		 struct bound *ret, struct err *e) MUST_CHECK;

/** bind_list() - what a sandbox may use, as a JSON array. */
void bind_list(struct hold *h, struct services *all, const struct say_who *who, struct buf *to);

/** bind_place() - where an upstream's URL is for this sandbox: "http://berth.internal/SERVICE/…". NULL: it is none of
 * this service. On the heap. */
char *bind_place(const struct service *s, struct span url);

#endif
