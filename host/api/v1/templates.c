/* SPDX-License-Identifier: Apache-2.0 */
/* Templates. A build answers with an upgraded connection on which its words arrive; the last line says how it ended. */
#include "host/api/v1/v1.h"

#include "base/io.h"
#include "base/str.h"
#include "json/json.h"
#include "loop/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Whether somebody listens or not, the end of a build is told. The loop's. */
struct builder {
	struct api *api;
	char name[PRIV_ID_MAX + 1];
	uint64_t was;
	int pidfd;
	struct loop_watch *watch;
};

static void build_over(void *ctx, int fd, unsigned events)
{
	struct builder *b = ctx;
	uint64_t is = hub_template_mark(b->api->hub, b->name);

	(void)fd;
	(void)events;
	events_emit(b->api->events, is && is != b->was ? "template.built" : "template.failed", b->name, b->name, "");
	loop_unwatch(&b->watch);
	fd_close(&b->pidfd);
	free(b);
}

static void build_watch(void *ctx)
{
	struct builder *b = ctx;

	if (loop_watch(b->api->loop, b->pidfd, LOOP_READ, build_over, b, &b->watch) < 0)
		build_over(b, b->pidfd, 0);
}

struct words {
	struct loop *loop;
	int log_fd;
	void *handle;
};

static void words_over(void *ctx)
{
	struct words *w = ctx;

	fd_close(&w->log_fd);
	http_upgrade_end(w->handle);
	free(w);
}

static void words_begin(void *ctx, int fd, struct span first, void *handle)
{
	struct words *w = ctx;

	(void)first;
	w->handle = handle;
	relay_start(w->loop, fd, w->log_fd, NULL, 0, words_over, w);
}

static int build(struct api *api, struct http_req *req, const struct priv_template_spec *spec, int tar_fd,
		 struct http_res *res, struct err *e)
{
	struct builder *b;
	struct words *w;
	int log[2], pidfd = -1, r;

	if (!http_header(req, "Upgrade"))
		return err_set(e, -EINVAL, "upgrade-needed", "this request needs the header Upgrade: berth-stream");
	if (pipe2(log, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	b = NEW(struct builder);
	b->api = api;
	b->was = hub_template_mark(api->hub, spec->name);
	snprintf(b->name, sizeof(b->name), "%s", spec->name);
	r = hub_template_build(api->hub, spec, tar_fd, log[1], &pidfd, e);
	close(log[1]);
	if (r < 0) {
		close(log[0]);
		free(b);
		return r;
	}
	b->pidfd = pidfd;
	loop_post(api->loop, build_watch, b);
	w = NEW(struct words);
	w->loop = api->loop;
	w->log_fd = log[0];
	res->upgrade = words_begin;
	res->ctx = w;
	return 0;
}

int v1_template_build(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	struct priv_template_spec spec = { .replace = 0 };
	const struct json *packages;
	size_t i, used = 0;
	int r = v1_body(req, "name:s packages:as replace:b", &j, e);

	if (r < 0)
		return r;
	if (str_copy(spec.name, sizeof(spec.name), json_get_str(j, "name", "")) < 0)
		return err_set(e, -EINVAL, "bad-name", "the template's name is too long");
	packages = json_get(j, "packages");
	for (i = 0; i < json_len(packages); i++) {
		int n = snprintf(spec.packages + used, sizeof(spec.packages) - used, "%s%s", i ? " " : "",
				 json_text(json_at(packages, i)));

		if (n < 0 || (size_t)n >= sizeof(spec.packages) - used)
			return err_set(e, -E2BIG, "too-many-packages", "the list of packages is too long");
		used += (size_t)n;
	}
	if (!used)
		return err_set(e, -EINVAL, "bad-request", "packages must name at least one package");
	spec.replace = json_get_bool(j, "replace", false);
	return build(ctx, req, &spec, -1, res, e);
}

/* The body is the root tarball; a short one is in memory and gets a descriptor here. */
int v1_template_put(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct priv_template_spec spec = { .replace = 0 };
	AUTO(fd_close) int mem = -1;
	uint64_t size, replace;
	int fd, r = v1_query_u64(req, "replace", 0, &replace, e);
	struct span body = http_body(req, &fd, &size);

	if (r < 0)
		return r;
	if (str_copy(spec.name, sizeof(spec.name), http_segment(req, 0)) < 0)
		return err_set(e, -EINVAL, "bad-name", "the template's name is too long");
	spec.replace = replace != 0;
	if (size == 0)
		return err_set(e, -EINVAL, "bad-request", "the body must be a tar archive of a root");
	if (fd < 0) {
		fd = mem = memfd_create("template", MFD_CLOEXEC);
		if (mem < 0 || io_write_full(mem, body.p, body.len) < 0 || lseek(mem, 0, SEEK_SET) < 0)
			return err_sys(e, -errno, "keeping the archive");
	}
	return build(ctx, req, &spec, fd, res, e);
}

struct listing {
	struct json_writer w;
	const struct http_req *req;
};

static int list_one(void *ctx, const char *name)
{
	struct listing *l = ctx;

	if (!v1_sees_template(l->req, name))
		return 0;
	jw_open(&l->w, '{');
	jw_kstr(&l->w, "name", name);
	jw_close(&l->w, '}');
	return 0;
}

int v1_template_keep_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	struct buf text;
	int r;

	buf_init(&text, 65536);
	r = hub_template_keep(api->hub, http_segment(req, 0), &text, e);
	jw_open(&w, '{');
	jw_key(&w, "keep");
	jw_str(&w, buf_span(&text));
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	buf_fini(&text);
	return r;
}

int v1_template_keep_put(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	int r = v1_body(req, "keep:s", &j, e);

	if (r == 0)
		r = hub_template_set_keep(api->hub, http_segment(req, 0), json_get_str(j, "keep", ""), e);
	if (r == 0)
		buf_append(&res->body, "{}\n", 3);
	return r;
}

int v1_template_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct listing l = { .w = { .b = &res->body }, .req = req };
	int r;

	jw_open(&l.w, '[');
	r = hub_template_each(api->hub, list_one, &l);
	jw_close(&l.w, ']');
	buf_append(&res->body, "\n", 1);
	return r < 0 ? err_sys(e, r, "listing templates") : 0;
}

int v1_template_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	int r = hub_template_remove(api->hub, http_segment(req, 0), e);

	if (r == 0)
		buf_append(&res->body, "{}\n", 3);
	return r;
}
