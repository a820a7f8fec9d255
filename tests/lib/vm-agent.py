#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for the agent of a sandbox without isolation, so that the daemon's sandbox is a virtual machine: boots it, and
carries each connection of the daemon to the agent in the guest, over the machine's virtio-vsock device. As long as the
file "cuts" says so it cuts connections, at a random byte of either direction: both ends see them die in the middle of a frame.

vm-torture.sh writes the first lines of the copy that is run: TOP, PARTS (kernel and helper), SEED. The arguments are the agent's."""
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

listen_fd, token_fd, box = 3, 4, sys.argv[sys.argv.index("--id") + 1]
dice = random.Random(SEED)
lock = threading.Lock()
left = count = 0
mean = 1.0
sock = os.path.join(TOP, "vm.sock")


def cpio(name, data):
    """One file of an archive that is put behind the one there is: the kernel unpacks both."""
    def record(name, mode, data):
        head = "070701" + "".join("%08X" % v for v in (
            0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0))
        out = head.encode() + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        return out + b"\0" * (-len(out) % 4)
    return record(name, 0o100600, data) + record("TRAILER!!!", 0, b"")


def boot():
    token = os.read(token_fd, 64)
    with open(os.path.join(TOP, "initramfs"), "rb") as f:
        image = f.read()
    with open(os.path.join(TOP, "initramfs.box"), "wb") as f:
        f.write(image + b"\0" * (-len(image) % 4) + cpio("token", token) + cpio("id", box.encode()))
    quiet = {"stdin": subprocess.DEVNULL, "stdout": open(os.path.join(TOP, "vm.log"), "a"), "stderr": subprocess.STDOUT}
    helper = subprocess.Popen([os.path.join(PARTS, "vhost-device-vsock"), "--guest-cid", "3", "--socket",
                               os.path.join(TOP, "vhu.sock"), "--uds-path", sock], **quiet)
    while not os.path.exists(os.path.join(TOP, "vhu.sock")):
        if helper.poll() is not None:
            sys.exit(1)
        time.sleep(0.01)
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-M", "q35,memory-backend=mem,smm=off,vmport=off", "-accel", "tcg", "-cpu", "max", "-m", "512",
         "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-object",
         "memory-backend-memfd,id=mem,size=512M,share=on", "-serial", "file:" + os.path.join(TOP, "console"), "-kernel",
         os.path.join(PARTS, "vmlinuz"), "-initrd", os.path.join(TOP, "initramfs.box"), "-append",
         "console=ttyS0 panic=1 quiet", "-drive",
         "if=none,id=disk,format=raw,cache=unsafe,file=" + os.path.join(TOP, "disk"), "-device", "virtio-blk-pci,drive=disk",
         "-chardev", "socket,id=vs,path=" + os.path.join(TOP, "vhu.sock"), "-device", "vhost-user-vsock-pci,chardev=vs"], **quiet)
    return machine, helper


def guest():
    """A connection to the agent; it is refused until that listens."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(sock)
    s.sendall(b"CONNECT 1024\n")
    line = b""
    while not line.endswith(b"\n"):
        piece = s.recv(1)
        if not piece:
            raise ConnectionError
        line += piece
    if not line.startswith(b"OK "):
        raise ConnectionError
    return s


def plan():
    """How many cuts there shall be, and after how many bytes on the average."""
    global left, mean
    try:
        with open(os.path.join(TOP, "cuts")) as f:
            wanted, mean_b = f.read().split()
        left, mean = int(wanted) - count, float(mean_b)
    except (OSError, ValueError):
        left = 0


def carry(client):
    global count
    try:
        server = guest()
    except OSError:
        client.close()
        return
    with lock:
        budget = int(dice.expovariate(1.0 / mean))
    pending = {client: b"", server: b""}
    other = {client: server, server: client}
    try:
        while True:
            read = [s for s in pending if len(pending[other[s]]) < 65536]
            r, w, _ = select.select(read, [s for s in pending if pending[s]], [])
            for s in r:
                piece = s.recv(65536)
                if not piece:
                    return
                budget -= len(piece)
                if budget < 0:
                    with lock:
                        plan()
                        cut = left > 0
                        if cut:
                            count += 1
                            with open(os.path.join(TOP, "cut.new"), "w") as f:
                                f.write(str(count))
                            os.rename(os.path.join(TOP, "cut.new"), os.path.join(TOP, "cut"))
                        budget = int(dice.expovariate(1.0 / mean))
                    if cut:
                        rest = pending[other[s]] + piece[:dice.randrange(len(piece))]
                        if rest:
                            other[s].setblocking(False)
                            other[s].send(rest)
                        return
                pending[other[s]] += piece
            for s in w:
                pending[s] = pending[s][s.send(pending[s]):]
    except OSError:
        pass
    finally:
        client.close()
        server.close()


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    machine, helper = boot()
    plan()
    listener = socket.socket(fileno=listen_fd)
    listener.settimeout(1)
    while machine.poll() is None and helper.poll() is None:
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        client.setblocking(True)
        threading.Thread(target=carry, args=(client,), daemon=True).start()


main()
