/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's filter, as data for the runtime. Like the daemon's: allowed, refused with EPERM, and ENOSYS for all that
 * the list does not know. The user namespace is the fence; this takes away the parts of the kernel that a program
 * inside has no business with, above all those that would let it make namespaces and mounts of its own.
 *
 * Rules that look at arguments allow some values, and anything they do not match falls to ENOSYS; where another answer
 * is expected (an address family that is not there) further rules give it. "All terminal commands but three" is said as
 * the list of bit patterns that none of the three has.
 */
#include "host/priv/bundle.h"
#include "host/priv/weak.h"

#include <errno.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>

struct call {
	const char *name;
	bool allow;
};

static const struct call calls[] = {
#define ALLOW(name) {#name, true},
#define REFUSE(name) {#name, false},
#include "host/priv/guest-calls.def"
#undef ALLOW
#undef REFUSE
};

struct arg {
	unsigned index;
	const char *op;
	uint64_t value, value2;
};

#define ACT_ALLOW "SCMP_ACT_ALLOW"
#define ACT_ERRNO "SCMP_ACT_ERRNO"

static void put_names(struct json *j, bool allow)
{
	size_t i;

	json_open(j, NULL, '{');
	json_open(j, "names", '[');
	for (i = 0; i < ARRAY_LEN(calls); i++)
		if (calls[i].allow == allow)
			json_str(j, NULL, calls[i].name);
	json_close(j, ']');
	json_str(j, "action", allow ? ACT_ALLOW : ACT_ERRNO);
	if (!allow)
		json_num(j, "errnoRet", EPERM);
	json_close(j, '}');
}

/* One rule for @name; @code 0 allows. All of @args must match. */
static void put_rule(struct json *j, const char *name, int code, const struct arg *args, size_t n)
{
	size_t i;

	json_open(j, NULL, '{');
	json_words(j, "names", name);
	json_str(j, "action", code ? ACT_ERRNO : ACT_ALLOW);
	if (code)
		json_num(j, "errnoRet", code);
	json_open(j, "args", '[');
	for (i = 0; i < n; i++) {
		json_open(j, NULL, '{');
		json_num(j, "index", args[i].index);
		json_num(j, "value", (int64_t)args[i].value);
		json_num(j, "valueTwo", (int64_t)args[i].value2);
		json_str(j, "op", args[i].op);
		json_close(j, '}');
	}
	json_close(j, ']');
	json_close(j, '}');
}

static void put_eq(struct json *j, const char *name, int code, uint64_t value)
{
	struct arg a = {.op = "SCMP_CMP_EQ", .value = value};

	put_rule(j, name, code, &a, 1);
}

/* Families of addresses that a program may use; others look as if the kernel had been built without them, which is what
 * programs that try netlink's audit or packet sockets know how to live with. */
static void put_sockets(struct json *j)
{
	struct arg route[2] = {{0, "SCMP_CMP_EQ", AF_NETLINK, 0}, {2, "SCMP_CMP_EQ", 0, 0}};
	struct arg other[2] = {{0, "SCMP_CMP_EQ", AF_NETLINK, 0}, {2, "SCMP_CMP_NE", 0, 0}};
	struct arg above = {0, "SCMP_CMP_GT", AF_NETLINK, 0};
	unsigned family;

	for (family = 0; family < AF_NETLINK; family++) {
		bool ok = family == AF_UNIX || family == AF_INET || family == AF_INET6;

		put_eq(j, "socket socketpair", ok ? 0 : EAFNOSUPPORT, family);
	}
	put_rule(j, "socket", 0, route, 2);
	put_rule(j, "socket", EAFNOSUPPORT, other, 2);
	put_rule(j, "socket socketpair", EAFNOSUPPORT, &above, 1);
}

/* Allow every command that differs from all of @refused: walk the bits from the top; a half that no refused value is in
 * is allowed as a whole. The kernel looks at 32 bits, so the upper ones are not compared. */
static void put_ioctl(struct json *j, const uint32_t *refused, size_t n)
{
	unsigned bit;
	size_t i, k;

	for (i = 0; i < n; i++)
		for (bit = 0; bit < 32; bit++) {
			uint32_t mask = ~((1U << bit) - 1), value = (refused[i] ^ (1U << bit)) & mask;
			struct arg a = {1, "SCMP_CMP_MASKED_EQ", mask, value};
			bool clear = true;

			for (k = 0; k < n; k++) {
				if ((refused[k] & mask) == value)
					clear = false; /* another refused value is in this half */
				if (k < i && ((refused[k] ^ (1U << bit)) & mask) == value)
					clear = false; /* said already */
			}
			if (clear)
				put_rule(j, "ioctl", 0, &a, 1);
		}
}

static void put_special(struct json *j)
{
	static const uint64_t persona[] = {0, 8, 0x20000, 0x20008, 0xffffffff};
	static const uint32_t commands[] = {TIOCSTI, TIOCLINUX, TIOCSETD};
	const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
				    CLONE_NEWPID | CLONE_NEWNET;
	struct arg plain = {0, "SCMP_CMP_MASKED_EQ", namespaces, 0};
	size_t i;

	put_rule(j, "clone", 0, &plain, 1);
	for (i = 0; i < ARRAY_LEN(persona); i++)
		put_eq(j, "personality", 0, persona[i]);
	put_sockets(j);
	put_ioctl(j, commands, ARRAY_LEN(commands));
}

static const char *architecture(void)
{
	static const struct {
		const char *machine, *name;
	} known[] = {{"x86_64", "SCMP_ARCH_X86_64"},
		     {"aarch64", "SCMP_ARCH_AARCH64"},
		     {"riscv64", "SCMP_ARCH_RISCV64"},
		     {"ppc64le", "SCMP_ARCH_PPC64LE"}};
	struct utsname u;
	size_t i;

	if (uname(&u) == 0)
		for (i = 0; i < ARRAY_LEN(known); i++)
			if (strcmp(u.machine, known[i].machine) == 0)
				return known[i].name;
	return NULL;
}

void profile_write(struct json *j)
{
	const char *arch = architecture();

	if (weak(WEAK_CALLS))
		return;
	json_open(j, "seccomp", '{');
	json_str(j, "defaultAction", ACT_ERRNO);
	json_num(j, "defaultErrnoRet", ENOSYS);
	if (arch)
		json_words(j, "architectures", arch);
	json_open(j, "syscalls", '[');
	put_names(j, true);
	put_names(j, false);
	put_special(j);
	json_close(j, ']');
	json_close(j, '}');
}
