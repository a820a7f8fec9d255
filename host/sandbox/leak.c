/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox was given is looked for in what it puts out; docs/leak-watch.md. */
#include "host/sandbox/state.h"

#include "base/str.h"
#include "host/sandbox/event.h"
#include "host/secret/watch.h"

static void told(void *ctx, const char *id, const char *text)
{
	if (ctx)
		events_emit(ctx, "sandbox.leak", id, "", text);
}

struct watch *hub_watch(struct hub *hub, const char *id_or_name)
{
	struct watch *w = NULL;
	struct sandbox *s;

	if (!hub->conf.secrets || (hub->conf.watch_output == WATCH_OFF && !hub->conf.watch_files))
		return NULL;
	lock_take(&hub->lock);
	s = hub_get(hub, id_or_name);
	if (s && !s->leaks)
		s->leaks = watch_new(&(struct watch_conf){
			.secrets = hub->conf.secrets,
			.pool = hub->conf.work,
			.sandbox = s->info.id,
			.owner = s->info.owner,
			.output = (enum watch_mode)hub->conf.watch_output,
			.files = hub->conf.watch_files,
			.told = told,
			.ctx = hub->conf.events,
		});
	if (s)
		w = watch_ref(s->leaks);
	lock_drop(&hub->lock);
	return w;
}

static void in_file(void *ctx, const char *path, const char *name, unsigned form)
{
	AUTO(str_free) char *where = str_printf("the file %s", path);

	if (watch_files(ctx))
		watch_tell(ctx, where, name, (enum leak_form)form);
}

static void hold(void *ctx, bool on)
{
	struct watch *w = ctx;

	if (on)
		watch_ref(w);
	else
		watch_unref(&w);
}

void leak_given(struct hub *hub, const char *id, struct ws *ws, const char *name, struct secret *value)
{
	AUTO(watch_unref) struct watch *w = hub_watch(hub, id);

	if (!w)
		return;
	watch_add(w, name, SPAN(secret_use(value), secret_len(value)));
	secret_rest(value);
	if (watch_files(w))
		ws_look_for(ws, &(struct ws_leaks){ watch_leaks(w), in_file, hold, w });
}
