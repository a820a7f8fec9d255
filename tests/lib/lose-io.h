/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_LOSE_IO_H
#define TESTS_LIB_LOSE_IO_H

/*
 * Power loss. Linked into a test program, this stands before the C library's writes and syncs: what was written to
 * files below a directory and not synced since is noted with what was there before. After the writer was killed, pages
 * go back to a state that they had at some moment since their last sync, each for itself, as a disk may leave them.
 */
#include <stdint.h>

/** lose_begin() - in the process that is going to be killed: note what is written below @dir, in the file @log. */
void lose_begin(const char *dir, const char *log);
/** lose_lies() - from now on a sync makes nothing safe: what a test must be able to notice. */
void lose_lies(void);
/** lose_apply() - afterwards, by anybody: lose, chosen by @seed. Return: how many pages went back; -1: the log is bad.
 */
long lose_apply(const char *log, uint64_t seed);

#endif
