/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_WEAK_H
#define HOST_BROKER_WEAK_H

/*
 * Fences that a build for tests takes down one at a time, so that a test of what is kept out can be seen to fail. In
 * the product weak-none.c is linked, where none is down and nothing can change that.
 */
#include <stdbool.h>

enum broker_weak {
	BROKER_WEAK_MASK,     /* "mask": a value that comes back is not masked */
	BROKER_WEAK_HOSTS,    /* "hosts": the sealed file's hosts are not asked */
	BROKER_WEAK_SCOPE,    /* "scope": nor its templates and sandboxes */
	BROKER_WEAK_EXPIRED,  /* "expired": nor its end */
	BROKER_WEAK_BINDING,  /* "binding": any secret is any service's */
	BROKER_WEAK_METHOD,   /* "method": any method */
	BROKER_WEAK_PATH,     /* "path": any path, in any form */
	BROKER_WEAK_PARSE,    /* "parse": a body may have several framings */
	BROKER_WEAK_FIELDS,   /* "fields": headers that carry credentials or lead elsewhere go on */
	BROKER_WEAK_REDIRECT, /* "redirect": an answer may lead anywhere */
	BROKER_WEAK_PRIVATE,  /* "private": addresses of the inside are connected to */
	BROKER_WEAK_HTTP2,    /* "http2": it is spoken with services, whatever libcurl makes of it */
};

bool broker_weak(enum broker_weak what);

#endif
