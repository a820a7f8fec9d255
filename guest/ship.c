/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A file is requested (in the queue, once, by its fid), under way (one at a time), or sent and waiting for the
 * host's acknowledgement. A request made while the file is under way or sent makes a new one: the same bytes twice do
 * no harm, a missing change would.
 *
 * What was read counts only when size, times and inode are the same before and after; otherwise the shipment is void
 * and the file waits, longer each time. A file that never rests is shipped as it is after some tries: its growth when
 * it only grew, whatever was read when even that does not hold; and is requested again.
 *
 * A large file may have to wait for credit: the host keeps it back while somebody looks into other workspaces. It
 * leaves some credit to others all the same, and when one of those is ready it rests until they are through
 * (SHIP_ASIDE). When it is found to have changed while it waited, it is given up at once.
 *
 * Large dense files are read in whole blocks, hashed, and compared with the table of the last acknowledged shipment;
 * sparse files by ranges of data. A turn of the loop moves a bounded number of bytes, and the host's credit bounds what
 * is in the air.
 */
#include "guest/ship-inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

enum {
	SENT_MAX = 1024,
	TURN = 1024 * 1024,
	DENSE_MIN = 1024 * 1024,
	FULL_MAX = 64 * 1024,
	PAGE = 4096,
	BACKOFF_MS = 20,
	BACKOFF_MAX_MS = 1000,
	TRIES_GROWING = 4,
	TRIES_ANY = 8,
	TRIES_GONE = 2,
	CAP_KEPT = 1024,
};

static const struct under_way nothing = { .fd = -1 };

/* --- one file ---------------------------------------------------------------------------------------------------- */

static bool same_file(int fd, uint64_t fid, struct node *ret)
{
	return fd >= 0 && node_of(fd, ret) == 0 && ret->fid == fid && S_ISREG(ret->st.st_mode);
}

static int open_quietly(int dirfd, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	int fd = node_open(dirfd, name, flags | O_NOATIME, 0, false);

	return fd == -EPERM ? node_open(dirfd, name, flags, 0, false) : fd;
}

/* Return: a descriptor of the very file; -ENOENT when it is not under any name that we know; -errno. */
static int open_file(struct ship *s, const struct request *r, struct node *ret)
{
	AUTO(fd_close) int fd = -1;
	int first = -ENOENT;

	if (r->name) {
		int dir = dirs_open(s->dirs, r->parent);

		fd = dir < 0 ? -ENOENT : open_quietly(dir, r->name);
		if (same_file(fd, r->fid, ret))
			return fd_take(&fd);
		first = fd < 0 ? fd : -ENOENT;
		fd_close(&fd);
	}
	if (r->path && *r->path) {
		fd = open_quietly(s->tree->fd, r->path);
		if (same_file(fd, r->fid, ret))
			return fd_take(&fd);
	}
	return first;
}

/* Files are read one after the other; a disk that has to be asked for them is asked for many at once. */
static void look_ahead(struct ship *s, struct request *r)
{
	struct list *node = &r->node;
	unsigned n;

	s->ahead.n = r->hinted && s->ahead.n ? s->ahead.n - 1 : 0;
	if (!ahead_due(&s->ahead))
		return;
	for (n = 0; n < AHEAD_FILES && node != &s->queue; n++, node = node->next) {
		struct request *next = list_entry(node, struct request, node);
		int dir = next->name && !next->hinted ? dirs_open(s->dirs, next->parent) : -1;

		if (dir < 0)
			continue;
		next->hinted = true;
		s->ahead.n += next != r;
		ahead_of(dir, next->name);
	}
}

static void settle(struct ship *s, struct request *r)
{
	request_free(&r);
	s->progress(s->ctx);
}

