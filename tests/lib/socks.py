# SPDX-License-Identifier: Apache-2.0
"""A small SOCKS5 proxy: socks.py READY LOG ADDRESS PORT [USER PASSWORD]. It connects from ADDRESS, knows the names of
world.py, and writes a line of LOG for each request: how it was asked ("name", "address"), what for, and as whom."""
import os
import socket
import struct
import sys
import threading

NAMES = {"example.test": "93.184.216.34", "v4.example.test": "93.184.216.34", "other.test": "93.184.216.35"}


def exactly(s, n):
    data = b""
    while len(data) < n:
        got = s.recv(n - len(data))
        if not got:
            raise OSError("end")
        data += got
    return data


def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Proxy:
    def __init__(self, log, address, port, user="", password=""):
        self.log, self.address = log, address
        self.user, self.password = user.encode(), password.encode()
        self.listener = socket.create_server((address, port), backlog=64,
                                             family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def tell(self, *words):
        with open(self.log, "a", encoding="ascii") as f:
            f.write(" ".join(words) + "\n")

    def greet(self, s):
        _, n = exactly(s, 2)
        methods = exactly(s, n)
        want = 2 if self.user else 0
        if want not in methods:
            s.sendall(b"\5\xff")
            raise OSError("method")
        s.sendall(bytes((5, want)))
        if not want:
            return "nobody"
        _, n = exactly(s, 2)
        user = exactly(s, n)
        password = exactly(s, exactly(s, 1)[0])
        ok = (user, password) == (self.user, self.password)
        s.sendall(b"\1" + (b"\0" if ok else b"\1"))
        if not ok:
            self.tell("refused", user.decode())
            raise OSError("credentials")
        return user.decode()

    def target(self, s):
        _, _, _, kind = exactly(s, 4)
        if kind == 3:
            host = exactly(s, exactly(s, 1)[0]).decode("latin-1")
        else:
            host = socket.inet_ntop(*((socket.AF_INET, exactly(s, 4)) if kind == 1 else
                                      (socket.AF_INET6, exactly(s, 16))))
        return ("name" if kind == 3 else "address"), host, struct.unpack(">H", exactly(s, 2))[0]

    def serve(self, s):
        with s:
            user = self.greet(s)
            kind, host, port = self.target(s)
            self.tell(kind, host, str(port), user)
            try:
                where = NAMES.get(host, host)
                up = socket.create_connection((where, port), 5, None if ":" in where else (self.address, 0))
            except OSError:
                s.sendall(b"\5\5\0\1" + bytes(6))
                return
            with up:
                up.settimeout(None)
                s.sendall(b"\5\0\0\3\4long\0\0")
                back = threading.Thread(target=pump, args=(up, s), daemon=True)
                back.start()
                pump(s, up)
                back.join()

    def one(self, s):
        try:
            self.serve(s)
        except (OSError, ValueError):
            pass

    def run(self):
        while True:
            threading.Thread(target=self.one, args=(self.listener.accept()[0],), daemon=True).start()


def main():
    proxy = Proxy(sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:7])
    with open(sys.argv[1], "w", encoding="ascii") as f:
        f.write(str(os.getpid()))
    proxy.run()


main()
