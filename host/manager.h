/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_MANAGER_H
#define HOST_MANAGER_H

/*
 * What the service manager hears: datagrams of KEY=VALUE lines at $NOTIFY_SOCKET, as sd_notify(3) describes them. Where
 * nobody listens nothing is sent. Failures are not told: the manager sees the silence.
 */

/** manager_open() - connect while paths can still be reached, and forget the variable: nothing that is started below
 * us speaks for us. Main thread, before privileges go. */
void manager_open(void);
/** manager_say() - send these lines. Any thread, does not block. */
void manager_say(const char *lines);
/** manager_watched() - does it want a WATCHDOG=1 now and then? */
int manager_watched(void);

#endif
