/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tool runs where it can do no harm (host/priv/fetch.c); what it says is a stranger's, so what is read of it is
 * bounded and of its words only those that can be shown are passed on. It ends when our end of its socket closes.
 */
#include "host/image/tool.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/image/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	BEGIN_MS = 60000,
	LOOK_MS = 300,
	WORDS_MAX = 8192,
	WORD_TOLD = 110,
	WHY_TOLD = 90,
	PIECE = 4096,
	FETCH_S = 60,
	FDS = 3
};

struct run {
	const struct image_job *job;
	struct priv_fetch_spec spec;
	int life, words, out, pidfd, dir;
	struct gate *gate;
	struct buf said, *to; /* the last of its words; its output */
	bool named;
};

static void run_fini(struct run *r)
{
	fd_close(&r->life);
	fd_close(&r->words);
	fd_close(&r->out);
	fd_close(&r->pidfd);
	fd_close(&r->dir);
	gate_free(&r->gate);
	buf_fini(&r->said);
}

/* --- the beginning ------------------------------------------------------------------------------------------------ */

static int auth_file(struct span auth, int *ret, struct err *e)
{
	AUTO(fd_close) int fd = -1;

	if (!auth.len)
		return 0;
	fd = memfd_create("auth", MFD_CLOEXEC);
	if (fd < 0 || io_write_full(fd, auth.p, auth.len) < 0)
		return err_sys(e, -EIO, "the image tool's credentials");
	*ret = fd_take(&fd);
	return 0;
}

static int start(struct run *r, struct err *e)
{
	AUTO(fd_close) int auth = -1;
	int life[2] = { -1, -1 }, words[2] = { -1, -1 }, out[2] = { -1, -1 };
	int n = auth_file(r->job->auth, &auth, e);

	if (n < 0)
		return n;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, life) < 0 || pipe2(words, O_CLOEXEC) < 0 ||
	    pipe2(out, O_CLOEXEC) < 0)
		n = err_sys(e, -errno, "the image tool");
	if (n == 0)
		n = priv_fetch_start(r->job->conf->priv, &r->spec, life[1], words[1], out[1], auth, &r->pidfd, e);
	fd_close(&life[1]);
	fd_close(&words[1]);
	fd_close(&out[1]);
	r->life = life[0];
	r->words = words[0];
	r->out = out[0];
	if (n == 0 && (fd_nonblock(r->words, true) < 0 || fd_nonblock(r->out, true) < 0))
		n = err_sys(e, -EIO, "the image tool");
	return n;
}

/* Its sockets, and its directory. */
static int meet(struct run *r, struct err *e)
{
	struct pollfd p = { .fd = r->life, .events = POLLIN };
	struct priv_fetch_begun begun;
	int fds[FDS] = { -1, -1, -1 };
	size_t n = FDS, wanted = 1U + (r->spec.tunnel != 0) + (r->spec.op == PRIV_FETCH_IMAGE), i;
	ssize_t len;

	if (poll(&p, 1, BEGIN_MS) <= 0)
		return err_set(e, -ETIMEDOUT, "no-image", "the image tool does not begin");
	len = io_recv_fds(r->life, &begun, sizeof(begun), fds, &n);
	if (len == (ssize_t)sizeof(begun) && !begun.err.code && n == wanted) {
		r->gate = gate_new(fds[0], r->spec.tunnel ? fds[1] : -1, r->job->ref, r->named);
		r->dir = r->spec.op == PRIV_FETCH_IMAGE ? fds[n - 1] : -1;
		return 0;
	}
	for (i = 0; len > 0 && i < n; i++)
		fd_close(&fds[i]);
	if (len == (ssize_t)sizeof(begun) && begun.err.code) {
		if (e)
			*e = begun.err;
		return begun.err.code;
	}
	return err_set(e, -EIO, "no-image", "the image tool does not begin");
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

/* Between the quotes of the tool's log lines; else all of the line. In place. */
static char *plain(char *line)
{
	char *msg = strstr(line, " msg=\""), *from, *to;

	if (!msg) {
		for (to = line; *to; to++)
			if ((unsigned char)*to < ' ' || *to == 0x7f)
				*to = ' ';
		return line;
	}
	from = to = msg += strlen(" msg=\"");
	for (; *from && *from != '"'; from++) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = (unsigned char)*from < ' ' || *from == 0x7f ? ' ' : *from;
	}
	*to = '\0';
	return msg;
}

