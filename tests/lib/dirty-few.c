/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of guest/dirty-max.c: an agent that loses count at once. */
#include "guest/dirty.h"

size_t dirty_max(void)
{
	return 30;
}
