/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_V1_LOG_H
#define HOST_API_V1_LOG_H

/* What a row of the journal says beyond what changed: who did it. watch.c reads the rows, in order. */
#include "host/store/store.h"
#include "host/ws/ws.h"
#include "json/json.h"

struct log_runs;

/** log_runs_new() - the commands that run just before the row with number @at; yours, log_runs_free() it. */
struct log_runs *log_runs_new(struct ws *ws, uint64_t at);
void log_runs_free(struct log_runs **runs);
/** log_runs_at() - begin anew, when rows were lost. */
void log_runs_at(struct log_runs *runs, struct txn *t, uint64_t at);
/** log_command() - a command began or ended: taken into account, and with @show told as a line. Return: false: another
 * kind of row. */
bool log_command(struct log_runs *runs, struct buf *b, const struct journal_row *row, bool show);
/** log_put() - the members "hash", "by", "commands" of a change. */
void log_put(const struct log_runs *runs, struct json_writer *j, const struct journal_row *row);

#endif
