/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fill.h"

void fill_wait(void)
{
}
