/* SPDX-License-Identifier: Apache-2.0 */
#include "host/net/socks.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { SOCKS_VERSION = 5, AUTH_VERSION = 1, METHOD_NONE = 0, METHOD_WORDS = 2, CONNECT = 1 };
enum { KIND_IP4 = 1, KIND_NAME = 3, KIND_IP6 = 4 };
enum { STATE_METHOD, STATE_WORDS, STATE_REPLY };
enum { REPLY_HEAD = 4 };

static void expect(struct socks *s, int state, size_t want)
{
	s->state = state;
	s->have = 0;
	s->want = want;
}

void socks_begin(struct socks *s, const struct policy_proxy *proxy, const struct socks_to *to, struct buf *out)
{
	const uint8_t open[] = { SOCKS_VERSION, 1, METHOD_NONE },
		      both[] = { SOCKS_VERSION, 2, METHOD_NONE, METHOD_WORDS };

	*s = (struct socks){ .proxy = proxy, .to = to };
	if (proxy->user[0])
		buf_append(out, both, sizeof(both));
	else
		buf_append(out, open, sizeof(open));
	expect(s, STATE_METHOD, 2);
}

void *socks_room(struct socks *s, size_t *ret_len)
{
	*ret_len = s->want - s->have;
	return s->in + s->have;
}

static void put_word(struct buf *out, const char *word)
{
	uint8_t len = (uint8_t)strlen(word);

	buf_append(out, &len, 1);
	buf_append(out, word, len);
}

static void say_words(struct socks *s, struct buf *out)
{
	const uint8_t version = AUTH_VERSION;

	buf_append(out, &version, 1);
	put_word(out, s->proxy->user);
	put_word(out, s->proxy->password);
	expect(s, STATE_WORDS, 2);
}

static void say_connect(struct socks *s, struct buf *out)
{
	const struct socks_to *to = s->to;
	bool is_v4 = to->address.family == AF_INET;
	const uint8_t head[] = { SOCKS_VERSION, CONNECT, 0, to->name[0] ? KIND_NAME : is_v4 ? KIND_IP4 : KIND_IP6 };
	const uint8_t port[] = { (uint8_t)(to->port >> 8), (uint8_t)to->port };

	buf_append(out, head, sizeof(head));
	if (to->name[0])
		put_word(out, to->name);
	else
		buf_append(out, to->address.addr, is_v4 ? 4 : 16);
	buf_append(out, port, sizeof(port));
	expect(s, STATE_REPLY, REPLY_HEAD);
}

static int strange(struct err *e)
{
	return err_set(e, -EPROTO, "proxy-strange", "the proxy does not speak SOCKS5");
}

static int read_method(struct socks *s, struct buf *out, struct err *e)
{
	if (s->in[0] != SOCKS_VERSION)
		return strange(e);
	if (s->in[1] == METHOD_WORDS && s->proxy->user[0])
		say_words(s, out);
	else if (s->in[1] == METHOD_NONE)
		say_connect(s, out);
	else
		return err_set(e, -EACCES, "proxy-refused", "the proxy wants to be spoken to in another way (%u)",
			       s->in[1]);
	return SOCKS_E_MORE;
}

static int read_words(struct socks *s, struct buf *out, struct err *e)
{
	if (s->in[0] != AUTH_VERSION)
		return strange(e);
	if (s->in[1] != 0)
		return err_set(e, -EACCES, "proxy-refused", "the proxy does not take these credentials");
	say_connect(s, out);
	return SOCKS_E_MORE;
}

/* The address that follows is the proxy's own business; it must be taken out of the way. */
static int read_reply(struct socks *s, struct err *e)
{
	static const char *const why[] = { "",
					   "it fails",
					   "its rules do not allow it",
					   "the network is unreachable",
					   "the host is unreachable",
					   "the connection was refused",
					   "time is out",
					   "it knows no such command",
					   "it knows no such address" };
	size_t tail;

	if (s->in[0] != SOCKS_VERSION)
		return strange(e);
	if (s->in[1] != 0)
		return err_set(e, -ECONNREFUSED, "proxy-no", "the proxy does not connect: %s (%u)",
			       s->in[1] < ARRAY_LEN(why) ? why[s->in[1]] : "for a reason of its own", s->in[1]);
	if (s->in[3] == KIND_NAME && s->have == REPLY_HEAD) {
		s->want = REPLY_HEAD + 1;
		return SOCKS_E_MORE;
	}
	tail = s->in[3] == KIND_IP4 ? 4 : s->in[3] == KIND_IP6 ? 16 : s->in[3] == KIND_NAME ? 1U + s->in[4] : 0;
	if (!tail)
		return strange(e);
	s->want = REPLY_HEAD + tail + 2;
	return s->have == s->want ? 0 : SOCKS_E_MORE;
}

int socks_read(struct socks *s, size_t n, struct buf *out, struct err *e)
{
	s->have += n;
	if (s->have < s->want)
		return SOCKS_E_MORE;
	switch (s->state) {
	case STATE_METHOD:
		return read_method(s, out, e);
	case STATE_WORDS:
		return read_words(s, out, e);
	default:
		return read_reply(s, e);
	}
}
