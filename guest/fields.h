/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_FIELDS_H
#define GUEST_FIELDS_H

/* Lines of /proc: words between blanks. scanf(3) can do that too, and would be a fifteenth of the agent. */
#include <stdbool.h>
#include <stdint.h>

/** field_at() - the @n-th word (from 0) of the line that begins at @text; NULL: it has fewer. */
const char *field_at(const char *text, unsigned n);
/** field_u64() - the number that this word begins with, saturated. Return: whether there is one. */
bool field_u64(const char *text, unsigned n, uint64_t *ret);

#endif
