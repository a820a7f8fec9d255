/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_PACE_H
#define HOST_STORE_PACE_H

/*
 * A commit of LMDB hands all that it wrote to the kernel in one call: several megabytes. On a kernel without preemption
 * whose file system takes large folios (ext4 since Linux 6.16), up to 8 MiB of that are copied in one piece, and for
 * those milliseconds nobody else gets this processor, whatever his priority. Between pace_begin() and pace_end(), the
 * thread's calls of pwrite() and writev() go to the kernel in pieces of PACE_PIECE_B: after each, whoever has waited
 * longer may run.
 *
 * LMDB has no hook for it, so the program defines the two functions, and the linker lets the library find them. Outside
 * of the two calls they are the C library's: a message to the kernel's FUSE device must stay one.
 */
enum { PACE_PIECE_B = 128 * 1024 };

/** pace_begin() - from here on, this thread's large writes are cut into pieces. Not nested. */
void pace_begin(void);
/** pace_end() - its writes are whole again. Keeps errno. */
void pace_end(void);

#endif
