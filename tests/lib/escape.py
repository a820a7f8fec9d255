# SPDX-License-Identifier: Apache-2.0
"""Ways out of a sandbox, tried from inside: escape.py WHAT [ARGUMENT...]. Each thing that worked is a line "achieved: …";
the last line is "done". What opens something of the host's opens it only, and writes nothing to it."""
import ctypes
import errno
import fcntl
import os
import platform
import pty
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios

libc = ctypes.CDLL(None, use_errno=True)


def achieved(words):
    print("achieved:", words, flush=True)


def opens(path, flags=os.O_WRONLY):
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC))
        return True
    except OSError:
        return False


def may_write(path):
    """Also when only its being executed right now is in the way: whoever keeps it until then can write."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        return True
    except OSError as e:
        return e.errno == errno.ETXTBSY


def in_child(fn):
    """What fn says, in a process of its own."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if fn() else 1
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def exe():
    """The program that the host started: what overwrites it runs outside with the next sandbox."""
    for path in ("/proc/1/exe", "/.berth/agent"):
        if may_write(path):
            achieved("write to " + path)
        try:
            os.utime(path)
            achieved("change " + path)
        except OSError:
            pass


def leak(marker):
    """A descriptor, a root or a current directory that is the host's, in any process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        ways = [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
        try:
            ways += [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            pass
        for way in ways:
            for up in ("", "/..", "/../../../../.."):
                if os.path.exists(way + up + marker):
                    achieved(f"{way}{up} leads to the host")


def mask():
    """What /proc and /sys tell about the whole machine."""
    for path in ("/proc/keys", "/proc/interrupts", "/proc/kcore", "/proc/timer_list", "/proc/sched_debug",
                 "/proc/latency_stats", "/proc/kpagecount", "/proc/kpageflags", "/proc/slabinfo", "/proc/vmallocinfo"):
        try:
            with open(path, "rb") as f:
                if f.read(64):
                    achieved("read " + path)
        except OSError:
            pass
    with open("/proc/kallsyms", encoding="ascii") as f:
        if int(f.readline().split()[0], 16):
            achieved("read addresses of the kernel")
    for path in ("/proc/scsi", "/proc/acpi", "/proc/asound", "/sys/firmware", "/sys/kernel", "/sys/fs"):
        try:
            if os.listdir(path):
                achieved("list " + path)
        except OSError:
            pass


def net(name, port):
    """Services of the host, its abstract sockets, the metadata service of a cloud."""
    for family, address in ((socket.AF_UNIX, b"\0" + name.encode()), (socket.AF_INET, ("127.0.0.1", int(port))),
                            (socket.AF_INET, ("169.254.169.254", 80)), (socket.AF_INET, ("10.0.0.1", 53)),
                            (socket.AF_INET6, ("fe80::1", 53))):
        s = socket.socket(family)
        s.settimeout(1)
        try:
            s.connect(address)
            achieved(f"connect to {address}")
        except OSError as e:
            if e.errno == errno.ECONNREFUSED and address[0] != "127.0.0.1" and family != socket.AF_UNIX:
                achieved(f"an answer of {address}")
        s.close()
    names = [n for _, n in socket.if_nameindex()]
    if names != ["lo"]:
        achieved(f"interfaces {names}")


def setuid(*programs):
    """Programs that became root's (or its group's), with the bit: run them as somebody else."""
    for program in programs:
        for option, whose in (("-u", "user"), ("-g", "group")):
            try:
                who = subprocess.run([program, option], capture_output=True, text=True, check=False).stdout.strip()
            except OSError:
                continue
            if who == "0":
                achieved(f"root's {whose} by {program}")


def devices(node):
    """A device node that the template brought, and those that one makes."""
    if opens(node, os.O_RDONLY):
        achieved("open the device node of the template")
    for kind, number in ((0o020666, os.makedev(1, 5)), (0o060666, os.makedev(7, 0)), (0o060666, os.makedev(8, 0))):
        for where in ("/workspace/node", "/tmp/node", "/dev/node", "/node"):
            try:
                os.mknod(where, kind, number)
                achieved(f"make a device node, {where} {os.major(number)}:{os.minor(number)}")
                os.unlink(where)
            except OSError:
                pass
    for name in ("mem", "kmem", "kmsg", "port", "fuse", "kvm", "loop-control", "mapper/control", "vhost-vsock", "sda", "vda"):
        if opens("/dev/" + name, os.O_RDONLY):
            achieved("open /dev/" + name)


def ids():
    """Switches of the kernel that belong to the host's root: being allowed to write is all that is tried."""
    with open("/proc/self/uid_map", encoding="ascii") as f:
        for line in f:
            if int(line.split()[1]) < 65536:
                achieved("an id of the host: " + " ".join(line.split()))
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
                 "/sys/kernel/uevent_helper", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/hotplug",
                 "/proc/sys/fs/binfmt_misc/register", "/sys/fs/cgroup/release_agent", "/sys/power/state",
                 "/sys/block/loop0/queue/read_ahead_kb", "/proc/sys/kernel/ns_last_pid", "/proc/sys/net/core/somaxconn",
                 "/proc/bus/pci/devices", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/panic", "/proc/irq/default_smp_affinity"):
        if opens(path):
            achieved("write to " + path)
    for kind in (b"cgroup", b"cgroup2", b"proc", b"sysfs", b"tmpfs"):
        if libc.mount(kind, b"/mnt", kind, 0, b"pids" if kind == b"cgroup" else None) == 0:
            achieved("mount " + kind.decode())
            libc.umount2(b"/mnt", 2)


