/* SPDX-License-Identifier: Apache-2.0 */
/* Not there yet. */
#include "host/broker/client.h"

#include "base/io.h"

#include <errno.h>

static int none(struct err *e)
{
	return err_set(e, -ENOSYS, "no-broker", "there is no broker yet");
}

int broker_services(struct broker *b UNUSED, const struct broker_who *who UNUSED, struct broker_services *ret UNUSED,
		    struct err *e)
{
	return none(e);
}

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

int broker_take(struct broker *b UNUSED, const struct broker_who *who UNUSED, int fd, struct err *e)
{
	fd_close(&fd);
	return none(e);
}
