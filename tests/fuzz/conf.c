/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file, line by line as "section.key=value", and whole. What is accepted lies within its bounds. */
#include "base/io.h"
#include "base/str.h"
#include "host/conf.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf c; /* large */
	AUTO(str_free) char *text = NULL;
	char *line, *save = NULL, name[32];
	struct err e = ERR_NULL;
	int fd;

	if (size > 65536)
		return 0;
	conf_default(&c);
	fd = memfd_create("conf", MFD_CLOEXEC);
	if (fd < 0 || io_write_full(fd, data, size) < 0)
		abort();
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if (conf_file(&c, name, &e) < 0 && !e.text[0])
		abort(); /* a refusal has words */
	close(fd);
	text = span_dup(SPAN(data, size));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		(void)!conf_set(&c, line, &e);
	if (conf_finish(&c, &e) == 0 && (c.sandboxes < 1 || c.sandboxes > 4096 || c.pids < 16 || c.ids_first < 65536))
		abort();
	return 0;
}
