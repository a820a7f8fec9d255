/* SPDX-License-Identifier: Apache-2.0 */
#include "host/api/facts.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* "crun version 1.8.1" */
static void look_crun(struct facts *f)
{
	char words[128] = "";
	int out[2], status = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		execlp("crun", "crun", "--version", NULL);
		_exit(127);
	}
	close(out[1]);
	n = pid > 0 ? read(out[0], words, sizeof(words) - 1) : 0;
	close(out[0]);
	if (pid > 0)
		(void)!waitpid(pid, &status, 0);
	words[n > 0 ? n : 0] = '\0';
	if (sscanf(words, "crun version %47[0-9A-Za-z.+~-]", f->crun) != 1)
		f->crun[0] = '\0';
}

static void look_kvm(struct facts *f)
{
	AUTO(fd_close) int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		f->kvm = errno == ENOENT ? 0 : -errno;
		return;
	}
	f->kvm = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (f->kvm <= 0)
		f->kvm = -(errno ? errno : ENOTTY);
}

static void look_groups(struct facts *f, const char *path, bool unified, const char *options)
{
	struct {
		const char *word;
		char *to;
	} kinds[] = { { "memory", f->memory }, { "cpu", f->cpu }, { "pids", f->pids } };
	AUTO(str_free) char *file = str_printf("%s/cgroup.controllers", path);
	AUTO(str_free) char *has = NULL;
	struct buf b;
	char *p;
	size_t i;

	buf_init(&b, 4096);
	if (unified && io_read_file(AT_FDCWD, file, &b) < 0)
		buf_consume(&b, buf_len(&b));
	has = str_printf(",%s,", unified ? buf_str(&b) : options);
	buf_fini(&b);
	for (p = has; *p; p++)
		if (*p == ' ' || *p == '\n')
			*p = ',';
	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		AUTO(str_free) char *word = str_printf(",%s,", kinds[i].word);

		if (strstr(has, word))
			(void)!str_copy(kinds[i].to, 4, unified ? "v2" : "v1");
	}
}

/* "36 35 98:0 /root /path opts - type source options" */
static void look_mounts(struct facts *f)
{
	char line[4096], path[512], type[32], options[256];
	FILE *in = fopen("/proc/self/mountinfo", "re");

	while (in && fgets(line, sizeof(line), in)) {
		const char *tail = strstr(line, " - ");

		if (sscanf(line, "%*s %*s %*s %*s %511s", path) == 1 && tail &&
		    sscanf(tail, " - %31s %*s %255s", type, options) == 2 && str_starts(type, "cgroup"))
			look_groups(f, path, str_eq(type, "cgroup2"), options);
	}
	if (in)
		fclose(in);
}

void facts_look(struct facts *f)
{
	struct buf b;

	*f = (struct facts){ .landlock = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1U) };
	if (f->landlock < 0)
		f->landlock = 0;
	f->vhost_vsock = access("/dev/vhost-vsock", F_OK) == 0;
	buf_init(&b, 64);
	f->user_namespaces = access("/proc/self/ns/user", F_OK) == 0 &&
			     (io_read_file(AT_FDCWD, "/proc/sys/user/max_user_namespaces", &b) < 0 ||
			      strtoull(buf_str(&b), NULL, 10) > 0);
	buf_fini(&b);
	look_kvm(f);
	look_mounts(f);
	look_crun(f);
}
