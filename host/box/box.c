/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds there are. */
#include "host/box/box.h"

#include "base/str.h"

static const struct box_kind *const kinds[] = { &box_oci, &box_fake };

const struct box_kind *box_kind_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(kinds); i++)
		if (str_eq(kinds[i]->name, name))
			return kinds[i];
	return NULL;
}
