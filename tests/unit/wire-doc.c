/* SPDX-License-Identifier: Apache-2.0 */
/* docs/protocol.md has every message of msg.def with its type, and every field. */
#include "base/io.h"
#include "base/str.h"
#include "wire/msg.h"

#include <criterion/criterion.h>
#include <fcntl.h>

static struct buf page;

static void has(const char *text)
{
	cr_expect(strstr(buf_str(&page), text), "docs/protocol.md lacks: %s", text);
}

Test(doc, names_every_message_and_field)
{
	AUTO(str_free) char *path = str_printf("%s/docs/protocol.md", SRCDIR);

	buf_init(&page, 1024 * 1024);
	cr_assert_eq(io_read_file(AT_FDCWD, path, &page), 0, "%s", path);
#define MSG(NAME, type, dir, doc) has("### " #NAME " (" #type);
#define U64(field, max, doc) has("| `" #field "` | U64");
#define I64(field, doc) has("| `" #field "` | I64");
#define STR(field, max, doc) has("| `" #field "` | STR");
#define BIN(field, max, doc) has("| `" #field "` | BIN");
#define STRV(field, max, doc) has("| `" #field "` | STRV");
#define RECS(field, RECORD, doc) has("| `" #field "` | RECS | " #RECORD);
#define END(NAME)
#include "wire/msg.def"
	buf_fini(&page);
}