static void wait_longer(struct request *r)
{
	uint64_t ms = BACKOFF_MS;
	unsigned i;

	for (i = 0; i < r->tries && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	r->not_before = clock_after_ms(MIN(ms, (uint64_t)BACKOFF_MAX_MS));
	r->tries++;
}

static bool send_head(struct ship *s, uint64_t base, const struct node *n)
{
	uint8_t room[256];
	struct buf b = { .p = room, .cap = sizeof(room), .limit = sizeof(room) };
	struct msg_NODE rec = node_wire(n);
	struct msg_SHIP m = { .ship = ++s->ships, .base = base, .behind = *s->told };

	if (msg_encode(&b, MSG_NODE, &rec) < 0)
		return false;
	m.node = buf_span(&b);
	return conn_send(s->conn, MSG_SHIP, &m) == 0;
}

static void send_end(struct ship *s, bool ok, bool gone)
{
	(void)!conn_send(s->conn, MSG_SHIP_END, &(struct msg_SHIP_END){ .ok = ok, .gone = gone });
}

/* Not to be opened: perhaps just renamed, so once more a little later; then the host is told. */
static void no_file(struct ship *s, struct request *r, int why)
{
	struct node *n = &s->now.before;

	if (r->tries < TRIES_GONE) {
		wait_longer(r);
		ship_requeue(s, r);
		return;
	}
	memset(&n->st, 0, sizeof(n->st));
	n->fid = r->fid;
	n->target_len = 0;
	if (send_head(s, 0, n))
		send_end(s, false, why == -ENOENT || why == -ESTALE);
	settle(s, r);
}

static bool is_large(const struct under_way *u)
{
	return u->before.st.st_size > WIRE_SHIP_LARGE;
}

/* It was not sent: what the host has is still what it was. */
static void drop_tables(struct ship *s, struct under_way *u)
{
	if (u->base)
		blocks_put(&s->store, take(&u->base));
	mem_free(&u->blocks);
}

static void begin(struct ship *s, struct request *r)
{
	struct under_way *u = &s->now;
	struct list *behind = r->node.next;
	uint64_t size;

	list_remove(&r->node);
	map_remove_u64(&s->by_fid, r->fid);
	if (!s->by_fid.len && s->by_fid.cap > CAP_KEPT)
		map_fini(&s->by_fid); /* a burst leaves nothing behind */
	u->fd = open_file(s, r, &u->before);
	if (u->fd < 0) {
		no_file(s, r, u->fd);
		return;
	}
	r->is_large = s->aside.req && is_large(u);
	if (r->is_large) {
		fd_close(&u->fd);
		map_put_u64(&s->by_fid, r->fid, r);
		list_append(behind, &r->node);
		return;
	}
	size = (uint64_t)u->before.st.st_size;
	u->req = r;
	u->at = u->data_end = 0;
	u->broken = u->waited = false;
	u->full = size <= FULL_MAX && (uint64_t)u->before.st.st_blocks * 512 >= size;
	u->dense = size > DENSE_MIN && (uint64_t)u->before.st.st_blocks * 512 >= size / 4 * 3;
	u->base = u->dense ? blocks_take(&s->store, r->fid) : NULL;
	if (!u->dense)
		blocks_forget(&s->store, r->fid);
	send_head(s, u->base ? u->base->ship : 0, &u->before);
	u->ship = s->ships;
	u->blocks = u->dense ? blocks_new(r->fid, u->ship, (size + BLOCK - 1) / BLOCK) : NULL;
}

static bool at_rest(const struct under_way *u, bool *ret_grew)
{
	const struct stat *a = &u->before.st;
	struct stat b;

	*ret_grew = false;
	if (fstat(u->fd, &b) < 0)
		return false;
	*ret_grew = b.st_size >= a->st_size;
	return a->st_ino == b.st_ino && a->st_size == b.st_size && clock_ns(a->st_mtim) == clock_ns(b.st_mtim) &&
	       clock_ns(a->st_ctim) == clock_ns(b.st_ctim);
}

static void remember_sent(struct ship *s, struct request *r)
{
	struct sent *sent = NEW(struct sent);

	*sent = (struct sent){ .ship = s->now.ship, .req = r, .blocks = take(&s->now.blocks) };
	list_init(&sent->node);
	list_append(&s->sent, &sent->node);
	map_put_u64(&s->in_air, r->fid, sent);
	s->n_sent++;
}

static void finish(struct ship *s)
{
	struct under_way *u = &s->now;
	struct request *r = take(&u->req);
	bool grew, rest = at_rest(u, &grew) && !u->broken, ok;

	if (!rest && (!grew || u->broken))
		r->shrank = true;
	ok = rest || (!u->broken && r->tries >= (r->shrank ? (unsigned)TRIES_ANY : (unsigned)TRIES_GROWING));
	fd_close(&u->fd);
	send_end(s, ok, false);
	if (!rest) { /* it goes on changing: see again later */
		struct request *again = r;

		if (ok) {
			again = NEW(struct request);
			*again = (struct request){
				.ord = ++s->ord, .fid = r->fid, .parent = r->parent, .tries = r->tries
			};
			again->shrank = r->shrank;
			again->name = r->name ? span_dup(span_str(r->name)) : NULL;
			again->path = r->path ? span_dup(span_str(r->path)) : NULL;
			list_init(&again->node);
		}
		wait_longer(again);
		ship_requeue(s, again);
	}
	if (ok) {
		remember_sent(s, r);
		mem_free(&u->base);
	}
	drop_tables(s, u);
}

static bool is_gone(const struct under_way *u)
{
	struct stat st;

	return u->req && fstat(u->fd, &st) == 0 && st.st_nlink == 0;
}

void ship_lost(struct ship *s)
{
	struct under_way *u = &s->now;

	if (is_gone(&s->aside)) { /* the host hears of it in its turn */
		fd_close(&s->aside.fd);
		s->aside.broken = true;
		ship_go_on(s);
	}
	if (!is_gone(u))
		return;
	fd_close(&u->fd);
	send_end(s, false, true);
	drop_tables(s, u);
	settle(s, take(&u->req));
	ship_go_on(s);
}

/* --- moving bytes ------------------------------------------------------------------------------------------------ */

enum step { STEP_ON, STEP_WAIT, STEP_DONE };

static size_t read_at(struct ship *s, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = ahead_read(&s->ahead, s->now.fd, s->room + got, len - got, (off_t)(s->now.at + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	s->progress_n += got;
	if (got < len)
		s->now.broken = true; /* it became shorter, or the disk failed */
	return got;
}

static void send_data(struct ship *s, size_t len)
{
	struct msg_SHIP_DATA m = { .offset = s->now.at, .data = SPAN(s->room, len) };

	if (len && conn_send(s->conn, MSG_SHIP_DATA, &m) == 0)
		s->credit -= MIN(s->credit, (uint64_t)len);
}

/* Credit that a large file does not touch: what waits behind it is small, and must not wait. */
static uint64_t left_to_others(const struct under_way *u)
{
	return is_large(u) ? WIRE_SHIP_LARGE : 0;
}

static enum step step_dense(struct ship *s)
{
	struct under_way *u = &s->now;
	size_t i = u->at / BLOCK, len = MIN((uint64_t)BLOCK, (uint64_t)u->before.st.st_size - u->at);
	uint64_t h;

	if (s->credit < len + left_to_others(u))
		return STEP_WAIT;
	if (read_at(s, len) < len)
		return STEP_DONE;
	h = blocks_hash(&s->store, s->room, len);
	if (!u->base || i >= u->base->n || u->base->hash[i] != h)
		send_data(s, len);
	if (u->blocks)
		u->blocks->hash[i] = h;
	u->at += len;
	return STEP_ON;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return !len || (!*p && memcmp(p, p + 1, len - 1) == 0);
}

/*
 * Most files are small and have no holes, and to ask for those costs two calls. Blocks that are none of its data may
 * hide one, but not that what is read there is zero.
 * Return: false when there may be a hole, and nothing was sent.
 */
static bool whole(struct ship *s)
{
	size_t size = (size_t)s->now.before.st.st_size, at;

	if (read_at(s, size) < size)
		return true;
	for (at = 0; at < size; at += PAGE)
		if (is_zero(s->room + at, MIN((size_t)PAGE, size - at)))
			return false;
	send_data(s, size);
	s->now.at = size;
	return true;
}

static enum step step_sparse(struct ship *s)
{
	struct under_way *u = &s->now;
	uint64_t size = (uint64_t)u->before.st.st_size;
	size_t len;

	if (u->full && s->credit < size)
		return STEP_WAIT;
	if (u->full && whole(s))
		return STEP_DONE;
	u->full = false;
	if (u->at >= u->data_end) {
		off_t data = lseek(u->fd, (off_t)u->at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(u->fd, data, SEEK_HOLE);

		if (data < 0 && errno == ENXIO)
			return STEP_DONE; /* a hole up to the end */
		u->at = data < 0 ? u->at : (uint64_t)data;
		u->data_end = hole < 0 ? size : MIN(size, (uint64_t)hole);
		if (u->at >= size)
			return STEP_DONE;
	}
	len = MIN((uint64_t)BLOCK, u->data_end - u->at);
	if (s->credit < len + left_to_others(u))
		return STEP_WAIT;
	len = read_at(s, len);
	send_data(s, len);
	u->at += len;
	return u->broken ? STEP_DONE : STEP_ON;
}

static enum step step(struct ship *s)
{
	bool grew;

	if (s->now.broken || s->now.at >= (uint64_t)s->now.before.st.st_size)
		return STEP_DONE;
	if (s->now.waited && s->now.req->tries < TRIES_GROWING && !at_rest(&s->now, &grew)) {
		s->now.at = (uint64_t)s->now.before.st.st_size; /* all of it would be void */
		return STEP_DONE;
	}
	s->now.waited = false;
	return s->now.dense ? step_dense(s) : step_sparse(s);
}

/* The next request whose time has come; otherwise the timer is set for the first one. */
static struct request *choose(struct ship *s)
{
	uint64_t now = clock_now(), first = CLOCK_NEVER;
	struct list *node;

	list_each(node, &s->queue) {
		struct request *r = list_entry(node, struct request, node);

		if (map_get_u64(&s->in_air, r->fid))
			continue; /* its acknowledgement brings us back */
		if (s->aside.req && (r->is_large || r->fid == s->aside.req->fid))
			continue; /* behind that one */
		if (r->not_before <= now)
			return r;
		first = MIN(first, r->not_before);
	}
	loop_rearm(s->turn, first);
	return NULL;
}

static void say_aside(struct ship *s, uint64_t ship)
{
	(void)!conn_send(s->conn, MSG_SHIP_ASIDE, &(struct msg_SHIP_ASIDE){ .ship = ship });
}

/* The one under way lacks credit. Return: true when another one goes first. */
static bool overtake(struct ship *s)
{
	struct request *r;

	if (s->aside.req || !s->can_rest || !is_large(&s->now))
		return false;
	s->aside = s->now; /* so that choose() knows */
	r = choose(s);
	if (!r) {
		s->aside = nothing;
		return false;
	}
	say_aside(s, 0);
	s->now = nothing;
	begin(s, r);
	return true;
}

/* Nothing is under way. Return: true when the one that rests goes on: it can, or nobody else is ready. */
static bool go_on_aside(struct ship *s, bool idle)
{
	if (!s->aside.req || !(idle || s->aside.broken || s->credit >= WIRE_SHIP_LARGE + BLOCK))
		return false;
	say_aside(s, s->aside.ship);
	s->now = s->aside;
	s->aside = nothing;
	return true;
}

/* Return: false when there is nothing to do. */
static bool next(struct ship *s)
{
	struct request *r;

	if (go_on_aside(s, false))
		return true;
	r = choose(s);
	if (!r)
		return go_on_aside(s, true);
	look_ahead(s, r);
	begin(s, r);
	return true;
}

static void turn(struct ship *s)
{
	size_t moved = 0;

	while (moved < TURN && s->conn && conn_room(s->conn) && s->n_sent < SENT_MAX) {
		uint64_t at = s->now.at;
		enum step did;

		if (!s->now.req) {
			if (!next(s))
				return;
			moved += 4096;
			continue;
		}
		did = step(s);
		if (did == STEP_WAIT) {
			s->now.waited = true;
			if (!overtake(s))
				return;
			moved += 4096;
			continue;
		}
		moved += s->now.at - at;
		if (did == STEP_DONE)
			finish(s);
	}
	if (moved >= TURN)
		loop_rearm(s->turn, 0);
}

/* Nothing here frees the connection: its end is told by the loop. */
static void on_turn(void *ctx)
{
	struct ship *s = ctx;

	if (!s->conn)
		return;
	conn_hold(s->conn);
	turn(s);
	conn_let_go(s->conn);
	dirs_uncache(s->dirs);
}

void ship_go_on(struct ship *s)
{
	if (s->conn)
		loop_rearm(s->turn, 0);
}

/* --- the host's side --------------------------------------------------------------------------------------------- */

static struct sent *sent_find(struct ship *s, uint64_t ship)
{
	struct list *node;

	list_each(node, &s->sent)
		if (list_entry(node, struct sent, node)->ship == ship)
			return list_entry(node, struct sent, node);
	return NULL;
}

static void on_ack(struct ship *s, const struct msg_SHIP_ACK *m)
{
	struct sent *sent = sent_find(s, m->ship);
	struct request *r;

	if (!sent)
		return;
	r = take(&sent->req);
	if (m->ok && sent->blocks)
		blocks_put(&s->store, take(&sent->blocks));
	list_remove(&sent->node);
	map_remove_u64(&s->in_air, r->fid);
	s->n_sent--;
	s->progress_n++;
	if (m->ok) {
		settle(s, r);
	} else {
		blocks_forget(&s->store, r->fid);
		ship_requeue(s, r);
	}
	mem_free(&sent->blocks);
	free(sent);
	ship_go_on(s);
}

int ship_frame(struct ship *s, const struct frame *f)
{
	struct msg_SHIP_ACK ack;
	struct msg_WINDOW win;
	int r;

	if (f->type == MSG_SHIP_ACK) {
		r = msg_decode(f->type, f->payload, &ack, NULL);
		if (r == 0)
			on_ack(s, &ack);
		return r;
	}
	if (f->type != MSG_WINDOW)
		return -EBADMSG;
	r = msg_decode(f->type, f->payload, &win, NULL);
	if (r == 0) {
		s->credit = MIN(s->credit + win.bytes, (uint64_t)1 << 30);
		ship_go_on(s);
	}
	return r;
}

static void give_up(struct ship *s, struct under_way *u)
{
	if (!u->req)
		return;
	fd_close(&u->fd);
	drop_tables(s, u);
	ship_requeue(s, take(&u->req));
}

void ship_detach(struct ship *s)
{
	struct list *node;

	s->conn = NULL;
	give_up(s, &s->now);
	give_up(s, &s->aside);
	while ((node = list_shift(&s->sent))) {
		struct sent *sent = list_entry(node, struct sent, node);

		blocks_forget(&s->store, sent->req->fid);
		ship_requeue(s, take(&sent->req));
		mem_free(&sent->blocks);
		free(sent);
	}
	map_fini(&s->in_air);
	s->n_sent = 0;
}

void ship_attach(struct ship *s, struct conn *conn, unsigned generation)
{
	ship_detach(s);
	s->conn = conn;
	s->can_rest = generation >= wire_since(MSG_SHIP_ASIDE);
	s->credit = WIRE_SHIP_WINDOW;
	ship_go_on(s);
}

struct ship *ship_new(struct loop *loop, const struct tree *tree, struct dirs *dirs, const uint64_t *told,
		      ship_progress_fn *progress, void *ctx)
{
	struct ship *s = NEW(struct ship);
	uint64_t seed = 0;

	(void)!getrandom(&seed, sizeof(seed), GRND_NONBLOCK);
	*s = (struct ship){
		.loop = loop, .tree = tree, .dirs = dirs, .told = told, .progress = progress, .ctx = ctx,
	};
	s->now = s->aside = nothing;
	list_init(&s->queue);
	list_init(&s->sent);
	blocks_init(&s->store, seed);
	s->room = must_calloc(1, BLOCK);
	s->turn = loop_timer(loop, CLOCK_NEVER, on_turn, s);
	return s;
}

void ship_free(struct ship **slot)
{
	struct ship *s = take(slot);
	struct request *r;

	if (!s)
		return;
	ship_detach(s);
	while ((r = map_take_any(&s->by_fid)))
		request_free(&r);
	map_fini(&s->by_fid);
	blocks_fini(&s->store);
	loop_untimer(&s->turn);
	free(s->room);
	free(s);
}
