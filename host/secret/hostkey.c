/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's own key. It is read once, by root, before the daemon becomes somebody else. */
#include "host/secret/secret.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int make(const char *path, uid_t uid, gid_t gid, struct seal_key **ret, struct err *e)
{
	AUTO(seal_key_free) struct seal_key *k = NULL;
	AUTO(secret_free) struct secret *text = NULL;
	int r = seal_key_new(&k);

	if (r == 0)
		r = seal_key_text(k, NULL, false, &text);
	if (r == 0) {
		r = io_write_file(AT_FDCWD, path, secret_use(text), secret_len(text), 0600);
		secret_rest(text);
	}
	if (r == 0 && lchown(path, uid, gid) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(e, r, "the daemon's key %s", path);
	*ret = take(&k);
	return 0;
}

int secrets_key(const char *dir, uid_t uid, gid_t gid, struct seal_key **ret, struct err *e)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	AUTO(str_free) char *path = str_printf("%s/host.key", dir);
	int r;

	if (credentials) {
		AUTO(str_free) char *given = str_printf("%s/berth.key", credentials);

		if (access(given, R_OK) == 0)
			return seal_key_load(given, NULL, ret, e);
	}
	r = io_mkdir_p(dir, 0700);
	if (r < 0 || chown(dir, uid, gid) < 0 || chmod(dir, 0700) < 0)
		return err_sys(e, r < 0 ? r : -errno, "%s", dir);
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return make(path, uid, gid, ret, e);
	return seal_key_load(path, NULL, ret, e);
}
