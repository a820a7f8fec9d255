/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: made and removed by the privileged process; one that a running sandbox stands on stays. Rules of what is
 * kept, which belong to their names. */
#include "host/sandbox/state.h"

#include "base/str.h"
#include "keep/keep.h"

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

void hub_set_shapes(struct hub *hub, hub_shape_fn *fn, void *ctx)
{
	lock_take(&hub->lock);
	hub->shape = fn;
	hub->shape_ctx = ctx;
	lock_drop(&hub->lock);
}

void hub_shape(struct hub *hub, const char *name, struct hub_shape *ret)
{
	bool ours = hub_template_mark(hub, name), known;

	*ret = (struct hub_shape){ .memory_b = 0 };
	lock_take(&hub->lock);
	known = hub->shape && hub->shape(hub->shape_ctx, name, ours, ret);
	lock_drop(&hub->lock);
	if (!known)
		(void)!str_copy(ret->template_, sizeof(ret->template_), name);
	if (!ret->memory_b)
		ret->memory_b = hub->conf.memory_b;
	if (!ret->cpu_milli)
		ret->cpu_milli = hub->conf.cpu_milli;
	ret->memory_b = MIN(ret->memory_b, hub->conf.memory_max_b);
}

void hub_template_about(struct hub *hub, const char *name, struct hub_template *ret)
{
	struct hub_shape shape = { .memory_b = hub->conf.memory_b, .cpu_milli = hub->conf.cpu_milli };
	AUTO(str_free) char *path = str_printf("%s/%s", hub->template_dir, name ? name : "");
	struct stat st;

	if (name)
		hub_shape(hub, name, &shape);
	*ret = (struct hub_template){ .memory_b = shape.memory_b, .workspace_b = hub->conf.workspace_b,
				      .cpu_milli = shape.cpu_milli };
	if (name && lstat(path, &st) == 0)
		ret->made_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
}

uint64_t hub_template_mark(struct hub *hub, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/%s", hub->template_dir, name);
	struct stat st;

	return str_is_id(name, PRIV_ID_MAX) && lstat(path, &st) == 0 ? st.st_ino : 0;
}

int hub_template_keep(struct hub *hub, const char *name, struct buf *to, struct err *e)
{
	int r = str_is_id(name, PRIV_ID_MAX) ? store_rules_get(hub->conf.store, name, to) : 0;

	return r < 0 ? err_sys(e, r, "rules of template %s", name) : 0;
}

int hub_template_set_keep(struct hub *hub, const char *name, const char *text, struct err *e)
{
	struct keep *rules = NULL;
	int r;

	_Static_assert((int)KEEP_FILE_MAX == (int)STORE_RULES_MAX, "one limit");
	if (!str_is_id(name, PRIV_ID_MAX))
		return err_set(e, -EINVAL, "bad-name", "names are 1 to 64 of a-z, 0-9 and -, not - at an end");
	if (strlen(text) > KEEP_FILE_MAX)
		return err_set(e, -E2BIG, "bad-rules", "rules of what is kept: at most %d bytes", KEEP_FILE_MAX);
	r = keep_parse(span_str(text), &rules, e);
	keep_free(&rules);
	return r < 0 ? r : store_rules_put(hub->conf.store, name, span_str(text), e);
}

int hub_rules(struct hub *hub, const char *template_, const char *own, char **ret, struct err *e)
{
	AUTO(buf_fini) struct buf text;
	struct keep *rules = NULL;
	struct buf first;
	int r;

	buf_init(&first, KEEP_FILE_MAX);
	buf_init(&text, KEEP_TEXT_MAX);
	r = own && strlen(own) > KEEP_FILE_MAX ? -E2BIG : 0;
	if (r == 0)
		r = hub_template_keep(hub, template_, &first, NULL);
	if (r == 0)
		r = keep_join(buf_span(&first), span_str(own), &text);
	buf_fini(&first);
	if (r == -E2BIG)
		return err_set(e, r, "bad-rules", "rules of what is kept: at most %d bytes", KEEP_FILE_MAX);
	if (r == 0 && own)
		r = keep_parse(span_str(own), &rules, e); /* by itself, so that lines are counted as they were typed */
	keep_free(&rules);
	if (r == 0)
		r = keep_parse(buf_span(&text), &rules, e);
	keep_free(&rules);
	if (r == 0 && buf_len(&text))
		*ret = span_dup(buf_span(&text));
	return r;
}

int hub_keep(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	int r = hub_ws_past(hub, id_or_name, &ws, e);

	return r < 0 ? r : buf_append(to, ws_keep(ws), strlen(ws_keep(ws)));
}

int hub_template_remove(struct hub *hub, const char *name, struct err *e)
{
	struct list *pos;
	bool used = false;
	int r;

	if (!str_is_id(name, PRIV_ID_MAX))
		return err_set(e, -ENOENT, "no-such-template", "no template is called \"%.64s\"", name);
	ahead_drop(hub, name);
	lock_take(&hub->lock);
	list_each(pos, &hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		used |= s->info.state < SANDBOX_STOPPED && str_eq(s->info.template_, name);
	}
	used |= layers_use_template(hub, name);
	lock_drop(&hub->lock);
	if (used)
		return err_set(e, -EBUSY, "template-used", "a running sandbox, or a snapshot of one, uses template %s",
			       name);
	r = priv_template_remove(hub->conf.priv, name, e);
	return r < 0 ? r : store_rules_put(hub->conf.store, name, SPAN_NULL, e);
}
