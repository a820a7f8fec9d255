/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_VOLUME_H
#define HOST_API_E2B_VOLUME_H

/* Volumes: workspaces that several sandboxes have at once (docs/decisions/011-volumes.md). volumes.c knows them,
 * content.c reads and writes their files for clients. */
#include "host/api/e2b/e2b.h"

enum { VOLUME_ID = 20, VOLUME_NAME_MAX = 64, VOLUME_TOKEN = 40, VOLUMES_MAX = 50 /* of one key */ };

#define VOLUME_SANDBOX "e2b-volume-" /* what names of their sandboxes begin with */

/* Guarded by e2b.volumes.lock. */
struct volume {
	char id[VOLUME_ID + 1], owner[20], name[VOLUME_NAME_MAX + 1], token[VOLUME_TOKEN + 1];
	char box[PRIV_ID_MAX + 1]; /* the sandbox whose workspace it is */
	bool is_busy; /* somebody starts it */
};

/** volumes_begin() - read what is known; those that do not run are started in the background. Return: 0 or -errno. */
int volumes_begin(struct e2b *e2b, struct err *e) MUST_CHECK;
void volumes_fini(struct e2b *e2b);
/** volumes_mount() - what a sandbox asks for: into @what, whose array is @room; started when they do not run. A line of
 * JSON of them is appended to @to. Return: 0; slugs bad-request, no-such-volume; -errno. */
int volumes_mount(struct e2b *e2b, const char *owner, const struct json *mounts, struct hub_create *what,
		  struct priv_volume room[PRIV_VOLUMES_MAX], struct buf *to, struct err *e) MUST_CHECK;

#endif
