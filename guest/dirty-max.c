/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/dirty.h"

size_t dirty_max(void)
{
	return DIRTY_MAX;
}
