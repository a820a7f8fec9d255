# SPDX-License-Identifier: Apache-2.0
"""The broker alone, with this program in the place of the daemon (host/broker/say.h)."""
import http.client
import os
import socket
import struct
import subprocess
import threading

MAGIC = 0x62726B72
PUB, OPEN, CHECK, KEEP, DROP, SERVICES, TAKE = range(1, 8)
WHO = "65s65s65s65s129s513s"
ASK = struct.Struct("=III129s" + WHO + "1x")
ANSWER = struct.Struct("=i40s240s")
TELL = struct.Struct("=IIQIII4xQQ" + WHO + "129s65s17s128s193s65s5x")
SLOTS = 2048
FIRST, USED, REFUSED, GONE = range(1, 5)


def text(field):
    return field.split(b"\0", 1)[0].decode()


class Broker:
    def __init__(self, build, top, services, program="berth-broker"):
        self.build, self.top = build, top
        self.key = os.open(os.path.join(top, "broker.key"), os.O_RDWR | os.O_CREAT, 0o600)
        ask, tell = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        for s in ask + tell:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.ask_end, self.tell_end = ask[0], tell[0]
        slots = os.memfd_create("slots")
        os.ftruncate(slots, SLOTS)
        self.slots = slots
        high = [os.dup(fd) for fd in (ask[1].fileno(), tell[1].fileno(), slots, self.key)]

        def place():
            for i, fd in enumerate([os.dup2(fd, 100 + i) for i, fd in enumerate(high)]):
                os.dup2(fd, 3 + i)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)

        self.process = subprocess.Popen([os.path.join(build, program), f"--state={top}", f"--services={services}"],
                                        preexec_fn=place, close_fds=False, stderr=open(os.path.join(top, "broker.log"), "a"))
        for fd in high:
            os.close(fd)
        ask[1].close()
        tell[1].close()
        self.lock, self.slot, self.told, self.refuse_audit = threading.Lock(), 0, [], False
        self.cond = threading.Condition()
        self.hold = None  # an event: first uses are answered when it is set
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        self.pub = self.ask(PUB).decode()

    def ask(self, op, name="", who=None, slot=0, tail=b"", fd=None, check=True):
        who = who or ("", "", "", "")
        who = (*who[:3], *(who[4:] or ("", "")), who[3])
        q = ASK.pack(MAGIC, op, slot, name.encode(), *(w.encode() for w in who)) + tail
        with self.lock:
            if fd is None:
                self.ask_end.send(q)
            else:
                socket.send_fds(self.ask_end, [q], [fd])
            a = self.ask_end.recv(1 << 18)
        if not a:
            raise ConnectionError("the broker is gone")
        code, slug, words = ANSWER.unpack(a[:ANSWER.size])
        if code and check:
            raise RuntimeError(f"{text(slug)}: {text(words)}")
        return a[ANSWER.size:] if not code else text(slug)

    def seal(self, name, value, *options):
        return subprocess.run([os.path.join(self.build, "berth-seal"), "seal", "--to", self.pub, "--name", name, *options],
                              input=value.encode(), stdout=subprocess.PIPE, check=True).stdout

    def keep(self, name, value, *options):
        self.ask(KEEP, name, tail=self.seal(name, value, *options))

    def connect(self, secrets, sandbox="s1", template="base", key="k", exec="", command=""):
        """A connection of a sandbox."""
        mine, its = socket.socketpair()
        self.slot = (self.slot + 1) % SLOTS
        self.ask(TAKE, who=(sandbox, template, key, secrets, exec, command), slot=self.slot, fd=its.fileno())
        its.close()
        mine.settimeout(60)
        return mine

    def listen(self):
        while True:
            try:
                t = self.tell_end.recv(4096)
            except OSError:
                return
            if not t:
                return
            f = TELL.unpack(t)
            row = {"kind": f[1], "id": f[2], "slot": f[3], "status": f[4], "count": f[5], "up": f[6], "down": f[7], "sandbox": text(f[8]),
                   "key": text(f[10]), "exec": text(f[11]), "command": text(f[12]), "secret": text(f[14]), "service": text(f[15]), "method": text(f[16]),
                   "host": text(f[17]), "path": text(f[18]), "rule": text(f[19])}
            with self.cond:
                self.told.append(row)
                self.cond.notify_all()
            if f[1] == FIRST:
                if self.hold:
                    self.hold.wait(30)
                self.tell_end.send(struct.pack("=Qi4x", f[2], -5 if self.refuse_audit else 0))

    def wait_told(self, want, what):
        with self.cond:
            if not self.cond.wait_for(lambda: any(want(r) for r in self.told), 30):
                raise SystemExit(f"the broker does not tell: {what}: {self.told[-5:]}")

    def end(self):
        self.ask_end.close()
        self.tell_end.shutdown(socket.SHUT_RDWR)
        return self.process.wait(30)


class Conn(http.client.HTTPConnection):
    """A client of a broker's service, by the connection that @connect makes. @seen(what, answer's fields and bytes) looks for what must
    not come back."""

    def __init__(self, connect, seen):
        super().__init__("berth.internal")
        self.make, self.seen = connect, seen

    def connect(self):
        self.sock = self.make()

    def ask(self, path, method="GET", body=None, headers={}):
        self.request(method, path, body, headers)
        r = self.getresponse()
        data = r.read()
        self.seen(f"{method} {path}", data + str(r.getheaders()).encode())
        return r, data
