/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_CLIENT_H
#define HOST_BROKER_CLIENT_H

/*
 * The daemon's end of the broker: the process that alone holds the key that opens sealed files, the values, and the
 * connections to services that are used with them. docs/broker.md. Any thread that may block on another process, which
 * answers in well under a second or is dead; no locks held. Whatever fails because it is dead is -EPIPE, slug
 * "broker-gone": it is there again a moment later.
 */
#include "seal/sealed.h"

struct broker;

/* What was done with a secret: for the audit. Texts are clean and never NULL. */
struct broker_use {
	const char *secret, *service, *sandbox, *key, *method, *host, *path, *rule;
	const char *exec, *command; /* of broker_who */
	bool first, refused; /* neither: @count requests are over */
	uint32_t status, count;
	uint64_t up_b, down_b;
};

struct broker_conf {
	void *ctx; /* of both */
	/* Start it, with descriptors as in priv_broker_start(). */
	int (*start)(void *ctx, const int fds[3], struct err *e);
	/* Another one has been started: tell it all that it is to keep, with broker_keep(). */
	void (*again)(void *ctx);
	/* Keep this; what could not be kept is not used. May block on the disk. */
	int (*audit)(void *ctx, const struct broker_use *u);
};

/** broker_new() - start it, and the thread that listens to it and starts it again. Return: 0; what start says. */
int broker_new(const struct broker_conf *conf, struct broker **ret, struct err *e) MUST_CHECK;
/** broker_ready() - from now on conf.again and conf.audit may be called. */
void broker_ready(struct broker *b);
/** broker_quiet() - from now on they are not. */
void broker_quiet(struct broker *b);
void broker_free(struct broker **slot);

/** broker_pub() - its public key. */
struct seal_pub broker_pub(const struct broker *b);
/** broker_open() - open a sealed file that is no longer than SECRETS_SEALED_MAX; @ret NULL: only say whether it opens.
 * Return: as sealed_open() and sealed_value(); -EPIPE. */
int broker_open(struct broker *b, struct span sealed, struct secret **ret, struct err *e) MUST_CHECK;
/** broker_keep() - one for the broker, in the place of what has that name; empty: none. Never waits for another one to
 * be started. */
int broker_keep(struct broker *b, const char *name, struct span sealed, struct err *e) MUST_CHECK;

/** broker_rules() - the rules of a sandbox (rules.h), in the place of those that it had; empty: it has none. Told anew
 * to a broker that is started again. For one sandbox by one at a time. Return: 0; -EINVAL "bad-rules"; -EUSERS; -ENOSYS
 * "no-broker". */
int broker_rules(struct broker *b, const char *sandbox, struct span text, struct err *e) MUST_CHECK;

/* For whom. All that counts is the daemon's own knowledge, nothing comes from the sandbox. Borrowed for the call. */
struct broker_who {
	const char *sandbox, *template_;
	const char *secrets; /* names of all that the sandbox was given, "A,B"; those for the broker count */
	const char *key;     /* of the API, that made it; NULL: the socket */
	const char
		*exec; /* of a connection: id of the command that made it, and its first word; NULL, "": not known. */
	const char *command; /* These two the sandbox said, they are for the audit alone */
};

struct broker_var {
	char *name, *value;
};

/* One service that a sandbox may use, and what its commands are told of it. Any text but the first two may be NULL. */
struct broker_service {
	char *name;   /* http://berth.internal/NAME/ */
	char *secret; /* what it is used with */
	struct broker_var *vars;
	size_t n_vars;
	char *git_from, *git_to; /* url.GIT_TO.insteadOf = GIT_FROM: both end in '/' */
	char *npmrc;		 /* lines for an npmrc */
	char *pip;		 /* lines for a pip.conf, its section included */
};

struct broker_services {
	struct broker_service *v;
	size_t n;
};

/** broker_services() - what a sandbox may use: those of its secrets that are for the broker, may be had by it now, and
 * are what exactly one secret of it fits. With who.sandbox NULL: for whoever, templates and sandboxes are not asked.
 * None is no failure. @b NULL: -ENOSYS, as below. Return: 0; -EPIPE; -ENOSYS, slug "no-broker". */
int broker_services(struct broker *b, const struct broker_who *who, struct broker_services *ret,
		    struct err *e) MUST_CHECK;
void broker_services_fini(struct broker_services *s);

/** broker_take() - hand a connection of this sandbox over: a stream socket on which HTTP/1.1 is spoken until one side
 * ends it. @fd is taken over whatever is returned. Return: 0; -EPIPE; -EUSERS "too-many-connections", of this sandbox
 * or of all; -ENOSYS "no-broker". When it fails nothing was written to @fd. */
int broker_take(struct broker *b, const struct broker_who *who, int fd, struct err *e) MUST_CHECK;

#endif
