/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth-broker: the process that holds values. It is started by the privileged process, not by people, with
 * descriptors 3 to 6 (host/broker/say.h), as an account without capabilities; here it gives up the rest.
 */
#include "host/broker/serve.h"

#include "base/log.h"
#include "base/str.h"
#include "host/priv/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

static int confine(struct err *e)
{
	int r = secret_process();

	if (r < 0)
		return err_sys(e, r, "not being dumpable");
	if (geteuid() == 0)
		return err_set(e, -EPERM, "root", "it does not run as root");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, -errno, "no_new_privs");
	return seccomp_confine(e);
}

int main(int argc, char **argv)
{
	const char *services = argc > 2 && str_starts(argv[2], "--services=") ? argv[2] + strlen("--services=") : NULL;
	struct err e = ERR_NULL;
	struct serve s;
	int r, fd;

	if (argc != 3 || !services || fcntl(SAY_FD_KEY, F_GETFD) < 0) {
		fputs("berth-broker: started by berthd, not by people\n", stderr);
		return EXIT_USAGE;
	}
	log_setup(LOG_LVL_INFO, LOG_FORM_TEXT, -1);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* the daemon decides what a terminal means */
	for (fd = SAY_FD_ASK; fd <= SAY_FD_KEY; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	r = confine(&e);
	if (r == 0)
		r = serve_init(&s, services, SAY_FD_ASK, SAY_FD_TELL, SAY_FD_SLOTS, SAY_FD_KEY, &e);
	if (r < 0) {
		log_error("broker", "cannot start", "slug=%s why=%s", e.slug, e.text);
		return 1;
	}
	close(SAY_FD_KEY);
	if (!secret_is_locked())
		log_warn("broker", "values are not locked into memory: the swap could see them", NULL);
	r = loop_run(s.loop);
	serve_fini(&s);
	return r < 0 ? 1 : 0;
}
