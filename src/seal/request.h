/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_REQUEST_H
#define SEAL_REQUEST_H

/*
 * Words about requests of HTTP, as sealed files and policies of services write them: methods, patterns of paths, and
 * the header that a value is put in. Checked and compared by the same code for both.
 */
#include <stdbool.h>

enum { SEAL_PATH_MAX = 512, SEAL_PUT_NAME_MAX = 128, SEAL_PUT_PREFIX_MAX = 64 };

/** seal_method_ok() - one of the seven, in upper case. */
bool seal_method_ok(const char *s);
/** seal_path_ok() - a pattern, as seal_path_matches() has it. */
bool seal_path_ok(const char *s);
/** seal_path_matches() - segment by segment. A segment that is one star stands for any one that is not empty, one
 * with a star in it for what begins and ends so; two stars at the end are all that follows, also nothing. @path is in
 * the one form of service_path_clean(). */
bool seal_path_matches(const char *pattern, const char *path);
/** seal_header_ok() - a header's name that a value may be put under: none that frames a message. */
bool seal_header_ok(const char *s);
/** seal_prefix_ok() - what may stand before the value. */
bool seal_prefix_ok(const char *s);

#endif
