/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that the guest asks for: who answers to which name. The table is the loop's own. */
#include "host/link/state.h"

#include "base/str.h"

#include <errno.h>

enum { SERVICES_MAX = 64 };

struct job {
	struct link *link;
	const char *name;
	const struct link_service *service;
	int result;
};

static void serve_on_loop(void *ctx)
{
	struct job *job = ctx;
	struct link *l = job->link;
	struct span name = span_str(job->name);

	if (l->state != LINK_UP)
		job->result = -EPIPE;
	else if (map_get(&l->services, name))
		job->result = -EEXIST;
	else if (l->services.len >= SERVICES_MAX)
		job->result = -EAGAIN;
	else
		map_put(&l->services, name, must_memdup(job->service, sizeof(*job->service)));
}

int link_serve(struct link *l, const char *name, const struct link_service *service, struct err *e)
{
	struct job job = { .link = l, .name = name, .service = service };

	loop_post(l->loop, serve_on_loop, &job);
	loop_sync(l->loop);
	if (job.result == -EPIPE)
		return err_set(e, -EPIPE, "agent-gone", "no connection to the agent");
	if (job.result == -EEXIST)
		return err_set(e, -EEXIST, "name-taken", "there is a service of this name");
	if (job.result < 0)
		return err_set(e, job.result, "limits", "at most %d services", SERVICES_MAX);
	return 0;
}

/* Not by a call: the link may end before its mail is read. The answer is to a call that nobody made, and ignored. */
static void unlisten(struct link *l, struct span name)
{
	struct msg_UNLISTEN m = { .name = name };

	if (l->state == LINK_UP && l->generation >= wire_since(MSG_UNLISTEN) && conn_room(l->control))
		link_say(l, MSG_UNLISTEN, &m);
}

void link_unserve(struct link *l, const char *name)
{
	free(map_remove(&l->services, span_str(name)));
	unlisten(l, span_str(name));
}

void link_refuse(struct link *l, uint64_t ask)
{
	struct msg_REFUSE m = { .ask = ask };

	/* An agent that asks and does not read: it lets them go by itself. */
	if (l->state == LINK_UP && conn_room(l->control))
		link_say(l, MSG_REFUSE, &m);
}

void services_ask(struct link *l, struct span payload)
{
	const struct link_service *service;
	struct msg_ASK m;

	if (msg_decode(MSG_ASK, payload, &m, NULL) < 0)
		return;
	service = map_get(&l->services, m.name);
	if (service) {
		service->ask(service->ctx, m.ask);
		return;
	}
	link_refuse(l, m.ask);
	unlisten(l, m.name); /* of a daemon that is no more */
}

void services_gone(struct link *l)
{
	struct link_service *service;

	while ((service = map_take_any(&l->services))) {
		service->gone(service->ctx);
		free(service);
	}
	map_fini(&l->services);
}
