/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_APT_H
#define HOST_PRIV_APT_H

/* Where this host gets its packages from: read from its own apt configuration, so that no mirror is named anywhere
 * else. */
#include "base/err.h"

enum { APT_LINES_MAX = 8, APT_LINE_MAX = 512 };

struct apt_sources {
	char lines[APT_LINES_MAX][APT_LINE_MAX]; /* "deb [signed-by=FILE] URI SUITE COMPONENTS" */
	unsigned n;
	char suite[64]; /* of the first line */
};

/** apt_read() - the lines of the host's release (its suite, with updates and security) from @dir/sources.list and
 * @dir/sources.list.d, in both forms that apt knows. @codename: of the release; "" takes the suite of the first line
 * with the component "main". Return: 0; -ENOENT slug "no-mirror"; -errno. */
int apt_read(const char *dir, const char *codename, struct apt_sources *ret, struct err *e) MUST_CHECK;
/** apt_codename() - VERSION_CODENAME of /etc/os-release into @to, "" when there is none. */
void apt_codename(char *to, unsigned size);

#endif
