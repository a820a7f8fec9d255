/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_RESTORE_H
#define HOST_RESTORE_H

#include "host/conf.h"

/** restore() - berthd --restore: make the store of conf's state directory from the archive @file ("-": standard input).
 * Return: 0; -EBUSY; -EEXIST; -EBADMSG; -errno. */
int restore(const struct conf *conf, const char *file, struct err *e);

#endif
