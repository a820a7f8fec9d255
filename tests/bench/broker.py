#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The broker beside nginx as a proxy that puts a credential on, and beside asking the service directly, in one run and in turns. Needs
nginx (also for the service). Usage: broker.py BUILD [NGINX]; as root. Below a daemon (tests/bench/run) also from inside a sandbox,
through the agent: this file is the one that asks there, "broker.py --inside WHAT". One JSON line for each figure."""
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

TOKEN = "bench-token-0123456789abcdef"
ROUNDS, EACH = int(os.environ.get("ROUNDS", "7")), int(os.environ.get("EACH", "300"))
LARGE = 200_000_000

NGINX_CONF = """
daemon off;
pid %(top)s/%(name)s.pid;
error_log %(top)s/%(name)s.log warn;
worker_processes 1;
user root;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path %(top)s/b-%(name)s;
    proxy_temp_path %(top)s/p-%(name)s;
    fastcgi_temp_path %(top)s/f-%(name)s;
    uwsgi_temp_path %(top)s/u-%(name)s;
    scgi_temp_path %(top)s/s-%(name)s;
    keepalive_requests 100000000;
    sendfile on;
    %(body)s
}
"""
SERVICE = """
server {
    listen 127.0.0.1:%(up)d ssl http2;
    ssl_certificate %(top)s/cert.pem;
    ssl_certificate_key %(top)s/key.pem;
    location / {
        if ($http_authorization != "Bearer %(token)s") { return 401; }
        root %(top)s/www;
    }
}
"""
PROXY = """
upstream u { server localhost:%(up)d; keepalive 256; }
server {
    listen 127.0.0.1:%(proxy)d;
    location / {
        proxy_pass https://u;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host localhost;
        proxy_set_header Authorization "Bearer %(token)s";
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_ssl_trusted_certificate %(top)s/ca.pem;
        proxy_ssl_server_name on;
        proxy_buffering off;
    }
}
"""


class Way:
    """A kept-alive connection, asked by hand so that the client costs little and the same for all."""

    def __init__(self, connect, prefix, host, extra=""):
        self.prefix, self.host, self.extra = prefix, host, extra
        self.sock = connect()

    def ask(self, path, status=b"200"):
        self.sock.sendall(f"GET {self.prefix}{path} HTTP/1.1\r\nHost: {self.host}\r\n{self.extra}\r\n".encode())
        data = self.sock.recv(65536)
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            if not more:
                raise SystemExit(f"bench: {path}: cut off behind {data!r}")
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        low = head.lower()
        if head[9:12] != status:
            raise SystemExit(f"bench: {path}: {data[:300]!r}")
        if b"content-length: " in low:
            left = int(low.split(b"content-length: ")[1].split(b"\r\n")[0]) - len(rest)
            while left > 0:
                left -= len(self.sock.recv(min(left, 1 << 20)))
        else:
            while not rest.endswith(b"0\r\n\r\n"):
                rest = rest[-16:] + self.sock.recv(1 << 20)


def tcp(port, context=None, address="127.0.0.1"):
    s = socket.create_connection((address, port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(s, server_hostname="localhost") if context else s


def timed(do, n):
    got = []
    for _ in range(n):
        t = time.perf_counter()
        do()
        got.append((time.perf_counter() - t) * 1e6)
    return got


def rate(make, n, seconds=3.0):
    """Requests a second of n connections. Threads share this interpreter, so the figure is a lower bound, the same for all ways."""
    counts, end = [0] * n, time.perf_counter() + seconds

    def loop(i, way):
        while time.perf_counter() < end:
            way.ask("/small")
            counts[i] += 1
    threads = [threading.Thread(target=loop, args=(i, make())) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(counts) / seconds


def stream(way):
    return LARGE / min(timed(lambda: way.ask("/large"), 3))  # bytes by microseconds are MB/s


def tell(what, **figures):
    print(json.dumps({"bench": "broker", "what": what, **{k: round(v) for k, v in figures.items()}}), flush=True)


def tell_latency(what, got, base=None):
    got = sorted(got)
    p50 = got[len(got) // 2]
    tell(f"{what}: 1 KB, one connection", p50_us=p50, p99_us=got[len(got) * 99 // 100], **({"added_p50_us": p50 - base} if base else {}))
    return p50


# --- inside -------------------------------------------------------------------------------------------------------------------


def inside(what):
    make = lambda: Way(lambda: tcp(80, address="berth.internal"), "/bench", "berth.internal")
    if what == "ask":
        way = make()
        way.ask("/small")
        out = timed(lambda: way.ask("/small"), EACH)
    elif what == "refusal":  # the way to the broker and back, without a service
        way = Way(lambda: tcp(80, address="berth.internal"), "/nothing", "berth.internal")
        out = timed(lambda: way.ask("/small", b"403"), EACH)
    elif what == "connect":  # a connection each
        out = timed(lambda: Way(lambda: tcp(80, address="berth.internal"), "/nothing", "berth.internal").ask("/small", b"403"), EACH)
    elif what == "rate":
        out = [rate(make, 16)]
    else:
        out = [stream(make())]
    json.dump(out, sys.stdout)


class Inside:
    """A sandbox of the daemon below which we run."""

    def __init__(self, top, up):
        self.berth("secret", "key", to=f"{top}/host.pub")
        with open(f"{os.environ['BERTHD_BROKER_SERVICES']}/bench.json", "w") as f:
            json.dump(policy(top, up, "BENCH"), f)
        subprocess.run([f"{BUILD}/berth-seal", "seal", "--to", f"{top}/host.pub", "--name", "BENCH", "--host", f"localhost:{up}", "-o",
                        f"{top}/bench.sealed"], input=TOKEN.encode(), check=True)
        self.berth("secret", "add", f"{top}/bench.sealed")
        self.id = self.berth("create", "--template", "base", "--secret", "BENCH").strip()
        self.berth("cp", __file__, f"{self.id}:broker.py")

    def berth(self, *words, to=None):
        got = subprocess.run([f"{BUILD}/berth", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout.decode()
        if to:
            pathlib.Path(to).write_text(got)
        return got

    def ask(self, what):
        return json.loads(self.berth("run", "--env", f"EACH={EACH}", self.id, "--", "python3", "/workspace/broker.py", "--inside", what))

    def end(self):
        self.berth("kill", self.id, "--grace", "0")
        self.berth("secret", "rm", "BENCH")


# --- outside ------------------------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_nginx(top, name, body):
    path = f"{top}/{name}.conf"
    with open(path, "w") as f:
        f.write(NGINX_CONF % {"top": top, "name": name, "body": body})
    return subprocess.Popen([NGINX, "-c", path, "-p", top, "-e", f"{top}/{name}.log"])


def certs(top):
    run = lambda *a: subprocess.run(a, cwd=top, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    run("openssl", "req", *ec, "-keyout", "key.pem", "-out", "req.pem", "-subj", "/CN=localhost")
    pathlib.Path(top, "ext").write_text("subjectAltName=DNS:localhost")
    run("openssl", "x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "cert.pem", "-days", "2",
        "-extfile", "ext")
    os.chmod(f"{top}/ca.pem", 0o644)


def policy(top, up, secret):
    return {"secrets": [secret], "private": True, "ca": f"{top}/ca.pem",
            "routes": [{"upstream": f"https://localhost:{up}/", "methods": ["GET"], "paths": ["/**"], "credential": {"as": "bearer"}}]}


def wait_port(port):
    until = time.monotonic() + 10
    while True:
        try:
            return tcp(port).close()
        except OSError:
            if time.monotonic() > until:
                sys.exit("bench: nginx does not start")
            time.sleep(0.05)


def compare(top, up, proxy, broker, box):
    context = ssl.create_default_context(cafile=f"{top}/ca.pem")
    make = {
        "direct": lambda: Way(lambda: tcp(up, context), "", "localhost", f"Authorization: Bearer {TOKEN}\r\n"),
        "nginx": lambda: Way(lambda: tcp(proxy), "", "localhost"),
        "broker": lambda: Way(lambda: broker.connect("TOK"), "/svc", "berth.internal"),
    }
    ways = {name: m() for name, m in make.items()}
    inner = {"inside": "ask", "inside, refused": "refusal", "inside, refused, a connection each": "connect"} if box else {}
    got = {name: [] for name in [*ways, *inner]}
    for way in ways.values():
        way.ask("/small")
    for _ in range(ROUNDS):
        for name, way in ways.items():
            got[name] += timed(lambda: way.ask("/small"), EACH)
        for name, what in inner.items():
            got[name] += box.ask(what)
    base = tell_latency("direct", got.pop("direct"))
    for name, v in got.items():
        tell_latency(name, v, base)
    for name in make:
        tell(f"{name}: 16 connections", requests_per_s=rate(make[name], 16))
    if box:
        tell("inside: 16 connections", requests_per_s=box.ask("rate")[0])
    for name, way in ways.items():
        tell(f"{name}: {LARGE // 1000000} MB, one stream", MB_per_s=stream(way))
    if box:
        tell(f"inside: {LARGE // 1000000} MB, one stream", MB_per_s=box.ask("stream")[0])


def main():
    if not NGINX:
        sys.exit("bench: no nginx")
    import brokerage

    top = tempfile.mkdtemp(prefix="berth-bench-", dir="/var/tmp")
    os.chmod(top, 0o755)
    processes, box = [], None
    try:
        certs(top)
        os.mkdir(f"{top}/services")
        os.mkdir(f"{top}/www")
        pathlib.Path(top, "www", "small").write_bytes(b"x" * 1000)
        pathlib.Path(top, "www", "large").write_bytes(b"x" * LARGE)
        up, proxy = free_port(), free_port()
        words = {"top": top, "up": up, "proxy": proxy, "token": TOKEN}
        processes += [start_nginx(top, "service", SERVICE % words), start_nginx(top, "proxy", PROXY % words)]
        wait_port(up)
        wait_port(proxy)
        with open(f"{top}/services/svc.json", "w") as f:
            json.dump(policy(top, up, "TOK"), f)
        broker = brokerage.Broker(BUILD, top, f"{top}/services")
        processes.append(broker.process)
        broker.keep("TOK", TOKEN, "--host", f"localhost:{up}")
        box = Inside(top, up) if os.environ.get("BERTHD_BROKER_SERVICES") else None
        compare(top, up, proxy, broker, box)
    finally:
        if box:
            box.end()
        for p in processes:
            p.terminate()
        for p in processes:
            p.wait()
        shutil.rmtree(top)


if sys.argv[1] == "--inside":
    inside(sys.argv[2])
else:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
    BUILD = sys.argv[1]
    NGINX = sys.argv[2] if len(sys.argv) > 2 else shutil.which("nginx")
    main()
