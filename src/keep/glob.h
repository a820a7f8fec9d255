/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KEEP_GLOB_H
#define KEEP_GLOB_H

/* One pattern of gitignore(5), without the signs around it ("!" in front, "/" in front and behind). */
#include "base/buf.h"

struct glob;

/** glob_new() - Return: the pattern; NULL when nothing can match it (an open bracket, a backslash at the end). */
struct glob *glob_new(struct span text);
void glob_free(struct glob **slot);
/** glob_match() - the whole of @path: names with single slashes between them. Time is bounded by the product of the
 * lengths, whatever the pattern. */
bool glob_match(const struct glob *g, struct span path);
/** glob_tries() - how many names are tried anew at each place of a path: those behind a "**" that is not the last. */
size_t glob_tries(const struct glob *g);

#endif
