/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SEER_H
#define GUEST_SEER_H

/* A directory that is watched for somebody outside, by inotify; the workspace's own watcher is another thing. */
#include "loop/loop.h"

#include <stdbool.h>

struct seer;

enum { SEEN_CREATE = 1, SEEN_WRITE = 2, SEEN_REMOVE = 3, SEEN_RENAME = 4, SEEN_CHMOD = 5 };
typedef void seer_fn(void *ctx, unsigned kind, const char *name);

/** seer_new() - @deep: all below it, too, what is made later included; up to 10,000 directories, others are left out.
 * @fn: @name is below @path; it must not free the seer. Return: 0; -errno. */
int seer_new(struct loop *loop, const char *path, bool deep, seer_fn *fn, void *ctx, struct seer **ret) MUST_CHECK;
void seer_free(struct seer **s);

#endif
