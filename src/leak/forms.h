/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEAK_FORMS_H
#define LEAK_FORMS_H

/* What a piece of a value looks like in a stream. */
#include "leak/leak.h"

typedef void leak_form_fn(void *ctx, enum leak_form form, struct span bytes);

/** forms_each() - every form of @piece (LEAK_MIN to LEAK_PIECE bytes); the bytes are borrowed for the call and wiped
 * behind it. */
void forms_each(struct span piece, leak_form_fn *fn, void *ctx);

#endif
