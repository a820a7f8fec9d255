/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/weak.h"

bool guest_is_weak(void)
{
	return true;
}
