/* SPDX-License-Identifier: Apache-2.0 */
/* The host's end of shipping in the lab: contents as they come, and what makes them come. */
#include "guest-lab.h"

#include "base/own.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void ship_begin(struct host *h, const struct msg_SHIP *m)
{
	struct shipment *now = &h->now;
	struct span nodes = m->node;
	struct inode *i;

	cr_assert_not(now->is_open);
	free(now->data);
	*now = (struct shipment){ .ship = *m, .is_open = true };
	cr_assert(msg_rec_next(&nodes, MSG_NODE, &now->node));
	now->data = calloc(1, now->node.size + 1);
	if (!m->base)
		return;
	h->deltas++;
	i = map_get_u64(&h->inodes, now->node.fid);
	cr_assert(i && i->has_data && i->shipped == m->base);
	memcpy(now->data, i->data, MIN(i->data_len, now->node.size));
}

static void ship_data(struct host *h, const struct msg_SHIP_DATA *m)
{
	struct shipment *now = &h->now;

	cr_assert(now->is_open);
	cr_assert_leq(m->offset + m->data.len, now->node.size);
	memcpy(now->data + m->offset, m->data.p, m->data.len);
	h->ship_bytes += m->data.len;
	h->owed += m->data.len;
	cr_assert_leq(h->owed, WIRE_SHIP_WINDOW);
	if (!h->hold_credit)
		host_pay(h, h->owed);
}

static void ship_end(struct host *h, const struct msg_SHIP_END *m)
{
	struct shipment *now = &h->now;
	struct inode *i;

	cr_assert(now->is_open);
	now->is_open = false;
	h->gone += m->gone;
	h->voids += !m->ok;
	if (!m->ok)
		return;
	i = map_get_u64(&h->inodes, now->node.fid);
	/* Its name was told, or the agent says in which batch it comes. */
	cr_assert(i || h->keep || now->ship.behind > h->seq);
	if (!i)
		i = inode_put(h, &now->node);
	free(i->data);
	i->data = now->data;
	now->data = NULL;
	i->data_len = now->node.size;
	i->shipped = now->ship.ship;
	i->has_data = true;
	i->absent = false;
	h->ships++;
	wire_send(&h->ship, MSG_SHIP_ACK, &(struct msg_SHIP_ACK){ .ship = now->ship.ship, .ok = 1 });
}

static void ship_aside(struct host *h, const struct msg_SHIP_ASIDE *m)
{
	struct shipment *from = m->ship ? &h->aside : &h->now, *to = m->ship ? &h->now : &h->aside;

	cr_assert(from->is_open && !to->is_open);
	cr_assert(!m->ship || from->ship.ship == m->ship);
	free(to->data);
	*to = *from;
	*from = (struct shipment){ .is_open = false };
	h->asides += m->ship == 0;
}

void host_pay(struct host *h, uint64_t bytes)
{
	struct msg_WINDOW m = { .stream = 0, .bytes = MIN(bytes, h->owed) };

	h->owed -= m.bytes;
	if (m.bytes)
		wire_send(&h->ship, MSG_WINDOW, &m);
}

void host_on_ship(struct host *h)
{
	union {
		struct msg_SHIP ship;
		struct msg_SHIP_DATA data;
		struct msg_SHIP_END end;
		struct msg_SHIP_ASIDE aside;
		char room[512];
	} m;
	unsigned type = wire_next(&h->ship, &m);

	cr_assert_neq(type, 0, "the ship connection was closed");
	if (type == MSG_SHIP) {
		ship_begin(h, &m.ship);
	} else if (type == MSG_SHIP_DATA) {
		ship_data(h, &m.data);
	} else if (type == MSG_SHIP_ASIDE) {
		ship_aside(h, &m.aside);
	} else {
		cr_assert_eq(type, MSG_SHIP_END);
		ship_end(h, &m.end);
	}
}

/* The path of an inode as the model has it; false when it has no name. */
static bool path_of(struct host *h, uint64_t fid, char *to, size_t size)
{
	struct map_slot *slot;
	size_t pos = 0, len;

	if (fid == h->root) {
		to[0] = '\0';
		return true;
	}
	while ((slot = map_next(&h->entries, &pos))) {
		struct entry *e = slot->value;

		if (e->fid != fid || !path_of(h, e->parent, to, size))
			continue;
		len = strlen(to);
		snprintf(to + len, size - len, "%s%s", len ? "/" : "", e->name);
		return true;
	}
	return false;
}

/* What a host owes: an inode that a scan told without a mark, and whose content it lacks, is asked for. */
static void fetch_missing(struct host *h)
{
	struct map_slot *slot;
	size_t pos = 0;

	while ((slot = map_next(&h->inodes, &pos))) {
		struct inode *i = slot->value;
		char path[4096];
		struct msg_FETCH m = { .fid = i->node.fid };

		if (!S_ISREG(i->node.mode) || i->node.size == 0 || i->names ||
		    (i->has_data && !i->absent && i->data_len == i->node.size) ||
		    !path_of(h, m.fid, path, sizeof(path)))
			continue;
		m.path = span_str(path);
		wire_send(&h->control, MSG_FETCH, &m);
	}
}

unsigned host_sync(struct host *h)
{
	struct msg_SYNC m = { 0 };

	fetch_missing(h);
	return host_call(h, MSG_SYNC, &m);
}

void lab_fill(const char *path, uint64_t at, size_t len, int byte)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	uint8_t *data = malloc(len);
	size_t i;

	for (i = 0; i < len; i++)
		data[i] = (uint8_t)(byte + (int)(i * 31 >> 3));
	cr_assert_eq(pwrite(fd, data, len, (off_t)at), (ssize_t)len);
	close(fd);
	free(data);
}

void host_barrier(const struct lab *l, struct host *h)
{
	struct run r = RUN(l, h, SPEC(0), "true");

	cr_assert_eq(r.how, WIRE_EXITED);
	run_fini(&r);
}

bool lab_holds_removed(const struct lab *l)
{
	char dir[64], path[400], target[4096];
	bool found = false;
	struct dirent *d;
	DIR *fds;
	ssize_t n;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)l->pid);
	fds = opendir(dir);
	cr_assert_not_null(fds);
	while ((d = readdir(fds))) {
		snprintf(path, sizeof(path), "%s/%s", dir, d->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[MAX(n, 0)] = '\0';
		found |= strstr(target, "/ws/") && strstr(target, " (deleted)");
	}
	closedir(fds);
	return found;
}