/* The last line is the judgement, the one before it the reason. */
static int judge(struct run *r, struct err *e)
{
	AUTO(str_free) char *all = str_printf("\n%s", buf_str(&r->said));
	const char *what = "the tool was cut off", *gate = gate_why(r->gate);
	size_t n = strlen(all);
	char *line;

	while (n && all[n - 1] == '\n')
		all[--n] = '\0';
	line = strrchr(all, '\n');
	if (line && str_eq(line + 1, "berth: ok"))
		return 0;
	if (line && str_starts(line + 1, "berth: failed: ")) {
		what = line + 1 + strlen("berth: failed: ");
		*line = '\0';
		line = strrchr(all, '\n');
		/* "skopeo ended with 1" says less than what it said itself. */
		if (line && line[1] && str_starts(what, "skopeo ended"))
			what = plain(line + 1);
	}
	/* Of a long chain of reasons the last ones count. */
	n = strlen(what);
	return err_set(e, -EIO, "no-image", "%s%s%s%.*s%s", n > WORD_TOLD ? "..." : "",
		       what + (n > WORD_TOLD ? n - WORD_TOLD : 0), gate[0] ? " (" : "", WHY_TOLD, gate,
		       gate[0] ? ")" : "");
}

static int hear(struct run *r, struct err *e)
{
	char piece[PIECE];
	ssize_t n;

	while ((n = read(r->words, piece, sizeof(piece))) > 0) {
		if (buf_len(&r->said) + (size_t)n > WORDS_MAX)
			buf_consume(&r->said, buf_len(&r->said) + (size_t)n - WORDS_MAX);
		buf_append(&r->said, piece, (size_t)n);
	}
	while (r->to && (n = read(r->out, piece, sizeof(piece))) > 0)
		if (buf_append(r->to, piece, (size_t)n) < 0)
			return err_set(e, -EBADMSG, "bad-image", "what the registry sent is too long for a manifest");
	return 0;
}

static int await(struct run *r, struct err *e)
{
	int n = 0;

	for (;;) {
		struct pollfd p[] = { { .fd = r->pidfd, .events = POLLIN },
				      { .fd = r->words, .events = POLLIN },
				      { .fd = r->to ? r->out : -1, .events = POLLIN } };

		gate_wait(r->gate, p, ARRAY_LEN(p), LOOK_MS);
		n = hear(r, e);
		if (n < 0 || p[0].revents)
			break;
		/* Their writers are gone; the end will be told, too. */
		if (p[1].revents & POLLHUP && p[2].revents & POLLHUP)
			fd_close(&r->out);
		n = r->job->go_on ? r->job->go_on(r->job->ctx) : 0;
		if (n == 0 && clock_now() > r->job->until)
			n = err_set(e, -ETIMEDOUT, "no-image", "the registry takes too long%s%.90s",
				    gate_why(r->gate)[0] ? ": " : "", gate_why(r->gate));
		if (n < 0)
			break;
	}
	if (n < 0)
		return n;
	n = hear(r, e);
	return n < 0 ? n : judge(r, e);
}

static int run(const struct image_job *job, enum priv_fetch_op op, const char *digest, struct buf *to, int *ret_dir,
	       struct err *e)
{
	const struct image_ref *ref = job->ref;
	AUTO(run_fini)
	struct run r = { .job = job, .life = -1, .words = -1, .out = -1, .pidfd = -1, .dir = -1, .to = to };
	bool by_tag = !digest[0] && !ref->digest[0];
	int n;

	buf_init(&r.said, WORDS_MAX);
	r.named = ref_allowed(ref, job->conf->allow) == REF_BY_NAME;
	r.spec = (struct priv_fetch_spec){ .op = (uint32_t)op, .tunnel = ref->is_here ? ref->port : 0,
					   .room_b = job->conf->size_max_b,
					   .seconds = (uint32_t)(job->conf->time_ms / 1000) + FETCH_S };
	snprintf(r.spec.image, sizeof(r.spec.image), "%s/%s%s%s", ref->host, ref->path, by_tag ? ":" : "@sha256:",
		 digest[0]	  ? digest
		 : ref->digest[0] ? ref->digest
				  : ref->tag);
	n = start(&r, e);
	if (n == 0)
		n = meet(&r, e);
	if (n == 0)
		n = await(&r, e);
	if (n == 0 && ret_dir)
		*ret_dir = fd_take(&r.dir);
	return n;
}

int tool_manifest(const struct image_job *job, const char *digest, struct buf *to, struct err *e)
{
	return run(job, PRIV_FETCH_MANIFEST, digest, to, NULL, e);
}

int tool_image(const struct image_job *job, const char *digest, int *ret_dir, struct err *e)
{
	return run(job, PRIV_FETCH_IMAGE, digest, NULL, ret_dir, e);
}
