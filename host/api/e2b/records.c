/* SPDX-License-Identifier: Apache-2.0 */
#include "host/api/e2b/records.h"

#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "json/json.h"

#include <dirent.h>
#include <errno.h>

static int read_one(int dir, const char *name, size_t max_b, struct json **ret)
{
	AUTO(buf_fini) struct buf b;
	int r;

	buf_init(&b, max_b);
	r = io_read_file(dir, name, &b);
	return r < 0 ? r : json_parse(buf_span(&b), ret, NULL);
}

int records_each(const char *path, const char *what, size_t max_b, bool (*fn)(void *ctx, const struct json *j),
		 void *ctx, bool *ret_all, struct err *e)
{
	int r = io_mkdir_p(path, 0700);
	DIR *d = r < 0 ? NULL : opendir(path);
	struct dirent *de;
	bool all = true;

	if (!d)
		return err_sys(e, r < 0 ? r : -errno, "%s", path);
	while ((de = readdir(d))) {
		AUTO(json_free) struct json *j = NULL;

		if (!str_ends(de->d_name, ".json"))
			continue;
		if (read_one(dirfd(d), de->d_name, max_b, &j) == 0 && fn(ctx, j))
			continue;
		log_warn("e2b", "what is known of something cannot be read", "what=%s file=%s", what, de->d_name);
		all = false;
	}
	closedir(d);
	if (ret_all)
		*ret_all = all;
	return 0;
}
