/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for the agent in tests of the privileged process: the same command line and descriptors, but what it does
 * with a connection is run the line that comes in with sh, its input and output being the connection. Static, since it
 * runs on any root.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void serve(int conn)
{
	char line[4096];
	size_t n = 0;

	while (n < sizeof(line) - 1 && read(conn, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	dup2(conn, 0);
	dup2(conn, 1);
	dup2(conn, 2);
	close(conn);
	signal(SIGCHLD, SIG_DFL);
	execl("/bin/sh", "sh", "-c", line, (char *)NULL);
	printf("no shell: %s\n", strerror(errno));
	fflush(stdout);
	_exit(127);
}

int main(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int conn = accept(3, NULL, NULL);

		if (conn < 0)
			return 1;
		if (fork() == 0)
			serve(conn);
		close(conn);
	}
}
