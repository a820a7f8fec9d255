/* SPDX-License-Identifier: Apache-2.0 */
/* keygen and pub. */
#include "sealtool/tool.h"

#include "base/str.h"

#include <errno.h>
#include <unistd.h>

static int print_pub(struct tool *t, struct seal_key *k, const char *file)
{
	struct seal_id id = seal_pub_id(seal_key_pub(k));
	char text[SEAL_ID_TEXT];
	struct buf b;

	buf_init(&b, 256);
	seal_pub_text(seal_key_pub(k), &b);
	seal_id_text(&id, text);
	if (t->json) {
		printf("{\"id\":\"%s\",\"public\":\"%s\",\"file\":", text, buf_str(&b));
		tool_quote(stdout, file);
		puts("}");
	} else {
		printf("# berth key %s\n%s\n", text, buf_str(&b));
	}
	buf_fini(&b);
	return TOOL_OK;
}

/* The text of the file as it was asked for. */
static int key_text(struct tool *t, struct seal_key *k, struct secret **ret, struct err *e)
{
	AUTO(secret_free) struct secret *pass = NULL, *plain = NULL;
	AUTO(buf_fini) struct buf b;
	int r;

	buf_init(&b, SEAL_KEY_FILE_MAX);
	if (t->passphrase || t->passphrase_file) {
		r = tool_passphrase(t, true, &pass, e);
		if (r < 0)
			return r;
	}
	r = seal_key_text(k, pass, false, &plain);
	if (r < 0)
		return err_sys(e, r, "the key");
	if (!t->creds) {
		*ret = take(&plain);
		return 0;
	}
	buf_printf(&b, "# berth key that opens on this machine only\n# ");
	seal_pub_text(seal_key_pub(k), &b);
	buf_printf(&b, "\nberth-key-creds-1:");
	r = creds_wrap(plain, &b, e);
	if (r < 0)
		return r;
	buf_printf(&b, "\n");
	*ret = secret_of(buf_span(&b));
	return *ret ? 0 : -ENOMEM;
}

int verb_keygen(struct tool *t)
{
	AUTO(seal_key_free) struct seal_key *k = NULL;
	AUTO(secret_free) struct secret *text = NULL;
	AUTO(tool_out_fini) struct tool_out out = { .fd = -1 };
	struct err e = ERR_NULL;
	int r;

	if (t->argc || !t->output || str_eq(t->output, "-"))
		return tool_usage(t, "-o KEYFILE is needed: a key is written to a file, its public half is printed");
	if (t->creds && (t->passphrase || t->passphrase_file))
		return tool_usage(t, "a passphrase or systemd-creds, not both");
	if (access(t->output, F_OK) == 0)
		return tool_usage(t, "%s is there: what is sealed to a key that is replaced is lost", t->output);
	r = seal_key_new(&k);
	if (r < 0)
		err_sys(&e, r, "the key");
	if (r == 0)
		r = key_text(t, k, &text, &e);
	if (r == 0)
		r = tool_out(t->output, &out, &e);
	if (r == 0) {
		r = seal_sink_fd(&out.fd).write(&out.fd, SPAN(secret_use(text), secret_len(text)));
		secret_rest(text);
		if (r < 0)
			err_sys(&e, r, "%s", t->output);
	}
	if (r == 0)
		r = tool_out_done(&out, &e);
	return r < 0 ? tool_fail(t, t->output, &e) : print_pub(t, k, t->output);
}

int verb_pub(struct tool *t)
{
	AUTO(seal_key_free) struct seal_key *k = NULL;
	struct err e = ERR_NULL;

	if (t->argc != 1)
		return tool_usage(t, "of which key file?");
	if (tool_key(t, t->argv[0], &k, &e) < 0)
		return tool_fail(t, NULL, &e);
	return print_pub(t, k, t->argv[0]);
}
