/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_VOLUME_H
#define HOST_API_E2B_VOLUME_H

/* Volumes: workspaces that several sandboxes have at once (docs/decisions/011-volumes.md). volumes.c knows them,
 * content.c reads and writes their files for clients. */
#include "host/api/e2b/e2b.h"

enum { VOLUME_ID = 20, VOLUME_NAME_MAX = 64, VOLUME_TOKEN = 40, VOLUMES_MAX = 50 /* of one key */ };

/* Guarded by e2b.volumes.lock. */
struct volume {
	char id[VOLUME_ID + 1], owner[20], name[VOLUME_NAME_MAX + 1], token[VOLUME_TOKEN + 1];
	char box[PRIV_ID_MAX + 1]; /* the sandbox whose workspace it is */
	bool is_busy;	 /* somebody starts or removes it */
	unsigned mounts; /* that are under way, of sandboxes not made yet */
};

/* What one sandbox that is being made has of them. */
struct volume_mounts {
	struct priv_volume room[PRIV_VOLUMES_MAX];
	char ids[PRIV_VOLUMES_MAX][VOLUME_ID + 1];
	unsigned n; /* of ids: nobody removes these until volumes_let_go() */
};

/** volumes_begin() - read what is known; those that do not run are started in the background, and sandboxes of volumes
 * that are none any more are ended there. Return: 0 or -errno. */
int volumes_begin(struct e2b *e2b, struct err *e) MUST_CHECK;
void volumes_fini(struct e2b *e2b);
/** volumes_mount() - what a sandbox asks for: into @what, which borrows from @room; started when they do not run. A
 * line of JSON of them is appended to @to. volumes_let_go(), also after a failure. Return: 0; slugs bad-request,
 * no-such-volume, volume-used; -errno. */
int volumes_mount(struct e2b *e2b, const char *owner, const struct json *mounts, struct hub_create *what,
		  struct volume_mounts *room, struct buf *to, struct err *e) MUST_CHECK;
/** volumes_let_go() - the sandbox is there, or will not be. Once more does nothing. */
void volumes_let_go(struct e2b *e2b, struct volume_mounts *room);

#endif
