# SPDX-License-Identifier: Apache-2.0
"""A service that demands a credential, on loopback with TLS: HTTP/1.1, and HTTP/2 where python3-h2 is installed. As a program:
tls_service.py CERT KEY TOKEN [h2]; it prints its port. What it was asked is in .seen."""
import asyncio
import base64
import gzip
import hashlib
import json
import ssl
import sys
import threading
import urllib.parse

try:
    import h2.config
    import h2.connection
    import h2.events
    import h2.exceptions
except ImportError:
    h2 = None


class Exchange:
    """One request and its answer, whatever it came over."""

    def __init__(self, service, method, target, fields):
        self.service, self.method, self.fields = service, method, fields
        self.path, _, query = target.partition("?")
        self.target = target
        self.query = dict(urllib.parse.parse_qsl(query))
        self.body = asyncio.Queue()  # bytes, None at the end

    async def whole(self):
        all = b""
        while (piece := await self.body.get()) is not None:
            all += piece
        return all

    def get(self, name):
        return next((v for k, v in self.fields if k.lower() == name), "")

    def allowed(self):
        token = self.service.token
        basic = base64.b64encode(("x-access-token:" + token).encode()).decode()
        return (self.get("authorization") in ("Bearer " + token, "Basic " + basic) or self.get("x-api-key") == token or
                self.query.get("key") == token)


class Service:
    def __init__(self, cert, key, token, http2=False, host="127.0.0.1"):
        self.token, self.seen, self.gates = token, [], {}
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.context.set_alpn_protocols((["h2"] if http2 and h2 else []) + ["http/1.1"])
        self.connections = self.versions = 0
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.host = host
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.ready.wait(10)

    def run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.connection, self.host, 0, ssl=self.context, limit=1 << 20))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()

    def gate(self, name):
        """An event that a stream waits for; set from any thread by open_gate()."""
        return self.gates.setdefault(name, asyncio.Event())

    def open_gate(self, name):
        self.loop.call_soon_threadsafe(lambda: self.gate(name).set())

    async def connection(self, reader, writer):
        self.connections += 1
        try:
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
                await Two(self, reader, writer).run()
            else:
                await self.one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def one(self, reader, writer):
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            fields = [tuple(x.strip() for x in l.split(":", 1)) for l in lines[1:] if l]
            ex = Exchange(self, method, target, fields)
            ex.version = 1
            feeding = asyncio.ensure_future(self.feed(ex, reader))
            out = One(writer, method)
            await self.answer(ex, out)
            await feeding
            if out.last:
                return

    async def feed(self, ex, reader):
        if ex.get("transfer-encoding") == "chunked":
            while (n := int(await reader.readline() or b"0", 16)):
                await ex.body.put(await reader.readexactly(n))
                await reader.readline()
            await reader.readline()
        else:
            left = int(ex.get("content-length") or 0)
            while left:
                piece = await reader.read(min(left, 65536))
                if not piece:
                    raise ConnectionError
                left -= len(piece)
                await ex.body.put(piece)
        await ex.body.put(None)

    async def answer(self, ex, out):
        if __name__ == "__main__":
            print(ex.method, ex.target, file=sys.stderr, flush=True)
        self.seen.append({"method": ex.method, "target": ex.target, "fields": ex.fields, "version": ex.version})
        q, token = ex.query, self.token
        if not ex.allowed() and ex.path != "/open":
            await ex.whole()
            return await out.all(401, [("WWW-Authenticate", "Bearer")], b"no\n")
        name = ex.path.split("/")[1] if "/" in ex.path else ""
        if name == "echo":
            body = await ex.whole()
            told = json.dumps({"method": ex.method, "target": ex.target, "fields": ex.fields, "body": body.decode("latin-1")})
            return await out.all(200, [("Content-Type", "application/json"), ("X-Token", token)], told.encode())
        if name == "sse":
            await ex.whole()
            await out.begin(200, [("Content-Type", "text/event-stream")])
            for i in range(int(q.get("n", 3))):
                if q.get("gate"):
                    await self.gate(f"{q['gate']}-{i}").wait()
                await out.data(f"data: {i}\n\n".encode())
            return await out.end()
        if name == "split":  # the value in pieces, with every border in it
            forms = [token, base64.b64encode(token.encode()).decode(), urllib.parse.quote(token, safe=""), token.encode().hex()]
            await out.begin(200, [("Content-Type", "text/plain")])
            for form in forms:
                for at in range(1, len(form)):
                    await out.data(b"<" + form[:at].encode())
                    await asyncio.sleep(0)
                    await out.data(form[at:].encode() + b">\n")
            return await out.end()
        if name == "gzip":
            return await out.all(200, [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")], gzip.compress(f"it is {token}\n".encode()))
        if name == "redirect":
            await ex.whole()
            return await out.all(302, [("Location", q["to"])], b"")
        if name == "link":
            return await out.all(200, [("Link", q["to"]), ("Set-Cookie", "s=1"), ("Strict-Transport-Security", "max-age=9")], b"[]")
        if name == "said":  # its target, as it came
            place = f"https://localhost:{self.port}{ex.target}"
            return await out.all(302, [("Location", place), ("Link", f"<{place}>; rel=self"), ("X-Target", ex.target)], ex.target.encode())
        if name == "sink":
            digest, n = hashlib.sha256(), 0
            while (piece := await ex.body.get()) is not None:
                digest.update(piece)
                n += len(piece)
            return await out.all(200, [("Content-Type", "text/plain")], f"{n} {digest.hexdigest()}".encode())
        if name == "bytes":
            left = int(q["n"])
            if ex.method == "HEAD":
                return await out.all(200, [("Content-Type", "application/octet-stream")], b"x" * left)
            await out.begin(200, [("Content-Type", "application/octet-stream")], left if "length" in q else None)
            while left:
                piece = min(left, 65536)
                await out.data(b"x" * piece)
                left -= piece
            return await out.end()
        if name == "cut":
            await out.begin(200, [("Content-Type", "text/plain")], 100)
            await out.data(b"some\n")
            raise ConnectionError
        if name == "hang":
            await self.gate("hang").wait()
        await ex.whole()
        await out.all(200, [("Content-Type", "text/plain")], b"ok\n")


class One:
    def __init__(self, writer, method):
        self.writer, self.method, self.last = writer, method, False

    async def begin(self, status, fields, length=None):
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields)
        self.chunked = length is None
        head += "Transfer-Encoding: chunked\r\n" if self.chunked else f"Content-Length: {length}\r\n"
        self.writer.write(head.encode("latin-1") + b"\r\n")
        await self.writer.drain()

    async def data(self, data):
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)
        await self.writer.drain()

    async def end(self):
        if self.chunked:
            self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def all(self, status, fields, body):
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields) + f"Content-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode("latin-1") + (b"" if self.method == "HEAD" else body))
        await self.writer.drain()


