/* SPDX-License-Identifier: Apache-2.0 */
/* Files that lost their last name just now. Between the lookup of a name and the open of what it was another file may
 * get that name; the one that was looked up is opened then, as everywhere. Of a few, for the moment. */
#include "host/ws/state.h"

#include <sys/stat.h>

void gone_note(struct ws *ws, const struct node *n)
{
	if (!S_ISREG(n->mode) || (n->flags & NODE_PENDING) || content_is_elsewhere(&n->content))
		return;
	lock_take(&ws->lock);
	if (!ws->gone)
		ws->gone = must_calloc(GONE_MAX, sizeof(*ws->gone));
	ws->gone[ws->gone_at] = *n;
	ws->gone[ws->gone_at].nlink = 0;
	ws->gone_at = (ws->gone_at + 1) % GONE_MAX;
	lock_drop(&ws->lock);
}

bool gone_get(struct ws *ws, uint64_t fid, struct node *ret)
{
	bool found = false;
	size_t i;

	lock_take(&ws->lock);
	/* The newest first: it may have come back and gone again. */
	for (i = 1; ws->gone && !found && i <= GONE_MAX; i++) {
		const struct node *n = &ws->gone[(ws->gone_at + GONE_MAX - i) % GONE_MAX];

		found = n->fid == fid;
		if (found)
			*ret = *n;
	}
	lock_drop(&ws->lock);
	return found;
}

/* There may be thousands that are stopped. */
void gone_forget(struct ws *ws)
{
	lock_take(&ws->lock);
	free(ws->gone);
	ws->gone = NULL;
	lock_drop(&ws->lock);
}
