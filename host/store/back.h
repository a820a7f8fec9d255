/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_BACK_H
#define HOST_STORE_BACK_H

/*
 * The way back to the last durable state of an environment whose commits are not synced one by one
 * (docs/decisions/009): a file "back" beside data.mdb with the page of LMDB that names that state. After a power loss
 * the environment's file has newer pages of that kind, and nobody knows whether what they name has reached the disk;
 * then this one is put in their place. Written in two slots in turn, each with a digest: a torn one is none.
 *
 * Who holds one of these must see to it that no page of the state that was noted last is written over.
 */
#include "base/buf.h"
#include "base/err.h"

struct back;

enum { BACK_META_B = 512, BACK_BOOT_B = 16 };

/** back_recover() - before the environment in the directory @dir is opened: after a power loss, or when whoever had it
 * open said so, put the noted state back; after a mere death make durable what is there. @read_only: only look.
 * Return: 0; -EROFS: it needs what @read_only forbids; -errno. */
int back_recover(const char *dir, bool read_only, struct err *e) MUST_CHECK;
/** back_open() - the file, made when it is missing. Return: 0 or -errno. */
int back_open(const char *dir, struct back **ret) MUST_CHECK;
void back_close(struct back **b);
/** back_note() - the state that is named by @meta (BACK_META_B bytes of page @slot, 0 or 1, of pages of @page_b) is
 * durable: go back to it from now on. Durable when it returns 0. Return: 0 or -errno: then the one before counts. */
int back_note(struct back *b, const void *meta, unsigned slot, size_t page_b) MUST_CHECK;
/** back_forget() - all that is there is durable, and will be synced with each commit. The same. */
int back_forget(struct back *b) MUST_CHECK;
/** back_go() - put what was noted last back into the environment's file, which nobody has open. It is in the page cache
 * then, and should the machine die before the disk has it, it will be done again. Return: 0, also when nothing is
 * noted; -errno. */
int back_go(struct back *b) MUST_CHECK;
/** back_boot() - which life of the machine this is. Weak: a test has its own. */
void back_boot(uint8_t to[BACK_BOOT_B]);

#endif
