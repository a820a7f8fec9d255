/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_IMAGE_TOOL_H
#define HOST_IMAGE_TOOL_H

/* One run of the image tool. */
#include "host/image/image.h"

/** tool_manifest() - what the registry has under this digest ("" : what the job's name says), in @to. Return: 0; slugs
 * "no-image" with the tool's last words, "no-image-tool"; -errno. */
int tool_manifest(const struct image_job *job, const char *digest, struct buf *to, struct err *e) MUST_CHECK;
/** tool_image() - fetch it; its parts are files in @ret_dir, which is gone with the descriptor. Return: as above. */
int tool_image(const struct image_job *job, const char *digest, int *ret_dir, struct err *e) MUST_CHECK;

#endif
