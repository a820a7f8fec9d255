/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets on their way into a sandbox. Those that it was made with are written down by name only: files are delivered
 * when it begins to run and again after a pause, which takes them away; variables with each of its commands. Values are
 * on this path for as long as a send takes, in guarded memory and in a frame that is zeroed behind it.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/secret/secret.h"
#include "wire/frame.h"

#include <errno.h>
#include <stdio.h>

enum { SECRET_CALL_MS = 10000 };

/* The next name of "A,B,C" into @to; false at the end. */
static bool next_name(const char **list, char to[SEAL_NAME_MAX + 1])
{
	size_t len = strcspn(*list, ",");

	if (!len)
		return false;
	snprintf(to, SEAL_NAME_MAX + 1, "%.*s", (int)MIN(len, (size_t)SEAL_NAME_MAX), *list);
	*list += len + ((*list)[len] == ',');
	return true;
}

/* Names alone: it is written into a record of lines. */
static bool is_list(const char *names)
{
	char name[SEAL_NAME_MAX + 1];

	while (*names) {
		if (strcspn(names, ",") > SEAL_NAME_MAX || !next_name(&names, name) || !seal_name_ok(name))
			return false;
	}
	return true;
}

static bool list_has(const char *list, const char *name)
{
	char one[SEAL_NAME_MAX + 1];

	while (next_name(&list, one))
		if (str_eq(one, name))
			return true;
	return false;
}

static int too_old(struct err *e)
{
	return err_set(e, -ENOSYS, "agent-too-old",
		       "the agent of this sandbox is of an older version and takes no secrets");
}

static int none(struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "no-secrets", "this daemon keeps no secrets");
}

int secret_check(struct hub *hub, const struct hub_info *i, const char *names, struct err *e)
{
	struct secrets_wish w = { .template_ = i->template_, .sandbox = i->id, .who = i->owner };
	char name[SEAL_NAME_MAX + 1];
	enum seal_delivery how;
	int r = 0;

	if (names && !is_list(names))
		return err_set(e, -EINVAL, "bad-request", "a list of names of secrets is wanted");
	if (names && *names && !hub->conf.secrets)
		return none(e);
	while (r == 0 && names && next_name(&names, name)) {
		w.name = name;
		r = secrets_look(hub->conf.secrets, &w, &how, e);
		if (r == 0 && how == SEAL_BROKER)
			r = broker_check(hub, i, name, e);
	}
	return r;
}

static int send_value(int fd, const char *name, const char *owner, bool file, struct secret *value, uint64_t until)
{
	struct msg_SECRET m = { .how = file, .name = span_str(name), .owner = span_str(owner) };
	int r;

	m.value = SPAN(secret_use(value), secret_len(value));
	r = frame_send(fd, MSG_SECRET, &m, until);
	secret_rest(value);
	return r;
}

/* OK, or what the agent says. */
static int answer(int fd, uint64_t until, struct err *e)
{
	AUTO(buf_fini) struct buf in;
	struct msg_ERROR m;
	struct frame f;
	int r;

	buf_init(&in, FRAME_HEADER + FRAME_MAX + 4096);
	r = frame_recv(fd, &in, &f, until, e);
	if (r < 0)
		return err_sys(e, r, "the agent takes no secrets");
	if (f.type == MSG_OK)
		return 0;
	if (f.type != MSG_ERROR || msg_decode(f.type, f.payload, &m, e) < 0)
		return err_set(e, -EPROTO, "bad-message", "the agent answers something else");
	return err_set(e, -EIO, "secret-not-taken", "the sandbox did not take the secret: %.*s",
		       (int)MIN(m.text.len, (size_t)160), (const char *)m.text.p);
}

static int send_file(struct sandbox *s, const char *name, struct err *e)
{
	struct secrets_wish w = {
		.name = name, .template_ = s->info.template_, .sandbox = s->info.id, .who = s->info.owner
	};
	AUTO(secret_free) struct secret *value = NULL;
	AUTO(fd_close) int fd = -1;
	char owner[SEAL_OWNER_MAX + 1];
	uint64_t until = clock_after_ms(SECRET_CALL_MS);
	int r = link_speaks(ws_link(s->ws), MSG_SECRET) ? 0 : too_old(e);

	if (r == 0)
		r = secrets_deliver(s->hub->conf.secrets, &w, SEAL_FILE, &value, owner, e);
	if (r == 0)
		r = link_dial(ws_link(s->ws), WIRE_EXEC, until, &fd, e);
	if (r == 0) {
		leak_given(s->hub, s->info.id, s->ws, name, value);
		r = send_value(fd, name, owner, true, value, until);
		if (r < 0)
			err_sys(e, r, "sending a secret");
	}
	return r < 0 ? r : answer(fd, until, e);
}

