/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_FILL_H
#define HOST_WS_FILL_H

/* Workspaces that begin with the files of a tree (docs/snapshots.md, "Materialising"). */
#include "host/ws/ws.h"

/* How far it is; holes count as bytes, and a file with several names once for each in what is to come. */
struct ws_filled {
	uint64_t files, files_all, bytes, bytes_all;
	uint64_t left_out; /* files whose content is elsewhere (docs/keep.md) */
};

struct ws_fill {
	struct store *store;
	const struct digest *root;
	int fd; /* a connection of kind WIRE_FILL, hello done, borrowed */
	uint64_t patience_ms; /* 0: a minute */
	/* Into a workspace that is in use, over what is there; else the rest is not looked at. */
	bool over;
	bool keep; /* with @over: whatever is there stays as it is; owners are the tree's */
	const char *below; /* where the top of the tree goes; its directory is there */
	bool keep_top;	   /* the attributes of that one stay */
	const bool *stop;  /* atomic: breaks off, NULL: nobody does */
	void (*progress)(void *ctx, const struct ws_filled *now); /* called often, from here; may be NULL */
	void *ctx;
};

/** ws_fill() - lay the files of a tree into a workspace that nobody uses yet (or @over), through its agent. Blocking:
 * each piece must be taken within the patience, and all of it at 500 files or 4 MiB a second beyond that. With @over
 * what the agent has told of it is committed and shown at the return. Return: 0; the agent's (slug "no-space", …);
 * -ETIMEDOUT slug "fill-slow"; -EIO: the tree is damaged; -ECANCELED; -errno. */
int ws_fill(const struct ws_fill *what, struct err *e) MUST_CHECK;
/** ws_expect() - the first scan is going to tell these files: what has the name, size and time of one has its content.
 * Before ws_start(). Return: 0; -EIO. */
int ws_expect(struct ws *ws, const struct digest *root) MUST_CHECK;

#endif