CALLS = {
    "x86_64": dict(add_key=248, keyctl=250, syslog=103, perf_event_open=298, bpf=321, userfaultfd=323, io_uring_setup=425,
                   open_by_handle_at=304, kexec_load=246, fsopen=430, memfd_secret=447, quotactl=179, init_module=175,
                   iopl=172, setns=308),
    "aarch64": dict(add_key=217, keyctl=219, syslog=116, perf_event_open=241, bpf=280, userfaultfd=282, io_uring_setup=425,
                    open_by_handle_at=265, kexec_load=104, fsopen=430, memfd_secret=447, quotactl=60, init_module=105,
                    setns=268),
}


def types_into_terminal():
    main, other = pty.openpty()
    if os.fork() == 0:
        os.setsid()
        fcntl.ioctl(other, termios.TIOCSCTTY, 0)
        try:
            fcntl.ioctl(other, termios.TIOCSTI, b"x")
            os._exit(0)
        except OSError:
            os._exit(1)
    os.close(main)
    return os.wait()[1] == 0


def calls():
    """Parts of the kernel that no program inside has business with."""
    nr = CALLS.get(platform.machine(), {})
    room = ctypes.create_string_buffer(4096)
    arguments = {
        "add_key": (b"user", b"berth", b"x", 1, -3), "keyctl": (0, -3, 1), "syslog": (10, None, 0), "io_uring_setup": (1, room),
        "userfaultfd": (1,), "memfd_secret": (0,), "fsopen": (b"tmpfs", 0), "bpf": (0, room, 72),
    }
    for name, number in nr.items():
        got = libc.syscall(ctypes.c_long(number), *(arguments.get(name) or (-1, None, 0, 0, 0)))
        if got >= 0:
            achieved(name)
        elif ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
            achieved(f"{name} was looked at: {errno.errorcode[ctypes.get_errno()]}")
    for name, flag in (("user", 0x10000000), ("mount", 0x20000), ("network", 0x40000000)):
        if in_child(lambda flag=flag: libc.unshare(flag) == 0):
            achieved(f"a {name} namespace")
    for name, family, kind in (("AF_ALG", 38, 5), ("AF_VSOCK", 40, 1), ("AF_PACKET", 17, 3), ("netlink audit", 16, 3)):
        try:
            socket.socket(family, kind, 9 if family == 16 else 0).close()
            achieved("a socket of " + name)
        except OSError:
            pass
    if in_child(types_into_terminal):
        achieved("type into a terminal")


def limits(pids, memory_mb, files, score):
    """More than the sandbox was given."""
    children = []
    for _ in range(int(pids) + 50):
        try:
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)
    if len(children) > int(pids):
        achieved(f"{len(children)} processes")
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if in_child(lambda: len(bytearray(os.urandom(1) * (int(memory_mb) * 3 << 19))) > 0):
        achieved("more memory")
    try:
        os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), score.encode())
        achieved("to be spared when the host is out of memory")
    except OSError:
        pass
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), int(files)))
        achieved("more descriptors")
    except (OSError, ValueError):
        pass


def swap(inside, link):
    """Exchange a directory and a link for ever: whoever looks and then uses has used the other one."""
    print("swapping", flush=True)
    while True:
        if libc.renameat2(-100, inside.encode(), -100, link.encode(), 2) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
    print("done")
