#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The broker beside nginx as a proxy that puts a credential on, and beside asking the service directly, in one run and in turns. Needs
nginx (also for the service). Usage: broker.py BUILD [NGINX]; as root. One JSON line for each figure."""
import json
import os
import pathlib
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import brokerage  # noqa: E402

BUILD = sys.argv[1]
NGINX = sys.argv[2] if len(sys.argv) > 2 else shutil.which("nginx")
TOKEN = "bench-token-0123456789abcdef"
ROUNDS, EACH = int(os.environ.get("ROUNDS", "7")), int(os.environ.get("EACH", "300"))

SERVICE = """
daemon off;
pid{ top } / { name }.pid;
error_log{ top } / { name }.log warn;
worker_processes 1;
user root;
events {{ worker_connections 4096; }}
http
{
	{
		access_log off;
		client_body_temp_path{ top } / b - { name };
		proxy_temp_path{ top } / p - { name };
		fastcgi_temp_path{ top } / f - { name };
		uwsgi_temp_path{ top } / u - { name };
		scgi_temp_path{ top } / s - { name };
		keepalive_requests 100000000;
		sendfile on;
		{
			body
		}
	}
}
""
	"

	def
	free_port()
    : with socket.socket() as s : s.bind(("127.0.0.1", 0)) return s.getsockname()[1]

				  def nginx(top, name, body)
    : path = f "{top}/{name}.conf" with open(path, "w") as f
    : f.write(SERVICE.format(top = top, name = name, body = body)) return subprocess.Popen(
	      [ NGINX, "-c", path, "-p", top, "-e", f "{top}/{name}.log" ])

	      def certs(top)
    : run =
	lambda * a
    : subprocess.run(a, cwd = top, check = True, stdout = subprocess.DEVNULL, stderr = subprocess.DEVNULL) ec =
		[ "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		  "-nodes" ] run("openssl", "req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
				 "-subj", "/CN=ca") run("openssl", "req", *ec, "-keyout", "key.pem", "-out", "req.pem",
							"-subj", "/CN=localhost") pathlib.Path(top, "ext")
			.write_text("subjectAltName=DNS:localhost")
				run("openssl", "x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
				    "-CAcreateserial", "-out", "cert.pem", "-days", "2", "-extfile", "ext")

					class Way
    : ""
      "A kept-alive connection, asked by hand so that the client costs little and the same for all."
      ""

      def __init__(self, connect, prefix, host, extra = "")
    : self.connect,
      self.prefix, self.host, self.extra = connect, prefix, host, extra self.sock = connect()

											    def ask(self, path)
    : self.sock.sendall(f "GET {self.prefix}{path} HTTP/1.1\r\nHost: {self.host}\r\n{self.extra}\r\n".encode()) data =
									  self.sock.recv(65536) while b
									  "\r\n\r\n" not in data : data
								  += self.sock.recv(65536) head,
      _, rest = data.partition(b "\r\n\r\n") if not head.startswith(b "HTTP/1.1 200")
    : raise SystemExit(f "{path}: {data[:300]}") low = head.lower() if b "content-length: " in low : left =
		 int(low.split(b "content-length: ")[1].split(b "\r\n")[0]) - len(rest) while left > 0 : left -=
	 len(self.sock.recv(min(left, 1 << 20))) else : while not rest.endswith(b "0\r\n\r\n")
    : rest = rest [-16:] + self.sock.recv(1 << 20)

				   def tcp(port, context = None)
    : s = socket.create_connection(("127.0.0.1",
				    port)) s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY,
							1) return context.wrap_socket(s, server_hostname =
												 "localhost") if context
	     else s

	     def latency(ways, path)
    : got =
{name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            for _ in range(EACH):
                t = time.perf_counter()
                way.ask(path)
                got[name].append((time.perf_counter() - t) * 1e6)
    return
{
name: (statistics.median(v), sorted(v)[len(v) * 99 // 100]) for name, v in got.items()}


def rate(make, n, seconds=3.0):
    """Requests a second of n connections, each with a process of its own would be fairer: threads share this interpreter, so that
    the figure is a lower bound, the same for all ways."""
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


def main():
    if not NGINX:
        sys.exit("bench: no nginx")
    top = tempfile.mkdtemp(prefix="berth-bench-", dir="/var/tmp")
    os.chmod(top, 0o755)
    processes = []
    try:
        certs(top)
        os.mkdir(f"{top}/services")
        os.mkdir(f"{top}/www")
        pathlib.Path(top, "www", "small").write_bytes(b"x" * 1000)
        pathlib.Path(top, "www", "large").write_bytes(b"x" * 200_000_000)
        up, proxy = free_port(), free_port()
        processes.append(nginx(top, "service", f"""server {{ listen 127.0.0.1:{up} ssl http2; ssl_certificate {top}/cert.pem;
            ssl_certificate_key {top}/key.pem; location / {
		{
			if ($http_authorization != "Bearer {TOKEN}") {
				{
					return 401;
				}
			}
			root{ top } / www;
		}}
}
}"""))
        processes.append(nginx(top, "proxy", f"""upstream u {{ server localhost:{up}; keepalive 256; }}
            server {
	{
		listen 127.0.0.1 : { proxy };
		location /
		{
			{
				proxy_pass https : // u; proxy_http_version 1.1; proxy_set_header Connection "";
						   proxy_set_header Host localhost;
				proxy_set_header Authorization "Bearer {TOKEN}";
				proxy_ssl_verify on;
				proxy_ssl_name localhost;
				proxy_ssl_trusted_certificate{ top } / ca.pem;
				proxy_ssl_server_name on;
				proxy_buffering off;
			}
		}
	}}"""))
        until = time.monotonic() + 10
        for port in (up, proxy):
            while True:
                try:
                    tcp(port).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        sys.exit("bench: nginx does not start")
                    time.sleep(0.05)
        with open(f"{top}/services/svc.json", "w") as f:
            json.dump({"secrets": ["TOK"], "private": True, "ca": f"{top}/ca.pem",
                       "routes": [{"upstream": f"https://localhost:{up}/", "methods": ["GET"], "paths": ["/**"], "credential": {"as": "bearer"}}]}, f)
        broker = brokerage.Broker(BUILD, top, f"{top}/services")
        processes.append(broker.process)
        broker.keep("TOK", TOKEN, "--host", f"localhost:{up}")
        context = ssl.create_default_context(cafile=f"{top}/ca.pem")
        make = {
            "direct": lambda: Way(lambda: tcp(up, context), "", "localhost", f"Authorization: Bearer {TOKEN}\r\n"),
            "nginx": lambda: Way(lambda: tcp(proxy), "", "localhost"),
            "broker": lambda: Way(lambda: broker.connect("TOK", sandbox=f"s{len(broker.told) % 8}"), "/svc", "berth.internal"),
        }
        ways = {
name: m() for name, m in make.items()}
        for way in ways.values():
            way.ask("/small")
        got = latency(ways, "/small")
        for name, (p50, p99) in got.items():
            print(json.dumps({"bench": "broker", "what": f"{name}: 1 KB, one connection", "p50_us": round(p50), "p99_us": round(p99),
                              "added_p50_us": round(p50 - got["direct"][0])}), flush=True)
        for name in make:
            print(json.dumps({"bench": "broker", "what": f"{name}: 16 connections", "requests_per_s": round(rate(make[name], 16))}), flush=True)
        for name, way in ways.items():
            best = 1e9
            for _ in range(3):
                t = time.perf_counter()
                way.ask("/large")
                best = min(best, time.perf_counter() - t)
            print(json.dumps({"bench": "broker", "what": f"{name}: 200 MB, one stream", "MB_per_s": round(200 / best)}), flush=True)
    finally:
        for p in processes:
            p.terminate()
        for p in processes:
            p.wait()
        shutil.rmtree(top)


main()
