/* SPDX-License-Identifier: Apache-2.0 */
/* One line on standard error that is written over: only on a terminal, only after a moment, gone when it is done. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/str.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FIRST_MS = 300, EVERY_MS = 100, BAR = 20 };

static struct {
	struct berth *b;
	const char *name;
	uint64_t all, next;
	bool shown;
} bar;

static void human(uint64_t n, char *to, size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)n;
	size_t i = 0;

	while (v >= 1024 && i < ARRAY_LEN(units) - 1) {
		v /= 1024;
		i++;
	}
	snprintf(to, size, i ? "%.1f %s" : "%.0f %s", v, units[i]);
}

static void draw(uint64_t done, uint64_t all)
{
	AUTO(str_free) char *name = must_strdup(bar.name);
	struct winsize size = { .ws_col = 0 };
	char is[32], of[32], line[256];
	int n, full = all ? (int)(MIN(done, all) * BAR / all) : 0;
	int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
	char *p;

	for (p = name; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?'; /* it may come from a guest, and its width must be known */
	human(done, is, sizeof(is));
	human(all, of, sizeof(of));
	if (all)
		n = snprintf(line, sizeof(line), "[%.*s%*s] %3u%%  %s of %s  %.100s", full, "####################",
			     BAR - full, "", (unsigned)(MIN(done, all) * 100 / all), is, of, name);
	else
		n = snprintf(line, sizeof(line), "%s  %.100s", is, name);
	fprintf(stderr, "\r%.*s\033[K", MIN(MIN(n, (int)sizeof(line) - 1), columns - 1), line);
	fflush(stderr);
	bar.shown = true;
}

static void on_progress(void *ctx, uint64_t done, uint64_t all)
{
	uint64_t now = clock_now();

	(void)ctx;
	if (now < bar.next)
		return;
	bar.next = now + EVERY_MS * CLOCK_MS;
	draw(done, bar.all ? bar.all : all);
}

void cli_progress(struct berth *b, bool quiet, const char *name, uint64_t all)
{
	if (quiet || !isatty(STDERR_FILENO))
		return;
	bar.b = b;
	bar.name = name;
	bar.all = all;
	if (!bar.next) /* the first of several files */
		bar.next = clock_after_ms(FIRST_MS);
	berth_on_progress(b, on_progress, NULL);
}

void cli_progress_end(void)
{
	if (bar.shown)
		fputs("\r\033[K", stderr);
	if (bar.b)
		berth_on_progress(bar.b, NULL, NULL);
	bar.shown = false;
	bar.b = NULL;
}
