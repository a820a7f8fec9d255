/* SPDX-License-Identifier: Apache-2.0 */
/* How an environment of an older format becomes one of the newest; a file of its own, so that a test has others. */
#include "host/store/migrate.h"

/* 1 to 2: new tables and flags, nothing to rewrite. A program that knows only 1 would take a stub for an empty
 * directory. */
const struct store_step store_steps[] = { { .content = NULL } };
const unsigned store_steps_n = FORMAT_VERSION - 1;
