/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: made and removed by the privileged process; one that a running sandbox stands on stays. */
#include "host/sandbox/state.h"

#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

int hub_template_build(struct hub *hub, const struct priv_template_spec *spec, int tar_fd, int log_fd, int *ret_pidfd,
		       struct err *e)
{
	if (!str_is_id(spec->name, PRIV_ID_MAX))
		return err_set(e, -EINVAL, "bad-name", "names are 1 to 64 of a-z, 0-9 and -, not - at an end");
	return priv_template_build(hub->conf.priv, spec, tar_fd, log_fd, ret_pidfd, e);
}

int hub_template_each(struct hub *hub, int (*fn)(void *ctx, const char *name), void *ctx)
{
	DIR *d = opendir(hub->template_dir);
	struct dirent *one;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (one = readdir(d)))
		if (str_is_id(one->d_name, PRIV_ID_MAX))
			r = fn(ctx, one->d_name);
	closedir(d);
	return r;
}

uint64_t hub_template_mark(struct hub *hub, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/%s", hub->template_dir, name);
	struct stat st;

	return str_is_id(name, PRIV_ID_MAX) && lstat(path, &st) == 0 ? st.st_ino : 0;
}

int hub_template_remove(struct hub *hub, const char *name, struct err *e)
{
	struct list *pos;
	bool used = false;

	if (!str_is_id(name, PRIV_ID_MAX))
		return err_set(e, -ENOENT, "no-such-template", "no template is called \"%.64s\"", name);
	lock_take(&hub->lock);
	list_each(pos, &hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		used |= s->info.state < SANDBOX_STOPPED && str_eq(s->info.template_, name);
	}
	lock_drop(&hub->lock);
	if (used)
		return err_set(e, -EBUSY, "template-used", "a running sandbox uses template %s", name);
	return priv_template_remove(hub->conf.priv, name, e);
}
