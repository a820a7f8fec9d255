/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/*
 * A note about a failure, with three readers: the kernel wants an errno, a program wants a stable word, a person wants
 * a sentence. It lives on the caller's stack, costs nothing on success, and is copied by value. Functions take it as
 * their last parameter and accept NULL.
 */
#include "base/own.h"

enum { ERR_SLUG_MAX = 40, ERR_TEXT_MAX = 240 };

struct err {
	int code;		 /* -errno, 0 while nothing failed */
	char slug[ERR_SLUG_MAX]; /* constant word for programs: "no-such-sandbox" */
	char text[ERR_TEXT_MAX]; /* a sentence for a person, no newline */
};

#define ERR_NULL ((struct err){ .code = 0 })

/** err_set() - fill @e (may be NULL) and return @code, so that `return err_set(…)` is one line. @code is negative. */
int err_set(struct err *e, int code, const char *slug, const char *fmt, ...) PRINTF(4, 5);
/** err_wrap() - put context in front of the text of @e, keep code and slug; returns the code. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF(2, 3);
/** err_sys() - err_set() from a negative errno: the slug is its name in lower case ("enoent"), the text "WHAT: reason".
 */
int err_sys(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
/** err_name() - the symbolic name of an errno (either sign), "ENOENT"; "EUNKNOWN" when there is none. Static. */
const char *err_name(int code);
/** err_number() - the positive errno of a symbolic name that Linux knows; 0 when unknown. */
int err_number(const char *name);

#endif
