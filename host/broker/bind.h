/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_BIND_H
#define HOST_BROKER_BIND_H

/* Which service, which route of it and which one secret a request is for; and whether all of them allow it. */
#include "host/broker/hold.h"
#include "host/broker/rules.h"
#include "host/broker/say.h"
#include "host/broker/service.h"

struct bound {
	struct service *service;	   /* referenced */
	const struct service_route *route; /* of it */
	struct held *held;		   /* referenced; by a rule there may be none, and more */
	struct held *more[RULE_SECRETS_MAX - 1];
	size_t n_held;
	struct rules *rules;	 /* referenced; NULL: it is no request by a rule */
	struct services *services; /* with them */
	const struct rule *rule; /* of them */
	struct service *reach;	 /* referenced: who says how the host is reached */
	struct mask *joined;	 /* of several values */
	struct mask *mask;	 /* of all values, borrowed; NULL: there are none */
	char *host;			   /* upstream, with its port where it is not 443 */
	char *path;			   /* in the one form, from the root of the host */
	/* What both allow; the texts are borrowed of one of them. */
	const char *put_name, *put_prefix; /* of the header that the value goes into; NULL: it goes into none */
	uint64_t body_max, answer_max;	   /* 0: any number */
};

#define BOUND_NULL ((struct bound){ .service = NULL })
void bound_fini(struct bound *b);
/** bind_hold() - one more secret that it is made with. bind_held() - the @i-th of them. */
void bind_hold(struct bound *b, struct held *x);
struct held *bind_held(const struct bound *b, size_t i);
/** bind_values() - see that their values are open, and that all of them are masked. Return: as hold_value(). */
int bind_values(struct hold *h, struct bound *b, struct err *e) MUST_CHECK;

struct ruled;

/** bind_request() - @path is the raw one, from the first slash to '?'. Return: 0; -EACCES, and the slug is the rule:
 * "no-such-service", "service-broken", "no-secret", "ambiguous-secret", "path-form", "no-route", "method", "path",
 * "host", "header", "no-rule", "network", or what a sealed file's policy says. What is known by then is in @ret all the
 * same, a secret too that would be the one if its file allowed it. */
int bind_request(struct hold *h, struct services *all, const struct ruled *ruled, const struct say_who *who,
		 const char *method, struct span path, struct bound *ret, struct err *e) MUST_CHECK;

/** bind_for() - the secret that a sandbox would use this service with by any route; NULL: none. */
struct held *bind_for(struct hold *h, struct services *all, const struct say_who *who, const struct service *s);
/** offer_list() - what a sandbox may use, as a JSON array; offer.c. */
void offer_list(struct hold *h, struct services *all, const struct ruled *ruled, const struct say_who *who,
		struct buf *to);

/** bind_place() - where an upstream's URL is for this sandbox: "http://berth.internal/SERVICE/…". NULL: it is none of
 * this service, or of its rules. On the heap. */
char *bind_place(const struct bound *b, struct span url);

#endif
