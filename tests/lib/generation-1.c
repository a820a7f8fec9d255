/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of guest/generation.c: an agent that speaks as the first one did, and refuses what that did not know. */
#include "guest/agent.h"

unsigned agent_newest(void)
{
	return 1;
}
