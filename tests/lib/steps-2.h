/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_STEPS_2_H
#define TESTS_LIB_STEPS_2_H

#include "host/store/migrate.h"

/** 1: killed in the step of the content environment, 2: in that of a workspace; 0: not. */
extern int steps_kill_at;

#endif
