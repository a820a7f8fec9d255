/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/weak.h"

bool broker_weak(enum broker_weak what)
{
	(void)what;
	return false;
}
