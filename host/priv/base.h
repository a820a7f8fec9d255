/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_BASE_H
#define HOST_PRIV_BASE_H

/* Disks with which others begin: STATE/bases/NAME (docs/base.md, docs/templates.md). Nobody stands on one: a sandbox
 * has a copy, which shares blocks where the host's file system can. So any of them may be removed at any time. */
#include "host/priv/host.h"

/** base_init() - those of another boot of this machine go: nobody promised that they reached the disk. */
int base_init(const struct host *h, struct err *e) MUST_CHECK;
/** base_keep() - see priv_base_keep(); both words were checked, as in the following. */
int base_keep(struct host *h, const char *id, const char *name, enum priv_disk disk, struct err *e) MUST_CHECK;
/** base_lay() - begin copying base @name for sandbox @id in a child, which says the end on @log_fd. */
int base_lay(struct host *h, const char *name, const char *id, enum priv_disk disk, int log_fd,
	     struct err *e) MUST_CHECK;
/** base_take() - the copy that was made for @id becomes its disk in @dirfd. Return: 0; -ENOENT slug "no-base"; -errno.
 */
int base_take(const struct host *h, const char *id, enum priv_disk disk, int dirfd, struct err *e) MUST_CHECK;
/** base_forget() - what was copied for @id and not taken. */
void base_forget(const struct host *h, const char *id);
int base_drop(struct host *h, const char *name, struct err *e) MUST_CHECK;
/** base_layer_keep() - see priv_layer_keep(); begun in a child, which says the end on @log_fd. layer_lay() likewise.
 * Layers are in STATE/layers and stay until they are dropped. */
int base_layer_keep(struct host *h, const char *id, const char *name, int log_fd, struct err *e) MUST_CHECK;
int base_layer_lay(struct host *h, const char *name, const char *id, int log_fd, struct err *e) MUST_CHECK;
int base_layer_drop(struct host *h, const char *name, struct err *e) MUST_CHECK;
/** base_layer_open() - see priv_layer_open(). */
int base_layer_open(const struct host *h, const char *name, int *ret_fd, struct err *e) MUST_CHECK;
/** base_sweep() - copies that nobody took. */
void base_sweep(const struct host *h);

#endif
