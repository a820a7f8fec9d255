/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_BACKUP_H
#define HOST_STORE_BACKUP_H

/*
 * A store that is in use as one tar archive, and a store from such an archive. Environments are cut into pieces, since
 * their length is not known when the first byte of them is sent: ws/ID/00000000, …, then content/00000000, …. Between
 * these two come layers: layer/NAME/size, then what is not zero of each, with the number of its first cell: layer.h.
 * The last member, "manifest", has a line for each: digest, length, name.
 */
#include "host/store/layer.h"

enum { BACKUP_PIECE = 4 * 1024 * 1024, BACKUP_BLOCK = 512 };

/** backup_fn - takes bytes of the archive. Return: 0, or -errno to give up. */
typedef int backup_fn(void *ctx, const void *p, size_t len);

/** store_backup() - write the archive; others go on reading and writing meanwhile. Every workspace is as it was at one
 * moment after the call, each at its own; one that was made after the call may be missing. @layers: those go into it
 * that are there (NULL: none). Blocks for as long as it takes. Return: 0; -errno, of @fn too: what was written is of no
 * use. */
int store_backup(struct store *store, const struct store_layers *layers, backup_fn *fn, void *ctx,
		 struct err *e) MUST_CHECK;
/** store_restore() - make a store in the directory @dir, which must be missing or empty, from an archive; its layers
 * become files in @layers, which is made when there are some. Everything is checked against the manifest before 0 is
 * returned; after a failure the directories hold what came so far. Return: 0; -EEXIST; -EBADMSG slug "bad-backup";
 * -errno. */
int store_restore(int fd, const char *dir, const char *layers, struct err *e) MUST_CHECK;

#endif
