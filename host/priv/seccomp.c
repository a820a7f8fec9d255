/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of what is allowed, a list of what is refused by name, and ENOSYS for the rest: calls that are younger than
 * the list look like those of an older kernel, for which libraries have a fallback, while a refusal that a person may
 * have to understand says EPERM. Nothing is killed: a library's harmless probe must not take the daemon down.
 *
 * clone may only make threads. clone3 has its flags behind a pointer, which a filter cannot see, so it does not exist.
 * Sockets are those of the wire and of HTTP. The sanitizers' runtime needs a tracer and helper processes of its own at
 * exit; a build with them allows these too.
 *
 * The image tool is not ours, nor are the calls that it makes: its filter is a list of what is refused.
 */
#include "host/priv/seccomp.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct call {
	const char *name;
	enum { CALL_ALLOW, CALL_REFUSE, CALL_SANITIZER } what;
};

static const struct call calls[] = {
#define ALLOW(name) {#name, CALL_ALLOW},
#define REFUSE(name) {#name, CALL_REFUSE},
#define SANITIZER(name) {#name, CALL_SANITIZER},
#include "host/priv/daemon-calls.def"
#undef ALLOW
#undef REFUSE
#undef SANITIZER
};

static int add(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned n, struct scmp_arg_cmp cmp)
{
	int nr = seccomp_syscall_resolve_name(name);

	if (nr == __NR_SCMP_ERROR || nr < 0)
		return 0; /* this architecture, or this library, does not know it: then it stays ENOSYS */
	return seccomp_rule_add_array(ctx, action, nr, n, n ? &cmp : NULL);
}

static int add_calls(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp none = {.arg = 0};
	size_t i;
	int r;

	for (i = 0; i < ARRAY_LEN(calls); i++) {
		bool allow = calls[i].what == CALL_ALLOW || (calls[i].what == CALL_SANITIZER && BERTH_SANITIZED);

		r = add(ctx, allow ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM), calls[i].name, 0, none);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Typing into the terminal that the daemon was started from. A filter of its own: "all but these" cannot be said in one
 * that lists what is allowed. The kernel looks at 32 bits of the command, so we do too. */
static int add_terminal(scmp_filter_ctx ctx)
{
	static const unsigned long refused[] = {TIOCSTI, TIOCLINUX, TIOCSETD};
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_LEN(refused) && r == 0; i++)
		r = add(ctx, SCMP_ACT_ERRNO(EPERM), "ioctl", 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, refused[i]));
	return r;
}

/* Calls that depend on an argument. */
static int add_special(scmp_filter_ctx ctx)
{
	static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
	const uint64_t thread = CLONE_THREAD;
	const uint64_t all = thread | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
			     CLONE_NEWPID | CLONE_NEWNET;
	size_t i;
	int r;

	r = add(ctx, SCMP_ACT_ALLOW, "clone", 1, SCMP_A0(SCMP_CMP_MASKED_EQ, all, thread));
	if (r == 0 && BERTH_SANITIZED)
		r = add(ctx, SCMP_ACT_ALLOW, "clone", 1, SCMP_A0(SCMP_CMP_MASKED_EQ, all, 0));
	if (r == 0 && !BERTH_SANITIZED)
		r = add(ctx, SCMP_ACT_ERRNO(EPERM), "clone", 1, SCMP_A0(SCMP_CMP_MASKED_EQ, thread, 0));
	for (i = 0; i < ARRAY_LEN(families) && r == 0; i++) {
		scmp_datum_t family = (scmp_datum_t)families[i];

		r = add(ctx, SCMP_ACT_ALLOW, "socket", 1, SCMP_A0(SCMP_CMP_EQ, family, 0));
		if (r == 0 && families[i] == AF_UNIX)
			r = add(ctx, SCMP_ACT_ALLOW, "socketpair", 1, SCMP_A0(SCMP_CMP_EQ, family, 0));
	}
	return r;
}

static int add_all(scmp_filter_ctx ctx)
{
	int r = add_calls(ctx);

	return r == 0 ? add_special(ctx) : r;
}

/* What a program of the distribution that meets strangers needs least. All else is allowed: what it needs is its
 * makers' to say. Families of sockets: the network namespace does not hold all of them, AF_VSOCK reaches the host. */
static int add_tool(scmp_filter_ctx ctx)
{
	static const char *const refused[] = {
		"unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr",
		"move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "bpf", "perf_event_open",
		"userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key",
		"request_key", "ptrace", "process_vm_readv", "process_vm_writev" };
	static const char *const makers[] = { "socket", "socketpair" };
	static const unsigned namespaces[] = { CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER,
					       CLONE_NEWPID, CLONE_NEWNET };
	const struct scmp_arg_cmp none = { .arg = 0 };
	const uint32_t no_family = SCMP_ACT_ERRNO(EAFNOSUPPORT);
	unsigned family;
	size_t i;
	int r = add(ctx, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, none);

	for (i = 0; i < ARRAY_LEN(refused) && r == 0; i++)
		r = add(ctx, SCMP_ACT_ERRNO(EPERM), refused[i], 0, none);
	for (i = 0; i < ARRAY_LEN(namespaces) && r == 0; i++)
		r = add(ctx, SCMP_ACT_ERRNO(EPERM), "clone", 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
	for (i = 0; i < ARRAY_LEN(makers) && r == 0; i++) {
		r = add(ctx, no_family, makers[i], 1, SCMP_A0(SCMP_CMP_GT, AF_NETLINK, 0));
		for (family = 0; family < AF_NETLINK && r == 0; family++)
			if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
				r = add(ctx, no_family, makers[i], 1, SCMP_A0(SCMP_CMP_EQ, family, 0));
	}
	return r;
}

static int load(uint32_t otherwise, int (*fill)(scmp_filter_ctx ctx))
{
	scmp_filter_ctx ctx = seccomp_init(otherwise);
	int r;

	if (!ctx)
		return -ENOMEM;
	r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree instead of a ladder */
	if (r == 0)
		r = fill(ctx);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

int seccomp_confine(struct err *e)
{
	int r = load(SCMP_ACT_ALLOW, add_terminal);

	if (r == 0)
		r = load(SCMP_ACT_ERRNO(ENOSYS), add_all);
	return r < 0 ? err_sys(e, r, "installing the system call filter") : 0;
}

int seccomp_confine_tool(struct err *e)
{
	int r = load(SCMP_ACT_ALLOW, add_tool);

	return r < 0 ? err_sys(e, r, "installing the tool's system call filter") : 0;
}
