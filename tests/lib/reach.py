# SPDX-License-Identifier: Apache-2.0
"""Runs inside a sandbox: tries all that it is told and says what came of it, a line each.

	tcp HOST [PORT]     what a web server tells, or refused, timeout, noname, unreachable
	who HOST            who asks, as that server sees it
	half HOST           as tcp, with an end of the request
	udp HOST            what an echo server tells
	name NAME           addresses, sorted, or noname
	settled LINK        yes, once its addresses of IPv6 are known to be nobody else's
	spoof SOURCE HOST   the same from another address
	raw x               which family of raw sockets can be had
	dns SERVER NAME     the answer's code and number of records, asked over UDP; dnstcp: over TCP
"""
import errno
import socket
import struct
import sys
import time

WAIT = 8


def word(e):
    if isinstance(e, socket.timeout):
        return "timeout"
    if isinstance(e, socket.gaierror):
        return "noname"
    return {errno.ECONNREFUSED: "refused", errno.EHOSTUNREACH: "unreachable", errno.ENETUNREACH: "unreachable",
            errno.EACCES: "refused", errno.EPERM: "denied", errno.ECONNRESET: "refused"}.get(e.errno, str(e))


def tcp(host, port="80", path="/"):
    with socket.create_connection((host, int(port)), WAIT) as s:
        s.settimeout(WAIT)
        s.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        text = b""
        while got := s.recv(4096):
            text += got
    return text.split(b"\r\n\r\n", 1)[-1].decode().strip()


def who(host):
    return tcp(host, path="/who")


def half(host):
    """The end of what is sent is told before anything is answered."""
    with socket.create_connection((host, 80), WAIT) as s:
        s.settimeout(WAIT)
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        text = b""
        while got := s.recv(4096):
            text += got
    return text.split(b"\r\n\r\n", 1)[-1].decode().strip()


def udp(host):
    family, _, _, _, at = socket.getaddrinfo(host, 7777, 0, socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(WAIT)
        s.connect(at)
        s.send(b"hello")
        return s.recv(100).decode()


def settled(link):
    """Before this the kernel chooses none of them for what a program sends."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        with open("/proc/net/if_inet6", encoding="ascii") as f:
            mine = [int(x[4], 16) for x in map(str.split, f) if x[5] == link]
        if len(mine) > 1 and not any(x & 0x40 for x in mine):  # IFA_F_TENTATIVE
            return "yes"
        time.sleep(0.05)
    return "no"


def spoof(source, host):
    """With somebody else's address: this much a program may try without any capability."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
        s.settimeout(1)
        s.bind((source, 7000))
        s.connect((host, 7777))
        s.send(b"spoofed")
        return s.recv(100).decode()


def raw(_):
    for family, kind, proto in ((socket.AF_PACKET, socket.SOCK_RAW, 0x300), (socket.AF_INET, socket.SOCK_RAW, 1),
                                (socket.AF_INET6, socket.SOCK_RAW, 58)):
        try:
            socket.socket(family, kind, proto).close()
            return f"family {family}"
        except OSError:
            pass
    return "none"


def name(what):
    return " ".join(sorted({a[4][0] for a in socket.getaddrinfo(what, 80, 0, socket.SOCK_STREAM)}))


def query(what, kind=1):
    labels = b"".join(bytes([len(x)]) + x.encode() for x in what.split(".") if x)
    return struct.pack(">HHHHHH", 4242, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def told(m):
    return "code %d records %d" % (m[3] & 15, struct.unpack(">H", m[6:8])[0])


def dns(server, what):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(WAIT)
        s.connect((server, 53))
        s.send(query(what))
        return told(s.recv(65536))


def dnstcp(server, what):
    with socket.create_connection((server, 53), WAIT) as s:
        q = query(what)
        s.sendall(struct.pack(">H", len(q)) + q)
        f = s.makefile("rb")
        return told(f.read(struct.unpack(">H", f.read(2))[0]))


for line in sys.argv[1:]:
    verb, *rest = line.split()
    try:
        print(f"{line}: {globals()[verb](*rest)}", flush=True)
    except OSError as e:
        print(f"{line}: {word(e)}", flush=True)
