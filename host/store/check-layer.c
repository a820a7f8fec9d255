/* SPDX-License-Identifier: Apache-2.0 */
/* fsck: what snapshots of whole sandboxes have beside their rows. Each fact belongs to a snapshot, and the layer that
 * it names is there, with the bytes that it had. */
#include "host/store/check.h"
#include "host/store/layer.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define LAYER "layer/"
#define DOOR "door/"

static void check_image(struct check *c, const char *snapshot, const struct layer_words *w)
{
	AUTO(fd_close) int fd = c->layers->open(c->layers->ctx, w->layer);
	struct digest d;
	struct stat st;
	uint64_t size;
	int r;

	if (fd == -ENOENT && c->layers->may_lack) {
		check_note(c, "snapshot %s has no layer any more: there is its workspace", snapshot);
		return;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		check_say(c, "the layer of snapshot %s, %.16s, %s", snapshot, w->layer,
			  fd == -ENOENT ? "is missing" : "cannot be opened");
	else if (!S_ISREG(st.st_mode))
		check_say(c, "the layer of snapshot %s, %.16s, is no file", snapshot, w->layer);
	else if (w->size && (uint64_t)st.st_size != w->size)
		check_say(c, "the layer of snapshot %s, %.16s, has %llu bytes and should have %llu", snapshot, w->layer,
			  (unsigned long long)st.st_size, (unsigned long long)w->size);
	if (fd < 0 || !S_ISREG(st.st_mode) || digest_is_zero(&w->digest) || (uint64_t)st.st_size != w->size)
		return;
	r = layer_digest(fd, NULL, &size, &d);
	if (r < 0)
		check_say(c, "the layer of snapshot %s, %.16s, cannot be read: %s", snapshot, w->layer, err_name(-r));
	else if (!digest_eq(&d, &w->digest))
		check_say(c, "the layer of snapshot %s, %.16s, is damaged: its bytes have another hash", snapshot,
			  w->layer);
	c->stats.bytes += (uint64_t)st.st_blocks * 512;
}

static void check_fact(struct check *c, struct txn *t, const char *key, struct span v)
{
	const char *snapshot = strchr(key, '/') + 1;
	struct layer_words w;
	struct snapshot s;

	if (snapshot_get(t, snapshot, &s) == STORE_E_NONE)
		check_say(c, "there is a row %.80s, and no such snapshot", key);
	if (str_starts(key, DOOR)) {
		if (!v.len || memchr(v.p, '\0', v.len))
			check_say(c, "the row %.80s has a form that is unknown", key);
	} else if (layer_words_read(v, &w) < 0) {
		check_say(c, "the row %.80s names no layer", key);
	} else if (c->layers) {
		check_image(c, snapshot, &w);
	}
}

int check_layers(struct check *c, struct txn *t)
{
	enum db_step step = DB_AT_LEAST;
	struct span key = SPAN_NULL, v;
	int r;

	while ((r = db_walk(t->t, WT_META, step, SPAN_NULL, &key, &v)) == 0) {
		AUTO(str_free) char *word = span_dup(key);

		if (str_starts(word, LAYER) || str_starts(word, DOOR))
			check_fact(c, t, word, v);
		step = DB_NEXT;
	}
	return MIN(r, 0);
}
