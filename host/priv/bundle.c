/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox is, in the runtime's terms. The fence is the user namespace with a range of host ids of its own: root
 * inside is nobody outside, so sudo may work, set-user-id programs of the template may run, and a bounded set of
 * capabilities may be there; they count only inside. Everything that is not the template's root is mounted nosuid and
 * nodev. The network namespace holds a loopback and, when there is a network, a link to the router.
 *
 * There are no control groups in here: the process enters them before the runtime starts, and the namespace of control
 * groups makes them look like the root. Limits on file sizes are those of the file systems.
 */
#include "host/priv/bundle.h"

#include "base/str.h"
#include "host/priv/weak.h"

#include <errno.h>
#include <stdio.h>

enum { NOFILE = 4096 };

#define CAPABILITIES                                                                                                   \
	"CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP "                 \
	"CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_AUDIT_WRITE CAP_SYS_PTRACE"

static const struct {
	const char *to, *type, *options;
} mounts[] = {
	{"/proc", "proc", "nosuid noexec nodev"},
	{"/dev", "tmpfs", "nosuid noexec strictatime mode=755 size=64k"},
	{"/dev/pts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"},
	{"/dev/mqueue", "mqueue", "nosuid noexec nodev"},
	{"/sys", "sysfs", "nosuid noexec nodev ro"},
	{"/run", "tmpfs", "nosuid nodev mode=755 size=64m nr_inodes=65536"},
};

static void put_mount(struct json *j, const char *to, const char *type, const char *from, const char *options)
{
	json_open(j, NULL, '{');
	json_str(j, "destination", to);
	json_str(j, "type", type);
	json_str(j, "source", from);
	json_words(j, "options", options);
	json_close(j, '}');
}

/* A mount that a fence consists of, or that does not go without it: sysfs belongs to the network namespace. */
static bool weak_mount(const char *to)
{
	return (weak(WEAK_NET) && str_eq(to, "/sys")) || (weak(WEAK_DEV) && str_starts(to, "/dev")) ||
	       (weak(WEAK_PROC) && str_eq(to, "/proc"));
}

static void put_mounts(struct json *j, const struct bundle *b)
{
	char options[128];
	uint32_t k;
	size_t i;

	json_open(j, "mounts", '[');
	for (i = 0; i < ARRAY_LEN(mounts); i++)
		if (!weak_mount(mounts[i].to))
			put_mount(j, mounts[i].to, mounts[i].type, mounts[i].type,
				  weak(WEAK_USERNS) && weak(WEAK_MASK) ? "nosuid" : mounts[i].options);
	/* What lies here is memory of the sandbox: a half and a quarter, so that both full are ENOSPC and not its
	 * death. When nothing is left that could be killed for it, the agent would be. */
	snprintf(options, sizeof(options), "%s mode=1777 size=%llu",
		 weak(WEAK_SETUID) ? "nodev" : "nosuid nodev noexec", (unsigned long long)b->memory_b / 4);
	if (!weak(WEAK_DEV))
		put_mount(j, "/dev/shm", "tmpfs", "tmpfs", options);
	snprintf(options, sizeof(options), "%s mode=1777 size=%llu", weak(WEAK_SETUID) ? "nodev" : "nosuid nodev",
		 (unsigned long long)b->memory_b / 2);
	put_mount(j, "/tmp", "tmpfs", "tmpfs", options);
	put_mount(j, "/workspace", "bind", b->workspace,
		  weak(WEAK_SETUID) ? "bind rw nodev" : "bind rw nosuid nodev");
	for (k = 0; k < b->n_volumes; k++) {
		AUTO(str_free) char *from = str_printf("%s/vol%u", b->box, k);

		put_mount(j, b->volumes[k].path, "bind", from, "bind rw nosuid nodev");
	}
	put_mount(j, "/.berth/agent", "bind", b->agent,
		  weak(WEAK_EXE) ? "bind rw" : "bind ro nosuid nodev");
	json_close(j, ']');
}

static void put_rlimit(struct json *j, const char *type, int64_t value)
{
	json_open(j, NULL, '{');
	json_str(j, "type", type);
	json_num(j, "soft", value);
	json_num(j, "hard", value);
	json_close(j, '}');
}

#define ENVIRONMENT "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8"