class Two:
    """A connection of HTTP/2."""

    def __init__(self, service, reader, writer):
        self.service, self.reader, self.writer = service, reader, writer
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.streams, self.room, self.tasks = {}, asyncio.Condition(), []

    async def flush(self):
        self.writer.write(self.conn.data_to_send())
        await self.writer.drain()

    async def run(self):
        self.conn.initiate_connection()
        await self.flush()
        while data := await self.reader.read(65536):
            for e in self.conn.receive_data(data):
                if isinstance(e, h2.events.RequestReceived):
                    fields = [(k.decode() if isinstance(k, bytes) else k, v.decode("latin-1") if isinstance(v, bytes) else v)
                              for k, v in e.headers]
                    at = dict(fields)
                    ex = Exchange(self.service, at[":method"], at[":path"], [(k, v) for k, v in fields if k[0] != ":"])
                    ex.version = 2
                    self.streams[e.stream_id] = ex
                    self.tasks.append(asyncio.ensure_future(self.serve(ex, e.stream_id)))
                elif isinstance(e, h2.events.DataReceived):
                    self.conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                    await self.streams[e.stream_id].body.put(e.data)
                elif isinstance(e, h2.events.StreamEnded):
                    await self.streams[e.stream_id].body.put(None)
                elif isinstance(e, h2.events.WindowUpdated):
                    async with self.room:
                        self.room.notify_all()
            await self.flush()


    async def serve(self, ex, stream):
        try:
            await self.service.answer(ex, TwoOut(self, stream, ex.method))
        except h2.exceptions.ProtocolError:
            pass  # who asked has left, or the connection has
        except ConnectionError:
            self.conn.reset_stream(stream)
            await self.flush()


class TwoOut:
    def __init__(self, two, stream, method):
        self.two, self.stream, self.method = two, stream, method

    async def begin(self, status, fields, length=None, end=False):
        head = [(":status", str(status))] + [(k.lower(), v) for k, v in fields]
        if length is not None:
            head.append(("content-length", str(length)))
        self.two.conn.send_headers(self.stream, head, end_stream=end)
        await self.two.flush()

    async def data(self, data):
        while data:
            room = min(self.two.conn.local_flow_control_window(self.stream), self.two.conn.max_outbound_frame_size, len(data))
            if not room:
                async with self.two.room:
                    await self.two.room.wait()
                continue
            self.two.conn.send_data(self.stream, data[:room])
            data = data[room:]
            await self.two.flush()

    async def end(self):
        self.two.conn.end_stream(self.stream)
        await self.two.flush()

    async def all(self, status, fields, body):
        none = self.method == "HEAD" or not body
        await self.begin(status, fields, len(body), end=none)
        if not none:
            await self.data(body)
            await self.end()


if __name__ == "__main__":
    s = Service(sys.argv[1], sys.argv[2], sys.argv[3], "h2" in sys.argv[4:])
    print(s.port, flush=True)
    threading.Event().wait()
