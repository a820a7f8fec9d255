/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_FILL_H
#define HOST_WS_FILL_H

/* Workspaces that begin with the files of a tree (docs/snapshots.md, "Materialising"). */
#include "host/ws/ws.h"

/** ws_fill() - lay the files of a tree into a workspace that nobody uses yet, through its agent: @fd is a connection of
 * kind WIRE_FILL, hello done, borrowed. Blocking, up to a minute without any progress. @progress may be NULL.
 * Return: 0; the agent's (slug "no-space", …); -EIO: the tree is damaged; -errno. */
int ws_fill(struct store *store, const struct digest *root, int fd, void (*progress)(void *ctx, uint64_t entries),
	    void *ctx, struct err *e) MUST_CHECK;
/** ws_expect() - the first scan is going to tell these files: what has the name, size and time of one has its content.
 * Before ws_start(). Return: 0; -EIO. */
int ws_expect(struct ws *ws, const struct digest *root) MUST_CHECK;

#endif
