/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/oom.h"

#include "base/own.h"
#include "guest/fields.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int count_fd = -1;

void oom_open(int fd, bool vm)
{
	static const char *const places[] = { "/sys/fs/cgroup/memory.events",
					      "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat" };
	size_t i;

	count_fd = fd;
	/* In a virtual machine of our own the whole kernel's count is ours. */
	for (i = 0; count_fd < 0 && i < ARRAY_LEN(places) - (vm ? 0 : 1); i++)
		count_fd = open(places[i], O_RDONLY | O_CLOEXEC);
}

uint64_t oom_kills(void)
{
	char text[8192];
	ssize_t n = count_fd >= 0 ? pread(count_fd, text, sizeof(text) - 1, 0) : 0;
	uint64_t v = 0;
	const char *at;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, "oom_kill ");
	return at && field_u64(at, 1, &v) ? v : 0;
}
