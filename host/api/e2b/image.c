/* SPDX-License-Identifier: Apache-2.0 */
/* Images of registries as bases of builds. */
#include "host/api/e2b/work.h"

#include <errno.h>

int work_image(struct work *w, const char *image, struct err *e)
{
	(void)w;
	return err_set(e, -ENOENT, "no-image",
		       "image '%.80s' is no template here, and berth fetches no images: the operator makes one of its "
		       "root tarball (berth template build NAME --tar FILE)",
		       image);
}