static void put_process(struct json *j, const struct bundle *b)
{
	const char *caps =
		weak(WEAK_CAPS) ? CAPABILITIES " CAP_SYS_ADMIN CAP_MKNOD CAP_SYS_RAWIO CAP_SYSLOG" : CAPABILITIES;

	json_open(j, "process", '{');
	json_bool(j, "terminal", false);
	json_open(j, "user", '{');
	json_num(j, "uid", 0);
	json_num(j, "gid", 0);
	json_close(j, '}');
	json_open(j, "args", '[');
	json_str(j, NULL, "/.berth/agent");
	json_str(j, NULL, "--listen");
	json_str(j, NULL, "fd:3");
	json_str(j, NULL, "--token-fd");
	json_str(j, NULL, "4");
	if (b->fanotify) {
		json_str(j, NULL, "--fanotify-fd");
		json_str(j, NULL, "5");
	}
	json_str(j, NULL, "--id");
	json_str(j, NULL, b->id);
	json_str(j, NULL, "--workspace");
	json_str(j, NULL, "/workspace");
	json_close(j, ']');
	/* What agents of generation 1 do not know stands here: an option they would refuse. */
	json_words(j, "env", b->oom ? ENVIRONMENT " BERTH_OOM_FD=6" : ENVIRONMENT);
	json_str(j, "cwd", "/");
	json_open(j, "capabilities", '{');
	json_words(j, "bounding", caps);
	json_words(j, "effective", caps);
	json_words(j, "permitted", caps);
	json_close(j, '}');
	json_open(j, "rlimits", '[');
	put_rlimit(j, "RLIMIT_NOFILE", weak(WEAK_FILES) ? 4 * NOFILE : NOFILE);
	put_rlimit(j, "RLIMIT_CORE", 0);
	json_close(j, ']');
	json_num(j, "oomScoreAdj", BUNDLE_OOM_SCORE);
	json_bool(j, "noNewPrivileges", false); /* sudo */
	json_close(j, '}');
}

static void put_mapping(struct json *j, const char *key, uint32_t base)
{
	json_open(j, key, '[');
	json_open(j, NULL, '{');
	json_num(j, "containerID", 0);
	json_num(j, "hostID", base);
	json_num(j, "size", 65536);
	json_close(j, '}');
	json_close(j, ']');
}

static void put_masks(struct json *j)
{
	if (weak(WEAK_MASK) || weak(WEAK_IDS) || weak(WEAK_PROC))
		return;
	json_words(
		j, "maskedPaths",
		"/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug "
		"/proc/scsi /proc/timer_list /proc/timer_stats /proc/kpagecount /proc/kpageflags /sys/firmware "
		"/sys/kernel /sys/fs /sys/devices/virtual/powercap");
	json_words(j, "readonlyPaths", "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger");
}

/* Nodes of the host in the sandbox's /dev; only ever asked for by a build for tests. */
static void put_nodes(struct json *j)
{
	static const struct {
		const char *path;
		int major, minor;
	} nodes[] = {{"/dev/fuse", 10, 229}, {"/dev/kmsg", 1, 11}, {"/dev/loop-control", 10, 237}};
	size_t i;

	json_open(j, "devices", '[');
	for (i = 0; i < ARRAY_LEN(nodes); i++) {
		json_open(j, NULL, '{');
		json_str(j, "path", nodes[i].path);
		json_str(j, "type", "c");
		json_num(j, "major", nodes[i].major);
		json_num(j, "minor", nodes[i].minor);
		json_num(j, "fileMode", 0666);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_linux(struct json *j, const struct bundle *b)
{
	static const char *const fresh[] = {"pid", "mount", "ipc", "uts", "cgroup", "network"};
	size_t i;

	json_open(j, "linux", '{');
	json_open(j, "namespaces", '[');
	if (!weak(WEAK_USERNS)) {
		json_open(j, NULL, '{');
		json_str(j, "type", "user");
		json_str(j, "path", b->userns);
		json_close(j, '}');
	}
	for (i = 0; i < ARRAY_LEN(fresh) - weak(WEAK_NET); i++) {
		json_open(j, NULL, '{');
		json_str(j, "type", fresh[i]);
		if (b->netns && str_eq(fresh[i], "network"))
			json_str(j, "path", b->netns);
		json_close(j, '}');
	}
	json_close(j, ']');
	if (!weak(WEAK_USERNS)) {
		put_mapping(j, "uidMappings", b->uid_base);
		put_mapping(j, "gidMappings", b->uid_base);
	}
	if (weak(WEAK_NODES))
		put_nodes(j);
	put_masks(j);
	profile_write(j);
	json_close(j, '}');
}

int bundle_write(const struct bundle *bundle, struct buf *b)
{
	struct json j = {.b = b};

	json_open(&j, NULL, '{');
	json_str(&j, "ociVersion", "1.0.2");
	put_process(&j, bundle);
	json_open(&j, "root", '{');
	json_str(&j, "path", bundle->root);
	json_bool(&j, "readonly", false);
	json_close(&j, '}');
	json_str(&j, "hostname", bundle->id);
	put_mounts(&j, bundle);
	put_linux(&j, bundle);
	json_close(&j, '}');
	return b->failed ? -E2BIG : 0;
}
