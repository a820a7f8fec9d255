/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

/*
 * Log lines for the function that stops an error: a time, a level, a room, a sentence, and key=value fields.
 *
 *	log_warn("box", "sandbox could not be removed", "id=%s errno=%s", id, err_name(r));
 *
 * In the text form the fields are printed as they are; values that may hold spaces go last.
 * In the JSON form the fields become one string member "fields". The form for systemd's journal, which knows the time
 * by itself, has the level as the kernel's <N> in front. Rooms under src/ and host/store only use log_debug().
 */
#include "base/own.h"

#include <stdbool.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };
enum log_form { LOG_FORM_TEXT, LOG_FORM_JSON, LOG_FORM_JOURNAL };

/** log_setup() - level and form for the whole process, and where it goes (-1 keeps standard error). */
void log_setup(enum log_level level, enum log_form form, int fd);
/** log_parse_level() - "error", "warn", "info", "debug". Return: 0 or -EINVAL. */
int log_parse_level(const char *word, enum log_level *ret);
/** log_tee() - also hand each line, with its newline, to @fn; NULL: no longer. @fn must not log. Before there are
 * threads. */
void log_tee(void (*fn)(void *ctx, const char *line, size_t len), void *ctx);
bool log_on(enum log_level level);
/** log_line() - write one line with one write(2). @fields may be NULL. Bytes below 0x20 are escaped. */
void log_line(enum log_level level, const char *room, const char *words, const char *fields, ...) PRINTF(4, 5);

#define log_error(room, words, ...) log_line(LOG_LVL_ERROR, room, words, __VA_ARGS__)
#define log_warn(room, words, ...) log_line(LOG_LVL_WARN, room, words, __VA_ARGS__)
#define log_info(room, words, ...) log_line(LOG_LVL_INFO, room, words, __VA_ARGS__)
#define log_debug(room, words, ...)                                              \
	do {                                                                     \
		if (log_on(LOG_LVL_DEBUG))                                       \
			log_line(LOG_LVL_DEBUG, room, words, __VA_ARGS__);       \
	} while (0)

#endif