/* Those of a sandbox that are files. */
int secret_files(struct sandbox *s, struct err *e)
{
	const char *names = s->info.secrets;
	char name[SEAL_NAME_MAX + 1];
	enum seal_delivery how;
	int r = 0;

	while (r == 0 && next_name(&names, name)) {
		struct secrets_wish w = { .name = name, .template_ = s->info.template_, .sandbox = s->info.id,
					  .who = s->info.owner };

		r = s->hub->conf.secrets ? secrets_look(s->hub->conf.secrets, &w, &how, e) : none(e);
		if (r == 0 && how == SEAL_FILE)
			r = send_file(s, name, e);
	}
	return r;
}

void secret_files_again(struct sandbox *s)
{
	const char *names = s->info.secrets;
	char name[SEAL_NAME_MAX + 1];

	while (s->hub->conf.secrets && next_name(&names, name)) {
		struct secrets_wish w = { .name = name, .template_ = s->info.template_, .sandbox = s->info.id,
					  .who = s->info.owner };
		struct err e = ERR_NULL;
		enum seal_delivery how;

		if (secrets_look(s->hub->conf.secrets, &w, &how, &e) == 0 &&
		    (how != SEAL_FILE || send_file(s, name, &e) == 0))
			continue;
		log_warn("secret", "not delivered again", "id=%s name=%s why=%s", s->info.id, name, e.text);
	}
}

/* Root inside could keep them, and has read them anyway: it does not keep its sandbox from being paused. */
void secret_files_drop(struct sandbox *s)
{
	struct msg_SECRETS_DROP m = { .call = 0 };
	struct err e = ERR_NULL;

	if (s->info.secrets[0] &&
	    link_wait(ws_link(s->ws), MSG_SECRETS_DROP, &m, clock_after_ms(SECRET_CALL_MS), NULL, NULL, &e) < 0)
		log_warn("secret", "files were not removed", "id=%s why=%s", s->info.id, e.text);
}

/* One variable; @own: of the sandbox, where files are no failure. */
static int send_variable(struct hub *hub, const struct hub_info *i, struct ws *ws, int fd,
			 const struct hub_secrets *what, const char *name, bool own, struct err *e)
{
	struct secrets_wish w = { .name = name, .template_ = i->template_, .sandbox = i->id, .who = what->who,
				  .command = what->command && *what->command ? what->command : "?" };
	AUTO(secret_free) struct secret *value = NULL;
	char owner[SEAL_OWNER_MAX + 1];
	enum seal_delivery how;
	int r = own ? secrets_look(hub->conf.secrets, &w, &how, NULL) : 0;

	if (own && (r < 0 || how != SEAL_ENV))
		return 0; /* one that may not be had any more does not keep its commands from running */
	r = secrets_deliver(hub->conf.secrets, &w, SEAL_ENV, &value, owner, e);
	if (r == 0) {
		leak_given(hub, i->id, ws, name, value);
		r = send_value(fd, name, "", false, value, clock_after_ms(SECRET_CALL_MS));
		if (r < 0)
			err_sys(e, r, "sending a secret");
	}
	return r;
}

int hub_send_secrets(struct hub *hub, const char *id_or_name, int fd, const struct hub_secrets *what, struct err *e)
{
	const char *names = what->names ? what->names : "", *own;
	AUTO(ws_unref) struct ws *ws = NULL;
	char name[SEAL_NAME_MAX + 1];
	struct hub_info i;
	int r = hub_find(hub, id_or_name, &i, e);

	if (r < 0)
		return r;
	if (!*names && !i.secrets[0])
		return 0;
	if (!hub->conf.secrets)
		return none(e);
	r = hub_ws(hub, id_or_name, &ws, e);
	if (r < 0)
		return r;
	if (!ws_link(ws) || !link_speaks(ws_link(ws), MSG_SECRET))
		return too_old(e);
	for (own = names; r == 0 && next_name(&own, name);)
		r = send_variable(hub, &i, ws, fd, what, name, false, e);
	for (own = i.secrets; r == 0 && next_name(&own, name);)
		if (!list_has(names, name))
			r = send_variable(hub, &i, ws, fd, what, name, true, e);
	return r;
}
