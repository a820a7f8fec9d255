/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that options name, and how a person gives what must not stand on a command line. */
#include "sealtool/tool.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#define CREDS_WORD "berth-key-creds-1:"

int tool_type(const char *prompt, struct secret **ret)
{
	AUTO(fd_close) int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	AUTO(secret_free) struct secret *s = NULL;
	struct termios old, quiet;
	size_t n = 0;
	uint8_t *p;

	if (fd < 0 || tcgetattr(fd, &old) < 0)
		return -ENOTTY;
	s = secret_new(SEAL_PASS_MAX);
	if (!s)
		return -ENOMEM;
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
	tcsetattr(fd, TCSAFLUSH, &quiet); /* before the prompt: what is typed behind it is not lost */
	(void)!write(fd, prompt, strlen(prompt));
	p = secret_use(s);
	while (n < SEAL_PASS_MAX && read(fd, p + n, 1) == 1 && p[n] != '\n')
		n++;
	secret_rest(s);
	tcsetattr(fd, TCSAFLUSH, &old);
	(void)!write(fd, "\n", 1);
	secret_cut(s, n);
	*ret = take(&s);
	return 0;
}

static int passphrase_of_file(const char *path, struct secret **ret, struct err *e)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int r = fd < 0 ? -errno : secret_read(fd, SEAL_PASS_MAX, ret);
	const uint8_t *p;
	size_t len;

	if (r < 0)
		return err_sys(e, r, "%s", path);
	len = secret_len(*ret);
	p = secret_use(*ret);
	if (len && p[len - 1] == '\n')
		len--;
	secret_rest(*ret);
	secret_cut(*ret, len);
	return 0;
}

int tool_passphrase(struct tool *t, bool twice, struct secret **ret, struct err *e)
{
	AUTO(secret_free) struct secret *first = NULL, *second = NULL;

	if (t->passphrase_file)
		return passphrase_of_file(t->passphrase_file, ret, e);
	if (tool_type("passphrase: ", &first) < 0)
		return err_set(e, -ENOKEY, "passphrase-needed",
			       "a passphrase is needed, and no terminal is here to ask on: --passphrase-file FILE");
	if (twice && (tool_type("once more: ", &second) < 0 || !secret_same(first, second)))
		return err_set(e, -EINVAL, "passphrase-differs", "that was another one");
	if (twice && secret_len(first) == 0)
		return err_set(e, -EINVAL, "passphrase-empty", "an empty passphrase protects nothing");
	*ret = take(&first);
	return 0;
}

static int key_of_creds(const char *path, struct seal_key **ret, struct err *e)
{
	AUTO(secret_free) struct secret *plain = NULL;
	AUTO(buf_fini) struct buf b;
	struct span line;
	const char *p;
	int r;

	buf_init(&b, SEAL_KEY_FILE_MAX);
	r = io_read_file(AT_FDCWD, path, &b);
	if (r < 0)
		return err_sys(e, r, "%s", path);
	p = strstr(buf_str(&b), "\n" CREDS_WORD);
	p = str_starts(buf_str(&b), CREDS_WORD) ? buf_str(&b) : p ? p + 1 : NULL;
	if (!p)
		return err_set(e, -EINVAL, "key-kind", "%s: a key of a kind that is not known here", path);
	p += strlen(CREDS_WORD);
	line = SPAN(p, strcspn(p, "\r\n"));
	r = creds_unwrap(line, &plain, e);
	return r < 0 ? r : seal_key_parse(plain, NULL, ret, e);
}

int tool_key(struct tool *t, const char *path, struct seal_key **ret, struct err *e)
{
	AUTO(secret_free) struct secret *pass = NULL;
	int r = seal_key_load(path, NULL, ret, e);

	if (r == -EPROTO)
		return key_of_creds(path, ret, e);
	if (r != -ENOKEY)
		return r;
	*e = ERR_NULL;
	r = tool_passphrase(t, false, &pass, e);
	return r < 0 ? r : seal_key_load(path, pass, ret, e);
}

int tool_my_key(struct tool *t, struct seal_key **ret, struct err *e)
{
	const char *path = t->key.n ? t->key.v[0] : getenv("BERTH_SEAL_KEY");

	if (t->key.n > 1 || !path || !*path)
		return err_set(e, -EINVAL, "no-key", "which key? --key FILE, once, or BERTH_SEAL_KEY=FILE");
	return tool_key(t, path, ret, e);
}

int tool_pubs(const struct tool_list *names, struct seal_pub ret[SEAL_TO_MAX], struct err *e)
{
	size_t i, n = 0;
	int r;

	for (i = 0; i < names->n; i++) {
		AUTO(buf_fini) struct buf b;

		buf_init(&b, 64 * 1024);
		if (str_starts(names->v[i], "berth-pub-"))
			buf_append(&b, names->v[i], strlen(names->v[i]));
		else if ((r = io_read_file(AT_FDCWD, names->v[i], &b)) < 0)
			return err_sys(e, r, "%s", names->v[i]);
		r = seal_pub_list(buf_span(&b), ret + n, SEAL_TO_MAX - n, e);
		if (r == 0)
			r = err_set(e, -EINVAL, "bad-key", "no public key is in it");
		if (r < 0)
			return err_wrap(e, "%s", names->v[i]);
		n += (size_t)r;
	}
	return (int)n;
}
