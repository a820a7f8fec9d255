/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring, the oldest lines give way. A line of the kernel comes as "PRIORITY,SEQ,TIME,-;TEXT" and is kept as
 * "kernel: [TIME] TEXT"; what it says about devices in the lines below is left out.
 */
#include "guest/console.h"

#include "base/io.h"
#include "base/log.h"
#include "guest/fields.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { CONSOLE_B = 65536, LINE_MAX_B = 1024, TURN = 64 };

static void add(struct console *c, const char *p, size_t len)
{
	while (len) {
		void *to;
		size_t n = ring_space(&c->ring, c->ring.end, len, &to);

		if (!n)
			return;
		memcpy(to, p, n);
		ring_commit(&c->ring, n);
		p += n;
		len -= n;
	}
}

static void on_line(void *ctx, const char *line, size_t len)
{
	add(ctx, line, len);
}

void console_init(struct console *c)
{
	*c = (struct console){ .kmsg = -1 };
	ring_init(&c->ring, CONSOLE_B);
	log_tee(on_line, c);
}

static void kernel_line(struct console *c, char *raw)
{
	char *text = strchr(raw, ';'), *when = strchr(raw, ','), line[LINE_MAX_B], *p;
	uint64_t us = 0;
	int n;

	when = when ? strchr(when + 1, ',') : NULL; /* level, number, microseconds */
	if (!text || !when || when > text || !field_u64(when + 1, 0, &us))
		return;
	text++;
	text[strcspn(text, "\n")] = '\0';
	for (p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	n = snprintf(line, sizeof(line), "kernel: [%llu.%06llu] %s\n", (unsigned long long)us / 1000000,
		     (unsigned long long)us % 1000000, text);
	if (n >= (int)sizeof(line)) {
		n = (int)sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	add(c, line, (size_t)n);
}

static void on_kmsg(void *ctx, int fd, unsigned events)
{
	struct console *c = ctx;
	char raw[8192];
	int i;

	(void)events;
	for (i = 0; i < TURN; i++) {
		ssize_t n = read(fd, raw, sizeof(raw) - 1);

		if (n < 0 && errno == EPIPE)
			continue; /* some were overwritten before they were read */
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			loop_unwatch(&c->watch);
			return;
		}
		raw[n] = '\0';
		kernel_line(c, raw);
	}
}

void console_kernel(struct console *c, struct loop *loop)
{
	c->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (c->kmsg < 0 || loop_watch(loop, c->kmsg, LOOP_READ, on_kmsg, c, &c->watch) < 0)
		log_warn("agent", "the kernel's lines cannot be read", "errno=%s", err_name(errno));
}

void console_fini(struct console *c)
{
	log_tee(NULL, NULL);
	loop_unwatch(&c->watch);
	fd_close(&c->kmsg);
	ring_fini(&c->ring);
}

void console_read(const struct console *c, uint64_t from, struct msg_LOGS_IS *ret, struct buf *room)
{
	uint64_t at = MIN(MAX(from, c->ring.start), c->ring.end);
	size_t i = 0, len;
	const char *all;

	ret->start = at;
	while (at < c->ring.end) {
		struct span s = ring_peek(&c->ring, at, (size_t)(c->ring.end - at));

		(void)!buf_append(room, s.p, s.len);
		at += s.len;
	}
	all = buf_str(room);
	len = buf_len(room);
	if (ret->start > from || (ret->start && from == 0)) { /* the first line may be half gone */
		while (i < len && all[i] != '\n')
			i++;
		i = MIN(i + 1, len);
	}
	ret->start += i;
	ret->data = SPAN(all + i, len - i);
}
