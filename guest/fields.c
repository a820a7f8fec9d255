/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fields.h"

#include <stdlib.h>
#include <string.h>

const char *field_at(const char *text, unsigned n)
{
	const char *p = text + strspn(text, " \t");

	while (n-- && *p && *p != '\n') {
		p += strcspn(p, " \t\n");
		p += strspn(p, " \t");
	}
	return *p && *p != '\n' ? p : NULL;
}

bool field_u64(const char *text, unsigned n, uint64_t *ret)
{
	const char *p = field_at(text, n);

	if (!p || *p < '0' || *p > '9')
		return false;
	*ret = strtoull(p, NULL, 10);
	return true;
}
