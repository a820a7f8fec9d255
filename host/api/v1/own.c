/* SPDX-License-Identifier: Apache-2.0 */
/* Who may see what: a key sees what it made, unless it has the scope "others". What it may not see is not there.
 * Sandboxes of its volumes are none of its sandboxes: whoever ended one would take files from those that mount it. */
#include "host/api/v1/v1.h"

#include "base/str.h"
#include "host/api/e2b/template.h"

#include <errno.h>

bool v1_sees_all(const struct http_req *req)
{
	const struct http_who *who = http_who(req);

	return !who->id[0] || who->sees_all;
}

bool v1_is_own(const struct http_req *req, const struct hub_info *i)
{
	return v1_sees_all(req) || (str_eq(http_who(req)->id, i->owner) && !str_starts(i->name, HUB_VOLUME));
}

int v1_check_own(struct api *api, const struct http_req *req, const char *ref, struct err *e)
{
	AUTO(str_free) char *id = NULL;
	struct hub_info i;
	int r;

	if (!ref || v1_sees_all(req))
		return 0;
	id = span_dup(SPAN(ref, strcspn(ref, "@")));
	r = hub_find_any(api->hub, id, &i, e);
	if (r == 0 && !v1_is_own(req, &i))
		r = err_set(e, -ENOENT, "no-such-sandbox", "no sandbox is called \"%.100s\"", id);
	return r;
}

/* What a key built by way of E2B's door has a name that nobody chose, and is its own: that door knows whose. */
bool v1_sees_template(const struct http_req *req, const char *name)
{
	return v1_sees_all(req) || !str_starts(name, BUILD_DISK);
}

int v1_prepare(void *ctx, struct http_req *req, struct err *e)
{
	return str_starts(http_path(req), "/v1/sandboxes/") ? v1_check_own(ctx, req, http_segment(req, 0), e) : 0;
}
