/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon makes the listening socket and hands the descriptor down, so that no path is trusted to a guest; the token
 * travels in a memfd, never in arguments or environment. */
#include "host/box/local.h"

#include "base/io.h"
#include "base/str.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static char *socket_path(const struct box_env *env, const char *id)
{
	return str_printf("%s/%s.sock", env->run_dir, id);
}

static void set_address(const struct box_env *env, const char *id, struct box_started *ret)
{
	snprintf(ret->address, sizeof(ret->address), "unix:%s/%s.sock", env->run_dir, id);
}

static int token_fd(const uint8_t *token, int *ret, struct err *e)
{
	AUTO(fd_close) int fd = memfd_create("token", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return err_sys(e, -errno, "memfd_create");
	r = io_write_full(fd, token, WIRE_TOKEN_LEN);
	if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, r < 0 ? r : -errno, "writing the token");
	*ret = fd_take(&fd);
	return 0;
}

int local_start(enum priv_box_kind kind, const struct box_env *env, const struct box_spec *spec,
		struct box_started *ret, struct err *e)
{
	AUTO(str_free) char *path = socket_path(env, spec->id);
	AUTO(fd_close) int listener = -1;
	AUTO(fd_close) int token = -1;
	struct priv_box_started started = { .pidfd = -1 };
	struct priv_box_spec p = {
		.kind = kind,
		.range = spec->range,
		.memory_b = spec->memory_b,
		.workspace_b = spec->workspace_b,
		.cpu_milli = spec->cpu_milli,
		.pids = spec->pids,
		.laid = spec->laid,
		.root = spec->root,
		.again = spec->again,
		.net = spec->net,
	};
	uint32_t i;
	int r;

	for (i = 0; i < spec->n_volumes && i < PRIV_VOLUMES_MAX; i++)
		p.volumes[p.n_volumes++] = spec->volumes[i];
	if (str_copy(p.id, sizeof(p.id), spec->id) < 0 ||
	    str_copy(p.template_, sizeof(p.template_), spec->template_) < 0)
		return err_set(e, -EINVAL, "bad-name", "a name is too long");
	r = token_fd(spec->token, &token, e);
	if (r == 0)
		r = io_unix_listen(path, 0600, &listener, e);
	if (r < 0)
		return r;
	r = priv_box_start(env->priv, &p, listener, token, &started, e);
	if (r < 0) {
		unlink(path);
		return r;
	}
	ret->pid = started.pid;
	ret->pidfd = started.pidfd;
	set_address(env, spec->id, ret);
	return 0;
}

int local_end(const struct box_env *env, const char *id, enum priv_disk keep, struct err *e)
{
	AUTO(str_free) char *path = socket_path(env, id);
	int r = priv_box_end(env->priv, id, keep, e);

	/* Last: when it did not come to an end, what still runs can be reached by the next daemon. */
	if (r == 0)
		unlink(path);
	return r;
}

int local_freeze(const struct box_env *env, const char *id, enum priv_freeze level, struct err *e)
{
	return priv_box_freeze(env->priv, id, level, e);
}

int local_find(const struct box_env *env, const char *id, struct box_started *ret, struct err *e)
{
	AUTO(str_free) char *path = socket_path(env, id);
	AUTO(fd_close) int probe = -1;
	int pidfd = -1, r = priv_box_alive(env->priv, id, &pidfd, e), there;

	if (r <= 0)
		return r;
	/* The agent was born with the listening socket. One that nobody holds, or that is gone, has no agent: its start
	 * was cut off before there was one, or its end in the middle. */
	there = io_unix_connect(path, &probe, NULL);
	if (there == -ECONNREFUSED || there == -ENOENT) {
		close(pidfd);
		return 0;
	}
	*ret = (struct box_started){ .pid = r, .pidfd = pidfd };
	set_address(env, id, ret);
	return 1;
}
