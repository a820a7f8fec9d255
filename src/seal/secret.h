/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_SECRET_H
#define SEAL_SECRET_H

/*
 * Bytes that nobody else may see. They lie between guard pages, are locked into memory, are left out of core dumps,
 * are zeroed when they go, and cannot be read at all while nobody uses them. The type is opaque, so that the compiler
 * refuses to print one. docs/security.md has what this keeps off and what it does not.
 */
#include "base/buf.h"
#include "base/err.h"

struct secret;

enum { SECRET_MAX = 4 * 1024 * 1024 };

/** secret_process() - for a program that holds secrets, before its first: no core dump, nobody of the same user reads
 * its memory. Return: 0, or -errno; -ENOSYS when libsodium does not start. */
int secret_process(void) MUST_CHECK;
/** secret_new() - @len zero bytes (at most SECRET_MAX), closed. Return: NULL when memory is out. secret_free(). */
struct secret *secret_new(size_t len) MUST_CHECK;
/** secret_of() - a copy of @data; NULL as above. The caller wipes what he copied from. */
struct secret *secret_of(struct span data) MUST_CHECK;
/** secret_free() - zeroes and releases. */
void secret_free(struct secret **slot);
size_t secret_len(const struct secret *s);
/** secret_cut() - make it shorter. What is behind is zeroed. */
void secret_cut(struct secret *s, size_t len);
/** secret_use() / secret_rest() - open it and close it again, in pairs. Each secret belongs to one thread at a time.
 * The bytes are for reading and writing until secret_rest(). */
uint8_t *secret_use(struct secret *s);
void secret_rest(struct secret *s);
/** secret_same() - whether two hold the same bytes, in a time that tells only their lengths. */
bool secret_same(struct secret *a, struct secret *b);
/** secret_read() - all that comes from @fd. Return: 0; -E2BIG over @max; -ENOMEM; -errno. */
int secret_read(int fd, size_t max, struct secret **ret) MUST_CHECK;
/** secret_is_locked() - whether the kernel let us lock memory until now. It does not above RLIMIT_MEMLOCK. */
bool secret_is_locked(void);
/** wipe() - zero bytes that a compiler would leave. */
void wipe(void *p, size_t len);

#endif
