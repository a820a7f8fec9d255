/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent.h"
#include "wire/wire.h"

unsigned agent_newest(void)
{
	return WIRE_GENERATION;
}
