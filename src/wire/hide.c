/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/hide.h"

#include "wire/msg.h"

#include <string.h>

bool hide_in_captures(unsigned type)
{
	return type == MSG_SECRET;
}

void hide_wipe(void *p, size_t len)
{
	if (len)
		explicit_bzero(p, len);
}
