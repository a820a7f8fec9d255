/* SPDX-License-Identifier: Apache-2.0 */
/* A template's command that runs in each of its sandboxes from their beginning, and the one that tells when a sandbox
 * is ready: it is asked again and again, at growing distances, until it succeeds. */
#include "host/api/e2b/template.h"

#include "base/clock.h"
#include "base/str.h"
#include "wire/wire.h"

#include <errno.h>
#include <time.h>

enum { FIRST_PAUSE_MS = 50, PAUSE_MAX_MS = 2000, TRY_MS = 60000, SLICE_MS = 200 };

#define SHELL "[ -x /bin/bash ] && exec /bin/bash -l -c \"$1\"; exec /bin/sh -l -c \"$1\""

bool begin_is_wanted(const struct json *config)
{
	return json_get_str(config, "start", "")[0] || json_get_str(config, "ready", "")[0];
}

static bool is_stopped(const bool *stop)
{
	return stop && __atomic_load_n(stop, __ATOMIC_RELAXED);
}

static void rest(uint64_t ms, const bool *stop)
{
	uint64_t until = clock_after_ms(ms);
	int left;

	while ((left = clock_left_ms(until)) > 0 && !is_stopped(stop)) {
		struct timespec t = { .tv_nsec = 1000000L * MIN(left, SLICE_MS) };

		nanosleep(&t, NULL);
	}
}

static int await_ready(struct e2b *e2b, const char *sandbox, struct inside *run, uint64_t ms, struct err *e)
{
	uint64_t until = clock_after_ms(ms), pause = FIRST_PAUSE_MS;
	int r;

	for (;;) {
		run->until = MIN(clock_after_ms(TRY_MS), until);
		r = inside_run(e2b, sandbox, run, e);
		if (r == 0 && run->how == WIRE_EXITED && run->code == 0)
			return 0;
		if (r < 0 && r != -ETIMEDOUT)
			return r;
		*e = ERR_NULL;
		if (is_stopped(run->stop))
			return err_set(e, -ECANCELED, "stopped", "it was stopped");
		if (clock_now() + pause * CLOCK_MS >= until)
			return err_set(e, -ETIMEDOUT, "not-ready", "the ready command did not succeed within %u s",
				       (unsigned)(ms / 1000));
		rest(pause, run->stop);
		pause = MIN(2 * pause, (uint64_t)PAUSE_MAX_MS);
	}
}

int begin_run(struct e2b *e2b, const char *sandbox, const struct json *config, const struct step_state *s, uint64_t ms,
	      const bool *stop, struct err *e)
{
	const char *start = json_get_str(config, "start", ""), *ready = json_get_str(config, "ready", "");
	const char *argv[] = { "/bin/sh", "-c", SHELL, "sh", start, NULL };
	struct inside run = { .argv = argv,
			      .user = s->user,
			      .cwd = s->workdir,
			      .envs = s->envs.v,
			      .n_envs = s->envs.len,
			      .in_fd = -1,
			      .until = clock_after_ms(ms),
			      .stop = stop,
			      .leave = true };
	int r = start[0] ? inside_run(e2b, sandbox, &run, e) : 0;

	if (r < 0)
		return err_wrap(e, "the start command did not begin");
	if (!ready[0])
		return 0;
	argv[4] = ready;
	run.leave = false;
	return await_ready(e2b, sandbox, &run, ms, e);
}
