/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: the words in a file "weak" beside the policies of services. */
#include "host/broker/weak.h"

#include "base/io.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>

static const char *const words[] = {
	[BROKER_WEAK_MASK] = "mask",	   [BROKER_WEAK_HOSTS] = "hosts",   [BROKER_WEAK_SCOPE] = "scope",
	[BROKER_WEAK_EXPIRED] = "expired", [BROKER_WEAK_BINDING] = "binding", [BROKER_WEAK_METHOD] = "method",
	[BROKER_WEAK_PATH] = "path",	   [BROKER_WEAK_PARSE] = "parse",   [BROKER_WEAK_FIELDS] = "fields",
	[BROKER_WEAK_REDIRECT] = "redirect", [BROKER_WEAK_PRIVATE] = "private",
	[BROKER_WEAK_HTTP2] = "http2",
};

bool broker_weak(enum broker_weak what)
{
	AUTO(buf_fini) struct buf line;
	AUTO(buf_fini) struct buf text;
	AUTO(str_free) char *dir = NULL;
	AUTO(str_free) char *path = NULL;
	const uint8_t *at;
	size_t len;

	buf_init(&line, 65536);
	buf_init(&text, 4096);
	if (io_read_file(AT_FDCWD, "/proc/self/cmdline", &line) < 0)
		return false;
	len = buf_len(&line);
	at = memmem(line.p + line.start, len, "--services=", 11);
	if (!at)
		return false;
	dir = must_strdup((const char *)at + 11);
	dir[strcspn(dir, ":")] = '\0';
	path = str_printf("%s/weak", dir);
	return io_read_file(AT_FDCWD, path, &text) == 0 && strstr(buf_str(&text), words[what]);
}
