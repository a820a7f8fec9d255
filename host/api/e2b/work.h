/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_WORK_H
#define HOST_API_E2B_WORK_H

/* A build under way: build.c decides what is to be done, work.c does it. One thread's. */
#include "host/api/e2b/template.h"

struct work {
	struct e2b *e2b;
	struct template *t; /* a reference */
	struct build *build;
	char owner[20];
	char *text;
	struct json *request;
	const struct json *steps;
	size_t n;
	char (*chain)[2 * DIGEST_LEN + 1]; /* n + 1 names: of the base, and behind each step */
	char base[PRIV_ID_MAX + 1]; /* a template of the hub */
	struct step_state state;
	char *start, *ready;
	char sandbox[PRIV_ID_MAX + 1]; /* in which steps run; "": none now */
	size_t kept; /* until which step the last layer goes that was kept */
	bool worked; /* something was done that was not in the cache */
	uint64_t until;
	char step[16], prefix[48];
	char image[PRIV_ID_MAX + 1]; /* the template of an image that it stands on; "" */
};

bool work_is_stopped(struct work *w);
/* A line for whoever follows the build. */
void work_say(struct work *w, bool is_error, const char *fmt, ...) PRINTF(3, 4);
/* In the sandbox. */
int work_step(struct work *w, const struct json *step, struct err *e) MUST_CHECK;
/* The root of the sandbox becomes the template build.disk. */
int work_pack(struct work *w, struct err *e) MUST_CHECK;
/* Fetch an image; base is the template that it became, and stays one until image_done(). */
int work_image(struct work *w, const char *image, struct err *e) MUST_CHECK;
void image_done(struct work *w);

struct unpack;
/* An archive in pieces becomes the template @name. Of the last the result is that of all: @r is how it went until then.
 */
int unpack_begin(struct work *w, const char *name, struct unpack **ret, struct err *e) MUST_CHECK;
int unpack_put(void *ctx, const void *p, size_t len) MUST_CHECK;
int unpack_end(struct unpack **u, int r, struct err *e) MUST_CHECK;

#endif
