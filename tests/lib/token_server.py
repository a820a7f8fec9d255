# SPDX-License-Identifier: Apache-2.0
"""A service as the broker reaches it: HTTPS on loopback that demands a token, and misbehaves where it is asked to.
Usage: token_server.py CERT KEY OUT <TOKEN. OUT.port says where; OUT.seen gets a line for each request:
method, path, whether the token came, and which names of headers."""
import base64, gzip, hashlib, http.server, io, json, os, ssl, sys, tarfile, threading, time, urllib.parse

cert, key, out = sys.argv[1:4]
token = sys.stdin.read()  # not in a command line, where others look for it
seen, lock = open(out + ".seen", "a", buffering=1), threading.Lock()


def package(name, version="1.0.0"):
    """A package of npm: its archive."""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w:gz") as t:
        for path, text in (("package/package.json", json.dumps({"name": name, "version": version, "main": "index.js"})),
                           ("package/index.js", "module.exports = 'this is %s'\n" % name)):
            i = tarfile.TarInfo(path)
            i.size = len(text)
            t.addfile(i, io.BytesIO(text.encode()))
    return b.getvalue()


packages = {n: package(n) for n in ("one", "two")}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a): pass

    def token_ok(self):
        a = self.headers.get("Authorization", "")
        basic = base64.b64encode(b"x-access-token:" + token.encode()).decode()
        return a in ("Bearer " + token, "Basic " + basic) or self.headers.get("x-api-key") == token

    def body(self):
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            all = b""
            while True:
                n = int(self.rfile.readline().split(b";")[0], 16)
                all += self.rfile.read(n)
                self.rfile.readline()
                if not n: return all
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, status, data, headers=()):
        self.send_response(status)
        for k, v in headers: self.send_header(k, v)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(data)

    def chunks(self, pieces, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for p in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(p), p))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def go(self):
        u = urllib.parse.urlsplit(self.path)
        q = dict(urllib.parse.parse_qsl(u.query))
        data = self.body()
        ok = self.token_ok()
        with lock: seen.write("%s %s %s %s\n" % (self.command, self.path, "token" if ok else "none", ",".join(sorted(k.lower() for k in self.headers))))
        if not ok:
            return self.send(401, b"no token\n", [("WWW-Authenticate", 'Basic realm="upstream"')])
        name = u.path.strip("/").split("/")[0]
        t = token.encode()
        said = self.headers.get("Authorization", "").encode()
        if name == "sum":  # what came, and as much back as is wanted
            n = int(q.get("back", 0))
            d = hashlib.sha256(data).hexdigest().encode()
            self.chunks([d + b"\n"] + [b"z" * min(65536, n - i) for i in range(0, n, 65536)], "application/octet-stream")
        elif name == "events":  # one each tenth of a second
            def events():
                end, i = time.monotonic() + float(q["seconds"]), 0
                while time.monotonic() < end:
                    yield b"data: %d %d\n\n" % (i, time.time_ns() // 1000)
                    i += 1
                    time.sleep(0.1)
                yield b"data: end\n\n"
            self.chunks(events(), "text/event-stream")
        elif name == "redirect":
            self.send(int(q.get("status", 302)), b"", [("Location", q["to"].replace("TOKEN", token))])
        elif name == "echo":  # the token itself, in every way that an upstream may say it
            how = q.get("how", "body")
            forms = {"body": t, "reversed-not": said, "json": json.dumps({"headers": {"Authorization": said.decode()}}).encode(),
                     "base64": base64.b64encode(t), "base64-1": base64.b64encode(b"x" + t), "base64-2": base64.b64encode(b"xx" + t),
                     "base64url": base64.urlsafe_b64encode(t), "hex": t.hex().encode(), "HEX": t.hex().upper().encode(),
                     "url": urllib.parse.quote(t, safe="").encode(), "basic": base64.b64encode(b"x-access-token:" + t)}
            if how == "header": self.send(200, b"ok\n", [("X-Echo", said.decode()), ("X-Plain", token)])
            elif how == "cookie": self.send(200, b"ok\n", [("Set-Cookie", "t=" + token)])
            elif how == "gzip": self.send(200, gzip.compress(said * 3), [("Content-Encoding", "gzip"), ("Content-Type", "text/plain")])
            elif how == "deflate":
                import zlib
                self.send(200, zlib.compress(said * 3), [("Content-Encoding", "deflate"), ("Content-Type", "text/plain")])
            elif how == "split": self.chunks([bytes([c]) for c in b"<" + t + b">"])
            elif how == "split-slow":
                def slow():
                    for c in b"<" + t + b">":
                        yield bytes([c])
                        time.sleep(0.01)
                self.chunks(slow(), "text/event-stream")
            elif how == "binary": self.send(200, b"\0\1\2" + t + b"\xff", [("Content-Type", "application/octet-stream")])
            elif how == "late": self.chunks([b"." * 65536] * 40 + [t])
            elif how == "error": self.send(500, b"bad request: " + said, [("Content-Type", "text/html")])
            elif how == "trailer":
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.send_header("Trailer", "X-Echo")
                self.end_headers()
                self.wfile.write(b"2\r\nok\r\n0\r\nX-Echo: " + t + b"\r\n\r\n")
            elif how == "reason":
                self.wfile.write(b"HTTP/1.1 200 " + t + b"\r\nContent-Length: 3\r\n\r\nok\n")
            elif how == "early":
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: <" + t + b">\r\n\r\n")
                self.send(200, b"ok\n")
            elif how == "name": self.send(200, b"ok\n", [(token, "x")])
            else: self.send(200, b"<" + forms[how] + b">", [("Content-Type", "text/plain")])
        elif name in packages:
            if "-" in u.path.split("/"):
                self.send(200, packages[name], [("Content-Type", "application/octet-stream")])
            else:
                tarball = "https://%s/%s/-/%s-1.0.0.tgz" % (self.headers["Host"], name, name)
                d = packages[name]
                self.send(200, json.dumps({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
                    "name": name, "version": "1.0.0", "dependencies": {"two": "^1.0.0"} if name == "one" else {},
                    "dist": {"tarball": tarball, "shasum": hashlib.sha1(d).hexdigest(),
                             "integrity": "sha512-" + base64.b64encode(hashlib.sha512(d).digest()).decode()}}}}).encode(),
                    [("Content-Type", "application/json")])
        elif name == "hello":
            self.send(200, b"hello\n")
        else:
            self.send(404, b"not here\n")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = go


class Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128

    def handle_error(self, *a): pass  # who leaves in the middle

    def process_request_thread(self, request, address):
        try:
            request = context.wrap_socket(request, server_side=True)
        except OSError:
            return request.close()
        super().process_request_thread(request, address)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server = Server(("127.0.0.1", 0), Handler)
with open(out + ".port.new", "w") as f: f.write(str(server.server_address[1]))
os.rename(out + ".port.new", out + ".port")
server.serve_forever()
