/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread listens: to what the broker tells, and to its death, after which it has another one started. Everything
 * else asks from its own thread, one question at a time (LOCK_PRIV's kind of lock: an answer belongs to the question
 * before).
 *
 * Descriptors of connections are kept here as well as in the broker, as long as the broker has them: when it dies,
 * whoever waits for an answer gets one from us.
 */
#include "host/broker/client.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/broker/say.h"
#include "json/json.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PER_SANDBOX = 256, BACK_MS = 5000, PATIENCE_S = 10, STARTS_PER_MINUTE = 10, SOCKET_BUF = 1024 * 1024 };

struct place {
	int fd; /* -1: free */
	char sandbox[SAY_WORD];
};

struct broker {
	struct broker_conf conf;
	struct lock ask_lock;  /* ask: one question and its answer */
	struct lock lock;      /* all below */
	pthread_cond_t cond;
	int ask, tell;
	bool up;	/* it is there and knows all that it must */
	bool begun, ending;
	struct map rules; /* char *, by sandbox: for a broker that is started again */
	struct place places[SAY_SLOTS];
	_Atomic uint8_t *slots; /* shared with the broker */
	int slots_fd;
	struct seal_pub pub;
	pthread_t thread;
	bool has_thread;
};

static int gone(struct err *e)
{
	return err_set(e, -EPIPE, "broker-gone",
		       "the process that holds the secrets is not there; it is started again");
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* @ret: what follows the answer, NULL: nothing is wanted. Held: ask_lock. */
static int receive(struct broker *b, struct secret **ret, struct err *e)
{
	AUTO(secret_free) struct secret *in = secret_new(sizeof(struct say_answer) + SAY_TAIL_MAX);
	struct say_answer *a;
	size_t n = 0;
	ssize_t len;
	int r = 0;

	if (!in)
		return err_sys(e, -ENOMEM, "memory");
	a = (void *)secret_use(in);
	len = io_recv_fds(b->ask, a, secret_len(in), NULL, &n);
	if (len < (ssize_t)sizeof(*a))
		r = gone(e);
	else if (a->err.code)
		r = a->err.code < 0 ? a->err.code : -EIO;
	if (r < 0 && len >= (ssize_t)sizeof(*a) && e)
		*e = a->err;
	if (r == 0 && ret) {
		*ret = secret_of(SPAN(a + 1, (size_t)len - sizeof(*a)));
		r = *ret ? 0 : err_sys(e, -ENOMEM, "memory");
	}
	secret_rest(in);
	return r;
}

static void give_up(struct broker *b)
{
	fd_close(&b->ask);
	lock_take(&b->lock);
	if (b->tell >= 0)
		shutdown(b->tell, SHUT_RDWR);
	lock_drop(&b->lock);
}

static int ask_now(struct broker *b, struct say_ask *q, struct span tail, int fd, struct secret **ret, struct err *e)
{
	AUTO(mem_free) uint8_t *out = must_calloc(1, sizeof(*q) + tail.len);
	int r;

	q->magic = SAY_MAGIC;
	memcpy(out, q, sizeof(*q));
	if (tail.len)
		memcpy(out + sizeof(*q), tail.p, tail.len);
	lock_take(&b->ask_lock);
	r = b->ask < 0 ? -EPIPE : io_send_fds(b->ask, out, sizeof(*q) + tail.len, &fd, fd >= 0 ? 1 : 0);
	r = r < 0 ? gone(e) : receive(b, ret, e);
	if (r == -EPIPE)
		give_up(b); /* whatever it would answer later belongs to no question */
	lock_drop(&b->ask_lock);
	return r;
}

/* Waits for a broker that is being started. */
static int ask(struct broker *b, struct say_ask *q, struct span tail, int fd, struct secret **ret, struct err *e)
{
	uint64_t until = clock_after_ms(BACK_MS);
	bool up;

	if (tail.len > SAY_TAIL_MAX)
		return err_set(e, -E2BIG, "bad-secret", "it is too long");
	lock_take(&b->lock);
	while (!b->up && !b->ending && lock_wait(&b->lock, &b->cond, until) == 0)
		;
	up = b->up;
	lock_drop(&b->lock);
	return up ? ask_now(b, q, tail, fd, ret, e) : gone(e);
}

int broker_open(struct broker *b, struct span sealed, struct secret **ret, struct err *e)
{
	struct say_ask q = { .op = ret ? SAY_OPEN : SAY_CHECK };

	return ask(b, &q, sealed, -1, ret, e);
}

int broker_keep(struct broker *b, const char *name, struct span sealed, struct err *e)
{
	struct say_ask q = { .op = sealed.len ? SAY_KEEP : SAY_DROP };

	if (str_copy(q.name, sizeof(q.name), name) < 0 || sealed.len > SAY_TAIL_MAX)
		return err_set(e, -EINVAL, "bad-secret", "name or file of a secret");
	return ask_now(b, &q, sealed, -1, NULL, e);
}

struct seal_pub broker_pub(const struct broker *b)
{
	return b->pub;
}

/* What a guest says of itself. */
static void put_command(struct say_who *to, const struct broker_who *who)
{
	if (!who->exec || !str_is_id(who->exec, sizeof(to->exec) - 1))
		return;
	(void)!str_copy(to->exec, sizeof(to->exec), who->exec);
	if (who->command)
		say_clean(to->command, sizeof(to->command), span_str(who->command));
}

static int put_who(struct say_who *to, const struct broker_who *who, struct err *e)
{
	if (str_copy(to->sandbox, sizeof(to->sandbox), who->sandbox ? who->sandbox : "") < 0 ||
	    str_copy(to->template_, sizeof(to->template_), who->template_ ? who->template_ : "") < 0 ||
	    str_copy(to->key, sizeof(to->key), who->key && *who->key ? who->key : "socket") < 0 ||
	    str_copy(to->secrets, sizeof(to->secrets), who->secrets ? who->secrets : "") < 0)
		return err_set(e, -EINVAL, "bad-request", "a name of a sandbox or its secrets is too long");
	put_command(to, who);
	return 0;
}

static int none(struct err *e)
{
	return err_set(e, -ENOSYS, "no-broker", "this daemon has no broker");
}

/* --- rules -------------------------------------------------------------------------------------------------------- */

static void keep_rules(struct broker *b, const char *sandbox, struct span text)
{
	char *old;

	lock_take(&b->lock);
	old = text.len ? map_put(&b->rules, span_str(sandbox), span_dup(text))
		       : map_remove(&b->rules, span_str(sandbox));
	lock_drop(&b->lock);
	free(old);
}

int broker_rules(struct broker *b, const char *sandbox, struct span text, struct err *e)
{
	const struct broker_who who = { .sandbox = sandbox };
	struct say_ask q = { .op = SAY_RULES };
	int r = b ? put_who(&q.who, &who, e) : none(e);

	if (r < 0)
		return r;
	keep_rules(b, sandbox, text); /* first: one that dies now is followed by another, which hears them */
	r = ask(b, &q, text, -1, NULL, e);
	if (r < 0 && r != -EPIPE)
		keep_rules(b, sandbox, SPAN_NULL);
	return r == -EPIPE ? 0 : r;
}

/* On the thread that starts it, before anybody else may ask. */
static void tell_rules(struct broker *b)
{
	VEC(char *) all = { 0 };
	struct map_slot *slot;
	size_t pos = 0, i;

	lock_take(&b->lock);
	while ((slot = map_next(&b->rules, &pos))) {
		vec_push(&all, span_dup(SPAN(slot->key, slot->num)));
		vec_push(&all, must_strdup(slot->value));
	}
	lock_drop(&b->lock);
	for (i = 0; i < all.len; i += 2) {
		struct say_ask q = { .op = SAY_RULES };
		struct err e = ERR_NULL;

		(void)!str_copy(q.who.sandbox, sizeof(q.who.sandbox), all.v[i]);
		if (ask_now(b, &q, span_str(all.v[i + 1]), -1, NULL, &e) < 0)
			log_warn("broker", "does not know the rules of a sandbox", "id=%s why=%s", all.v[i], e.text);
		free(all.v[i]);
		free(all.v[i + 1]);
	}
	vec_fini(&all);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

/* Return: the place, -EUSERS. */
static int place_take(struct broker *b, const char *sandbox, int fd)
{
	int i, at = -1, mine = 0;

	lock_take(&b->lock);
	for (i = 0; i < SAY_SLOTS; i++) {
		if (b->places[i].fd < 0)
			at = at < 0 ? i : at;
		else
			mine += str_eq(b->places[i].sandbox, sandbox);
	}
	if (mine >= PER_SANDBOX)
		at = -1;
	if (at >= 0) {
		b->places[at].fd = fd;
		atomic_store(&b->slots[at], SAY_IDLE);
		(void)!str_copy(b->places[at].sandbox, SAY_WORD, sandbox);
	}
	lock_drop(&b->lock);
	return at >= 0 ? at : -EUSERS;
}

static void place_drop(struct broker *b, uint32_t at)
{
	int fd = -1;

	lock_take(&b->lock);
	if (at < SAY_SLOTS) {
		fd = b->places[at].fd;
		b->places[at].fd = -1;
	}
	lock_drop(&b->lock);
	fd_close(&fd);
}

int broker_take(struct broker *b, const struct broker_who *who, int fd_, struct err *e)
{
	AUTO(fd_close) int fd = fd_;
	struct say_ask q = { .op = SAY_TAKE };
	int at, r = b ? put_who(&q.who, who, e) : none(e);

	if (r < 0)
		return r;
	at = place_take(b, q.who.sandbox, fd);
	if (at < 0)
		return err_set(e, -EUSERS, "too-many-connections", "too many connections to services are open");
	q.slot = (uint32_t)at;
	r = ask(b, &q, SPAN_NULL, fd, NULL, e);
	(void)fd_take(&fd); /* the place's */
	if (r < 0)
		place_drop(b, q.slot);
	return r;
}

/* It is dead, and whoever waits on these would wait for ever. */
static void last_words(struct broker *b)
{
	static const char words[] =
		"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
		"Connection: close\r\nContent-Length: 101\r\n\r\n"
		"{\"error\":{\"rule\":\"broker-gone\",\"message\":\"the process that holds the secrets died;"
		" ask again\"}}     \n";
	uint32_t i;

	for (i = 0; i < SAY_SLOTS; i++) {
		int fd;

		lock_take(&b->lock);
		fd = b->places[i].fd;
		b->places[i].fd = -1;
		lock_drop(&b->lock);
		if (fd < 0)
			continue;
		if (atomic_load(&b->slots[i]) == SAY_ASKED)
			(void)!send(fd, words, sizeof(words) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		shutdown(fd, SHUT_RDWR);
		close(fd);
	}
}

/* --- what it tells ------------------------------------------------------------------------------------------------ */

static bool tell_ok(const struct say_tell *t, ssize_t len)
{
	return len == (ssize_t)sizeof(*t) && t->magic == SAY_MAGIC && SAY_FIELD_OK(t->who.sandbox) &&
	       SAY_FIELD_OK(t->who.key) && SAY_FIELD_OK(t->who.exec) && SAY_FIELD_OK(t->who.command) &&
	       SAY_FIELD_OK(t->secret) && SAY_FIELD_OK(t->service) &&
	       SAY_FIELD_OK(t->method) && SAY_FIELD_OK(t->host) && SAY_FIELD_OK(t->path) && SAY_FIELD_OK(t->rule);
}

static int audit(struct broker *b, const struct say_tell *t)
{
	const struct broker_use u = { .secret = t->secret,
				      .service = t->service,
				      .sandbox = t->who.sandbox,
				      .key = t->who.key,
				      .method = t->method,
				      .host = t->host,
				      .path = t->path,
				      .rule = t->rule,
				      .exec = t->who.exec,
				      .command = t->who.command,
				      .first = t->kind == SAY_FIRST,
				      .refused = t->kind == SAY_REFUSED,
				      .status = t->status,
				      .count = t->count,
				      .up_b = t->up_b,
				      .down_b = t->down_b };
	bool begun;

	lock_take(&b->lock);
	begun = b->begun;
	lock_drop(&b->lock);
	return begun ? b->conf.audit(b->conf.ctx, &u) : -EPIPE;
}

/* Until it is gone. */
static void listen_to(struct broker *b)
{
	struct say_tell t;
	ssize_t len;

	while ((len = recv(b->tell, &t, sizeof(t), 0)) > 0 || (len < 0 && errno == EINTR)) {
		struct say_heard h;

		if (!tell_ok(&t, len))
			break;
		if (t.kind == SAY_GONE) {
			place_drop(b, t.slot);
			continue;
		}
		h = (struct say_heard){ .id = t.id, .code = audit(b, &t) };
		if (t.kind == SAY_FIRST && send(b->tell, &h, sizeof(h), MSG_NOSIGNAL) < 0)
			break;
	}
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

static int make_pair(int pair[2])
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	const int size = SOCKET_BUF;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	(void)!setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)!setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	(void)!setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

static int read_pub(struct broker *b, struct err *e)
{
	AUTO(secret_free) struct secret *text = NULL;
	struct say_ask q = { .op = SAY_PUB };
	int r = ask_now(b, &q, SPAN_NULL, -1, &text, e);

	if (r < 0)
		return r;
	r = seal_pub_parse(SPAN(secret_use(text), secret_len(text)), &b->pub, e);
	secret_rest(text);
	return r;
}

static void close_both(struct broker *b)
{
	lock_take(&b->ask_lock);
	fd_close(&b->ask);
	lock_drop(&b->ask_lock);
	lock_take(&b->lock);
	fd_close(&b->tell);
	b->up = false;
	lock_drop(&b->lock);
}

static int start(struct broker *b, struct err *e)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	int asks[2] = { -1, -1 }, tells[2] = { -1, -1 }, fds[3], r = make_pair(asks);

	if (r == 0)
		r = make_pair(tells);
	if (r < 0) {
		fd_close(&asks[0]);
		fd_close(&asks[1]);
		return err_sys(e, r, "socketpair");
	}
	fds[0] = asks[1];
	fds[1] = tells[1];
	fds[2] = b->slots_fd;
	r = b->conf.start(b->conf.ctx, fds, e);
	close(asks[1]);
	close(tells[1]);
	(void)!setsockopt(asks[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	lock_take(&b->ask_lock);
	b->ask = asks[0];
	lock_drop(&b->ask_lock);
	lock_take(&b->lock);
	b->tell = tells[0];
	lock_drop(&b->lock);
	if (r == 0)
		r = read_pub(b, e);
	if (r < 0)
		close_both(b);
	return r;
}

static bool is_ending(struct broker *b)
{
	bool ending;

	lock_take(&b->lock);
	ending = b->ending;
	lock_drop(&b->lock);
	return ending;
}

/* Waits as long as @ms, or until the end. */
static void pause_ms(struct broker *b, uint64_t ms)
{
	uint64_t until = clock_after_ms(ms);

	lock_take(&b->lock);
	while (!b->ending && lock_wait(&b->lock, &b->cond, until) == 0)
		;
	lock_drop(&b->lock);
}

static void start_again(struct broker *b)
{
	struct err e = ERR_NULL;
	bool begun;
	int r;

	while ((r = start(b, &e)) < 0 && !is_ending(b)) {
		log_error("broker", "cannot be started", "why=%s", e.text);
		pause_ms(b, 60000 / STARTS_PER_MINUTE);
	}
	if (r < 0)
		return;
	lock_take(&b->lock);
	begun = b->begun;
	lock_drop(&b->lock);
	if (begun)
		b->conf.again(b->conf.ctx);
	tell_rules(b);
	lock_take(&b->lock);
	b->up = true;
	pthread_cond_broadcast(&b->cond);
	lock_drop(&b->lock);
}

static void *run(void *ctx)
{
	struct broker *b = ctx;
	uint64_t started = clock_now();

	for (;;) {
		listen_to(b);
		close_both(b);
		last_words(b);
		if (is_ending(b))
			return NULL;
		log_error("broker", "the process that holds the secrets is gone: starting another", NULL);
		if (clock_now() - started < 60 * CLOCK_S / STARTS_PER_MINUTE)
			pause_ms(b, 200);
		started = clock_now();
		start_again(b);
		if (is_ending(b))
			return NULL;
	}
}

static int make_slots(struct broker *b)
{
	void *p;

	b->slots_fd = memfd_create("connections", MFD_CLOEXEC);
	if (b->slots_fd < 0 || ftruncate(b->slots_fd, SAY_SLOTS) < 0)
		return -errno;
	p = mmap(NULL, SAY_SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, b->slots_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	b->slots = p;
	return 0;
}

int broker_new(const struct broker_conf *conf, struct broker **ret, struct err *e)
{
	AUTO(broker_free) struct broker *b = NEW(struct broker);
	uint32_t i;
	int r;

	b->conf = *conf;
	b->ask = b->tell = b->slots_fd = -1;
	lock_init(&b->ask_lock, "broker", LOCK_PRIV);
	lock_init(&b->lock, "broker-state", LOCK_LEAF);
	lock_cond_init(&b->cond);
	for (i = 0; i < SAY_SLOTS; i++)
		b->places[i].fd = -1;
	r = make_slots(b);
	if (r < 0)
		return err_sys(e, r, "memory that is shared with the broker");
	r = start(b, e);
	if (r < 0)
		return r;
	b->up = true;
	r = -pthread_create(&b->thread, NULL, run, b);
	if (r < 0)
		return err_sys(e, r, "pthread_create");
	b->has_thread = true;
	*ret = take(&b);
	return 0;
}

void broker_ready(struct broker *b)
{
	lock_take(&b->lock);
	b->begun = true;
	lock_drop(&b->lock);
	b->conf.again(b->conf.ctx);
}

void broker_quiet(struct broker *b)
{
	if (!b)
		return;
	lock_take(&b->lock);
	b->ending = true;
	b->begun = false;
	if (b->tell >= 0)
		shutdown(b->tell, SHUT_RDWR);
	pthread_cond_broadcast(&b->cond);
	lock_drop(&b->lock);
	if (b->has_thread)
		pthread_join(b->thread, NULL);
	b->has_thread = false;
}

void broker_free(struct broker **slot)
{
	struct broker *b = take(slot);
	char *text;

	if (!b)
		return;
	broker_quiet(b);
	close_both(b);
	last_words(b);
	if (b->slots)
		munmap((void *)(uintptr_t)b->slots, SAY_SLOTS);
	fd_close(&b->slots_fd);
	while ((text = map_take_any(&b->rules)))
		free(text);
	map_fini(&b->rules);
	pthread_cond_destroy(&b->cond);
	lock_fini(&b->lock);
	lock_fini(&b->ask_lock);
	free(b);
}

/* --- services ----------------------------------------------------------------------------------------------------- */

static void service_fini(struct broker_service *s)
{
	size_t i;

	for (i = 0; i < s->n_vars; i++) {
		str_free(&s->vars[i].name);
		str_free(&s->vars[i].value);
	}
	mem_free(&s->vars);
	str_free(&s->name);
	str_free(&s->secret);
	str_free(&s->git_from);
	str_free(&s->git_to);
	str_free(&s->npmrc);
	str_free(&s->pip);
}

void broker_services_fini(struct broker_services *s)
{
	while (s->n)
		service_fini(&s->v[--s->n]);
	mem_free(&s->v);
}

static char *text_of(const struct json *j, const char *key)
{
	return must_strdup(json_get_str(j, key, NULL));
}

static void read_service(const struct json *j, struct broker_service *s)
{
	const struct json *vars = json_get(j, "vars");
	size_t i;

	s->name = must_strdup(json_get_str(j, "name", ""));
	s->secret = must_strdup(json_get_str(j, "secret", ""));
	s->git_from = text_of(j, "git_from");
	s->git_to = text_of(j, "git_to");
	s->npmrc = text_of(j, "npmrc");
	s->pip = text_of(j, "pip");
	s->vars = must_calloc(json_len(vars) + 1, sizeof(s->vars[0]));
	for (i = 0; i < json_len(vars); i++) {
		s->vars[i].name = must_strdup(json_get_str(json_at(vars, i), "name", ""));
		s->vars[i].value = must_strdup(json_get_str(json_at(vars, i), "value", ""));
		s->n_vars++;
	}
}

int broker_services(struct broker *b, const struct broker_who *who, struct broker_services *ret, struct err *e)
{
	AUTO(secret_free) struct secret *text = NULL;
	AUTO(json_free) struct json *j = NULL;
	struct say_ask q = { .op = SAY_SERVICES };
	int r = b ? put_who(&q.who, who, e) : none(e);
	size_t i;

	if (r == 0)
		r = ask(b, &q, SPAN_NULL, -1, &text, e);
	if (r < 0)
		return r;
	r = json_parse(SPAN(secret_use(text), secret_len(text)), &j, e);
	secret_rest(text);
	if (r < 0)
		return r;
	*ret = (struct broker_services){ .v = must_calloc(json_len(j) + 1, sizeof(ret->v[0])) };
	for (i = 0; i < json_len(j); i++)
		read_service(json_at(j, i), &ret->v[ret->n++]);
	return 0;
}
