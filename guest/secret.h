/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SECRET_H
#define GUEST_SECRET_H

/*
 * Values that the host delivers: variables of the command that follows on the same connection, and files in
 * /run/berth/secrets. What passed through our memory is zeroed.
 */
#include "wire/frame.h"
#include "wire/msg.h"

/* Variables that wait for their command. */
struct secret_env {
	struct msg_list list;
	size_t n;
};

enum { SECRET_ENV_MAX = 64, SECRET_ENV_BYTES = 512 * 1024 };

/** secret_take() - a SECRET frame, whose payload is zeroed. A variable goes into *@env, which is made; a file is
 * written (@inside: this is a sandbox of its own, whose /run is not the host's). Return: 0 and *@ret_file tells which;
 * -errno. */
int secret_take(struct secret_env **env, const struct frame *f, bool inside, bool *ret_file, struct err *e) MUST_CHECK;
/** secret_merge() - @env and what waits, each name once, into @to, which the caller ends with secret_wipe(). */
int secret_merge(const struct secret_env *env, struct span others, struct msg_list *to) MUST_CHECK;
void secret_wipe(struct msg_list *l);
void secret_env_free(struct secret_env **slot);
/** secret_drop() - overwrite and remove all files. Return: 0 or -errno. */
int secret_drop(void) MUST_CHECK;

#endif
