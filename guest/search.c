/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Directory entries carry the inode number, so a search reads names only and stats nothing: about a microsecond
 * an entry. It is one walk for all numbers that are wanted. A number may belong to another file by now: then that file
 * is told once more, which does no harm.
 */
#include "guest/search.h"

#include "base/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

enum { WANTED_MAX = 4096 };

void search_fini(struct search *s)
{
	map_fini(&s->wanted);
}

void search_add(struct search *s, uint64_t ino)
{
	if (ino && s->wanted.len < WANTED_MAX)
		map_put_u64(&s->wanted, ino, s);
}

bool search_due(const struct search *s)
{
	return s->wanted.len != 0;
}

static void search_dir(struct search *s, struct dirs *dirs, uint64_t fid, links_fn *each, void *ctx)
{
	int at = dirs_open(dirs, fid);
	int fd = at < 0 ? -1 : node_open(at, "", O_RDONLY | O_DIRECTORY, 0, false);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		fd_close(&fd);
		return;
	}
	while ((d = readdir(dir)))
		if (map_get_u64(&s->wanted, d->d_ino) && strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			each(ctx, fid, span_str(d->d_name));
	closedir(dir);
}

void search_run(struct search *s, struct dirs *dirs, links_fn *each, void *ctx)
{
	struct map_slot *slot;
	size_t pos = 0;

	if (!search_due(s))
		return;
	while ((slot = map_next(&dirs->by_fid, &pos)))
		search_dir(s, dirs, ((struct dir *)slot->value)->fid, each, ctx);
	map_fini(&s->wanted);
}
