/* SPDX-License-Identifier: Apache-2.0 */
/* stub */
#include "host/priv/template.h"

#include "base/io.h"
#include "base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

bool template_packages_ok(const char *packages)
{
	return packages[0] != 0;
}
int template_build(struct host *h UNUSED, const struct priv_template_spec *spec UNUSED, int tar_fd UNUSED, int log_fd UNUSED, int *ret_pidfd UNUSED,
		   struct err *e)
{
	return err_sys(e, -ENOSYS, "stub");
}
int template_remove(struct host *h UNUSED, const char *name UNUSED, struct err *e)
{
	return err_sys(e, -ENOSYS, "stub");
}
void template_sweep(struct host *h UNUSED)
{
}

int template_open(const struct host *h, const char *name, int *ret_fd, uint64_t *ret_ino, struct err *e)
{
	AUTO(fd_close) int dir = openat(h->templates, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int fd;

	if (dir < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no-such-template", "there is no template %s", name) :
					 err_sys(e, -errno, "template %s", name);
	fd = openat(dir, "root", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(dir, &st) < 0)
		return err_sys(e, -errno, "template %s", name);
	*ret_ino = st.st_ino;
	*ret_fd = fd;
	return 0;
}
