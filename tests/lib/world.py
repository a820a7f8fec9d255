# SPDX-License-Identifier: Apache-2.0
"""Servers of a fake internet: world.py READY ADDRESS... [dns=ADDRESS]. Each ADDRESS tells itself over HTTP at port 80 and
at /who the address of whoever asks, and echoes datagrams at port 7777; the name server has the zone below. READY is made
when all listen."""
import http.server
import os
import socket
import socketserver
import struct
import sys
import threading

ZONE = {
    "example.test": ["93.184.216.34", "2a01:4f8::34"],
    "v4.example.test": ["93.184.216.34"],
    "www.example.test": ["93.184.216.34"],
    "other.test": ["93.184.216.35"],
    "rebind.test": ["10.20.0.2"],
    "socks.test": ["93.184.216.35"],
    "neighbour.test": ["198.19.16.1"],
    "meta.test": ["169.254.169.254"],
    "mixed.test": ["93.184.216.34", "10.20.0.2"],
    "mapped.test": ["::ffff:10.20.0.2"],
    "many.test": ["93.184.%d.%d" % (200 + i // 200, 1 + i % 200) for i in range(60)] + ["93.184.216.35"],
}
ZONE_TTL = 5


def v6(address):
    return ":" in address


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":  # a line whenever the client sends one; for connections that are to be cut
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"begun\n")
            self.wfile.flush()
            while self.connection.recv(1):
                self.wfile.write(b".\n")
            return
        if self.path.rstrip("/") == "/who":  # who connects
            body = (self.client_address[0] + "\n").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        body = (self.server.server_address[0] + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "x", 80


class Server6(Server):
    address_family = socket.AF_INET6


def tell(what):
    with open(os.environ["WORLD_TUNNEL"], "a", encoding="latin-1") as f:
        f.write(what + "\n")


def echo(address):
    s = socket.socket(socket.AF_INET6 if v6(address) else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, 7777))

    def run():
        while True:
            data, peer = s.recvfrom(65536)
            if data == b"spoofed":
                tell("spoofed")
            s.sendto(address.encode() + b" " + data, peer)
    threading.Thread(target=run, daemon=True).start()


def answer(query, stream):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1").lower())
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]
    name, question = ".".join(labels), query[12:at + 5]
    found = ZONE.get(name)
    if name.endswith(".tunnel.test"):
        tell(name)
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, ZONE_TTL, 16 if kind == 28 else 4)
        + socket.inet_pton(socket.AF_INET6 if kind == 28 else socket.AF_INET, a)
        for a in found or [] if v6(a) == (kind == 28) and kind in (1, 28))
    count = len(records) // (28 if kind == 28 else 16)
    flags = 0x8180 | (0 if found else 3)
    if not stream and len(records) > 480:
        flags, records, count = flags | 0x200, b"", 0
    return query[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + question + records


def dns(address):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, 53))
    t = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    t.bind((address, 53))
    t.listen(16)

    def datagrams():
        while True:
            query, peer = s.recvfrom(4096)
            s.sendto(answer(query, False), peer)

    def connection(c):
        with c:
            f = c.makefile("rb")
            while len(head := f.read(2)) == 2:
                reply = answer(f.read(struct.unpack(">H", head)[0]), True)
                c.sendall(struct.pack(">H", len(reply)) + reply)

    def connections():
        while True:
            threading.Thread(target=connection, args=(t.accept()[0],), daemon=True).start()
    threading.Thread(target=datagrams, daemon=True).start()
    threading.Thread(target=connections, daemon=True).start()


def main():
    for word in sys.argv[2:]:
        if word.startswith("dns="):
            dns(word[4:])
            continue
        server = (Server6 if v6(word) else Server)((word, 80), Web)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        echo(word)
    with open(sys.argv[1], "w", encoding="ascii"):
        pass
    threading.Event().wait()


main()
