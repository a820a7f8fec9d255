# SPDX-License-Identifier: Apache-2.0
"""The broker alone against a service that demands the value: for tests/flow/broker.sh. Arguments: BUILD TOP."""
import base64
import ctypes
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import brokerage
import tls_service

BUILD, TOP = sys.argv[1:3]
SERVICES = os.path.join(TOP, "services")
TOKEN = "s3cr3t/tok+en=\"%d\"" % int.from_bytes(os.urandom(5), "big")
checks = 0


def fail(what):
    raise SystemExit(f"broker-check: {what}")


def equal(what, got, want):
    global checks
    checks += 1
    if got != want:
        fail(f"{what}: {got!r} instead of {want!r}")


def has_value(data):
    forms = [TOKEN, urllib.parse.quote(TOKEN, safe=""), TOKEN.encode().hex(), json.dumps(TOKEN)[1:-1]]
    forms += ["".join(spell % b for b in TOKEN.encode()) for spell in ("%%%02X", "%%%02x")]
    forms += [base64.b64encode(b"x" * i + TOKEN.encode() + b"yyy")[4:4 + (len(TOKEN) - 3) // 3 * 4].decode() for i in range(3)]
    return next((f for f in forms if f.encode() in data), None)


def seen(what, data):
    if has_value(data):
        fail(f"{what}: the value comes back: {data[:600]}")


def Conn(b, *who, **more):
    return brokerage.Conn(lambda: b.connect(*who, **more), seen)


def rule(answer):
    r, data = answer
    try:
        return r.status, json.loads(data)["error"]["rule"]
    except (ValueError, KeyError):
        return r.status, data


def write(name, **more):
    route = {"upstream": f"https://localhost:{service.port}/", "methods": ["GET", "POST", "HEAD", "PUT"], "paths": ["/**"],
             "credential": {"as": "bearer"}}
    route.update(more.pop("route", {}))
    policy = {"secrets": ["TOK"], "private": True, "ca": TOP + "/ca.pem", "routes": [route] + more.pop("routes", [])}
    policy.update(more)
    with open(f"{SERVICES}/.{name}", "w") as f:
        json.dump(policy, f)
    os.rename(f"{SERVICES}/.{name}", f"{SERVICES}/{name}.json")


def policies():
    write("svc")
    write("narrow", route={"methods": ["GET"], "paths": ["/echo/*", "/v1/**"]})
    write("key", route={"credential": {"as": "header", "name": "X-API-Key"}})
    write("basic", route={"credential": {"as": "basic", "name": "x-access-token"}})
    write("query", route={"credential": {"as": "query", "name": "key"}})
    write("rated", **{"per-minute": 3})
    write("small", **{"body-max": 10, "answer-max": 1000})
    write("inside", private=False)
    write("stranger", ca=TOP + "/other.pem")
    write("header", secrets=["*"], route={"upstream": "https://{host}/", "credential": {"as": "header", "name": "X-API-Key"}})
    write("other", secrets=["OTHER", "ANOTHER"])
    write("fixed", secrets=["FIXED"], route={"upstream": f"https://localhost:{service.port}/v1/", "methods": ["GET", "POST"], "paths": ["/a/**"]},
          **{"per-minute": 2, "body-max": 100})
    write("late", secrets=["LATE"])
    write("far", route={"upstream": "https://api.example.org/"})
    write("any", secrets=["*"], route={"upstream": "https://{host}/"})
    write("leads", route={"redirects": ["files.example.org"]})
    write("text", rewrite=[f"https://localhost:{service.port}/={{base}}/"])
    with open(f"{SERVICES}/broken.json", "w") as f:
        f.write("{\"secrets\":[\"TOK\"],\"unknown\":1}")


def forwarding(c):
    r, data = c.ask("/svc/echo/a%20b?q=1", headers={"Authorization": "Bearer mine", "X-Api-Key": "mine", "Cookie": "a=b", "X-Mine": "yes",
                                                   "Connection": "keep-alive, X-Hop", "X-Hop": "1", "X-HTTP-Method-Override": "DELETE",
                                                   "Range": "bytes=0-1", "Accept-Encoding": "gzip"})
    told = json.loads(data)
    names = [k.lower() for k, v in told["fields"]]
    equal("target", told["target"], "/echo/a%20b?q=1")
    equal("one credential", [v for k, v in told["fields"] if k.lower() == "authorization"], ["Bearer " + "*" * len(json.dumps(TOKEN)[1:-1])])
    for name in ("x-api-key", "cookie", "x-hop", "x-http-method-override", "range"):
        equal(f"{name} is dropped", name in names, False)
    equal("others go on", dict(told["fields"]).get("X-Mine", dict(told["fields"]).get("x-mine")), "yes")
    equal("a header is masked", r.getheader("X-Token"), "*" * len(TOKEN))
    for name in ("key", "basic"):
        equal(name, c.ask(f"/{name}/echo")[0].status, 200)
    r, data = c.ask("/query/echo?a=1&key=mine&k%65y=mine&b=2")
    equal("as a parameter", r.status, 200)
    seen = service.seen[-1]["target"]
    equal("one parameter", seen.count("key="), 1)
    equal("others stay", "a=1&b=2&" in seen, True)
    r, data = c.ask("/query/said?a=1")  # ask() looks for the value in all of it
    hidden = "/said?a=1&key=" + "*" * len(urllib.parse.quote(TOKEN, safe=""))
    equal("a target that is said back", (data.decode(), r.getheader("Location"), r.getheader("Link"), r.getheader("X-Target")),
          (hidden, "http://berth.internal/query" + hidden, f"<http://berth.internal/query{hidden}>; rel=self", hidden))
    body = os.urandom(3000000)
    want = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    equal("a body with a length", c.ask("/svc/sink", "POST", body)[1], want)
    pieces = (body[i:i + 70001] for i in range(0, len(body), 70001))
    c.request("POST", "/svc/sink", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    equal("a body in chunks", c.getresponse().read(), want)
    equal("long answers", len(c.ask("/svc/bytes?n=20000000")[1]), 20000000)
    equal("with a length", len(c.ask("/svc/bytes?n=3000000&length=1")[1]), 3000000)
    r, data = c.ask("/svc/bytes?n=5&length=1", "HEAD")
    equal("HEAD", (r.status, data), (200, b""))
    lines = c.ask("/svc/split")[1].split()
    # The last character of base64 has a few bits of the value and of what follows.
    equal("an answer in every two pieces", [l for l in lines if len(l.strip(b"<*>").rstrip(b"=")) > 1], [])
    equal("lines", len(lines) > 100, True)
    equal("compressed all the same", c.ask("/svc/gzip")[1], b"it is " + b"*" * len(TOKEN) + b"\n")
    equal("no credential is made up", c.ask("/open")[0].status, 403)
    r, data = c.ask(f"/text/echo?u=https://localhost:{service.port}/x")
    equal("addresses of it become ours", b"http://berth.internal/text/x" in data and b"localhost:%d/x" % service.port not in data, True)


def streams(b):
    """Events pass one by one: the service sends the next when we have read the one before."""
    c = b.connect("TOK")
    c.sendall(b"GET /svc/sse?n=5&gate=g HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
    f, got = c.makefile("rb"), []
    while (line := f.readline()) != b"\r\n":
        pass
    for i in range(5):
        service.open_gate(f"g-{i}")
        n = int(f.readline(), 16)
        got.append(f.read(n))
        f.readline()
    equal("events", got, [b"data: %d\n\n" % i for i in range(5)])
    # many at a time, each of which waits for all the others to be there
    n = int(os.environ.get("STREAMS", "150"))
    many = [b.connect("TOK", sandbox=f"s{i % 3}") for i in range(n)]
    before = len(service.seen)
    for s in many:
        s.sendall(b"GET /svc/sse?n=1&gate=all HTTP/1.1\r\nHost: berth.internal\r\nConnection: close\r\n\r\n")
    until = time.monotonic() + 60
    while len(service.seen) < before + n:
        if time.monotonic() > until:
            fail(f"{len(service.seen) - before} of {n} streams came through")
        time.sleep(0.02)
    service.open_gate("all-0")
    for s in many:
        data = b""
        while piece := s.recv(65536):
            data += piece
        if b"data: 0\n\n" not in data:
            fail(f"a stream got {data}")
    equal("a connection has one of them", service.connections >= n, True)
    # a reader that stands still does not make the broker keep what he does not read
    s = b.connect("TOK")
    s.sendall(b"GET /svc/bytes?n=2000000000 HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
    s.recv(1000)
    for _ in range(3):
        equal("others go on meanwhile", Conn(b, "TOK").ask("/svc/echo")[0].status, 200)
    with open(f"/proc/{b.process.pid}/status") as status:
        kib = int(next(l for l in status if l.startswith("VmRSS")).split()[1])
    if kib > 700000:
        fail(f"the broker has {kib} KiB")
    s.close()
    # nor do many, where the service may send ahead: those of whoever has most of them are cut off
    if service.version == 2:
        still = [b.connect("TOK", sandbox="still") for _ in range(40)]
        for s in still:
            s.sendall(b"GET /svc/bytes?n=2000000000 HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
        b.wait_told(lambda r: r["rule"] == "stalled" and r["sandbox"] == "still", "that readers stand still")
        equal("others go on", Conn(b, "TOK").ask("/svc/echo")[0].status, 200)
        for s in still:
            s.close()


def refusals(b, c):
    cases = [
        ("/nothing/x", "GET", "no-such-service"), ("/broken/x", "GET", "service-broken"), ("/narrow/echo/a", "GET", None),
        ("/narrow/echo/a", "POST", "method"), ("/narrow/echo/a/b", "GET", "path"), ("/narrow/v1/../echo", "GET", "path-form"),
        ("/narrow/v1/%2e%2e/echo", "GET", "path-form"), ("/narrow/v1%2Fx", "GET", "path-form"), ("/narrow//v1/x", "GET", "path-form"),
        ("/far/x", "GET", "wrong-host"), ("/other/x", "GET", "no-secret"), ("/late/x", "GET", "no-secret"),
        (f"/any/localhost:{service.port}/echo", "GET", "no-secret"), ("/inside/echo", "GET", "private-address"),
    ]
    for path, method, want in cases:
        r = rule(c.ask(path, method))
        equal(f"{method} {path}", r[1] if want else r[0], want or 200)
    equal("another authority", rule(c.ask("/stranger/echo")), (502, "tls"))
    both = Conn(b, "OTHER,ANOTHER,LATE,FREE,FOREIGN")
    equal("two secrets", rule(both.ask("/other/x")), (403, "ambiguous-secret"))
    equal("one is enough", Conn(b, "OTHER").ask("/other/echo")[0].status, 200)
    until = time.monotonic() + 30
    while (r := rule(both.ask("/late/x")))[0] == 200 and time.monotonic() < until:
        time.sleep(0.1)
    equal("expired", r, (403, "expired"))
    equal("any host, of the sealed file", both.ask(f"/any/localhost:{service.port}/echo")[0].status, 200)
    equal("and no other", rule(both.ask("/any/api.example.org/echo")), (403, "wrong-host"))
    equal("another template", rule(Conn(b, "TOK", template="strange").ask("/svc/echo")), (403, "wrong-template"))
    equal("a name that it was not given", rule(Conn(b, "").ask("/svc/echo")), (403, "no-secret"))
    results = [rule(c.ask("/rated/echo"))[0] for _ in range(4)]
    equal("a rate", results, [200, 200, 200, 429])
    equal("another sandbox has its own", rule(Conn(b, "TOK", sandbox="s9").ask("/rated/echo"))[0], 200)
    equal("a body that is too long", rule(Conn(b, "TOK").ask("/small/sink", "POST", b"x" * 11)), (413, "body-size"))
    n = Conn(b, "TOK")
    n.request("POST", "/small/sink", iter([b"x" * 6, b"x" * 6]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    r = n.getresponse()
    equal("in chunks", rule((r, r.read())), (403, "body-size"))
    equal("an answer that is too long", rule(Conn(b, "TOK").ask("/small/echo?" + "x" * 900)), (403, "answer-size"))
    got = raw(b, b"GET /small/bytes?n=5000 HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
    equal("one that does not say how long it is", got.endswith(b"0\r\n\r\n") or len(got) > 2000, False)


def sealed_policies(b):
    """What the sealed file says, whatever the service allows; and the other way round."""
    host, n = f"localhost:{service.port}", 0

    def given(*options, value=TOKEN, hosts=(host,)):
        nonlocal n
        n += 1  # a sandbox of its own: rates are theirs
        for name in ("FREE", "FIXED"):  # one for any host's services, one for that of a file
            b.keep(name, value, *(w for h in hosts for w in ("--host", h)), *options)
        return Conn(b, "FREE,FIXED", sandbox=f"q{n}")

    for kind in ("any", "header"):
        at = f"/{kind}/{host}"
        c = given("--method", "POST", "--path", "/sink", "--path", "/echo/*")
        equal("as it is allowed", (c.ask(at + "/sink", "POST", b"x")[0].status, c.ask(at + "/echo/a", "POST", b"")[0].status), (200, 200))
        equal("its methods", rule(c.ask(at + "/echo/a")), (403, "method"))
        equal("its paths", [rule(c.ask(at + p, "POST", b"")) for p in ("/echo", "/echo/a/b", "/sin%6B/")], [(403, "path")] * 3)
        equal("however it is written", c.ask(at + "/sin%6b", "POST", b"x")[0].status, 200)
    b.wait_told(lambda r: r["kind"] == brokerage.REFUSED and r["rule"] == "method" and r["secret"] == "FREE" and r["service"] == "any" and
                r["path"] == "/echo/a", "whose secret was refused")
    c = given("--path", "/v1/a/*", "--method", "GET", "--method", "PUT")
    equal("paths are of the host", c.ask("/fixed/a/b")[0].status, 200)
    equal("both are asked", [rule(c.ask(*q))[1] for q in (("/fixed/a/b", "POST"), ("/fixed/a/b", "PUT"), ("/fixed/a/b/c",), ("/fixed/b",))],
          ["method", "method", "path", "path"])
    c = given("--per-minute", "3")
    equal("its rate", [rule(c.ask(f"/any/{host}/echo"))[0] for _ in range(4)], [200, 200, 200, 429])
    equal("of all services", rule(c.ask(f"/header/{host}/echo")), (429, "rate"))
    equal("of one sandbox", rule(Conn(b, "FREE", sandbox="q").ask(f"/any/{host}/echo"))[0], 200)
    c = given("--per-minute", "60")
    equal("the service's rate", [rule(c.ask("/fixed/a/b"))[0] for _ in range(3)], [200, 200, 429])
    for limit, at, want in (("50", "/fixed/a/b", [200, 413]), ("1K", "/fixed/a/b", [200, 413]), ("50", f"/any/{host}/sink", [200, 413])):
        lens = (50, 51) if limit == "50" else (100, 101)
        equal(f"bodies at {at} below {limit}", [given("--body-max", limit).ask(at, "POST", b"x" * i)[0].status for i in lens], want)
    c = given("--body-max", "10")
    c.request("POST", f"/any/{host}/sink", iter([b"x" * 6, b"x" * 6]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    r = c.getresponse()
    equal("in chunks", rule((r, r.read())), (403, "body-size"))
    equal("answers", [rule(given("--answer-max", "5000").ask(f"/any/{host}/bytes?length=1&n={i}"))[0] for i in (5000, 5001)], [200, 403])
    long = f"GET /any/{host}/bytes?n=100000 HTTP/1.1\r\nHost: berth.internal\r\n\r\n".encode()
    got = raw(b, long, "FREE")
    equal("one that does not say how long it is", got.endswith(b"0\r\n\r\n") or len(got) > 60000, False)
    given()
    equal("which is whole without", raw(b, long, "FREE").endswith(b"0\r\n\r\n"), True)
    # the header
    c = given("--header", "X-Mine: token ")
    c.ask(f"/header/{host}/echo", headers={"x-mine": "theirs", "X-API-Key": "theirs"})
    told = [(k.lower(), v) for k, v in service.seen[-1]["fields"]]
    equal("under its own name", [f for f in told if f[0] in ("x-mine", "x-api-key")], [("x-mine", "token " + TOKEN)])
    for at, secret in ((f"/any/{host}/echo", "bearer"), ("/fixed/a/b", "bearer")):
        equal(f"not as {secret}", rule(c.ask(at)), (403, "header"))
    c = given("--header", "Authorization: Bearer ")
    equal("a bearer is a header", (c.ask(f"/any/{host}/echo")[0].status, c.ask("/fixed/a/b")[0].status), (200, 200))
    # any host is none, as long as nothing names it
    c = given(hosts=("*",))
    equal("any host", [rule(c.ask(p)) for p in (f"/any/{host}/echo", "/fixed/a/b", "/any/api.example.org/")], [(403, "wrong-host")] * 3)
    equal("beside one", given(hosts=("*", host)).ask(f"/any/{host}/echo")[0].status, 200)
    equal("what there is", json.loads(b.ask(brokerage.SERVICES, who=("s1", "base", "k", "FREE,FIXED"))) != [], True)
    given(hosts=("*",))
    equal("and is not", json.loads(b.ask(brokerage.SERVICES, who=("s1", "base", "k", "FREE,FIXED"))), [])
    given("--header", "X-Mine")
    names = [s["name"] for s in json.loads(b.ask(brokerage.SERVICES, who=("s1", "base", "k", "FREE,FIXED")))]
    equal("where it can be put", ("header" in names, "fixed" in names, "any" in names), (True, False, False))
    b.ask(brokerage.DROP, "FIXED")
    b.keep("FREE", TOKEN, "--host", host)


def redirects(c):
    here = f"https://localhost:{service.port}"
    ask = lambda to, name="svc": c.ask(f"/{name}/redirect?to=" + urllib.parse.quote(to, safe=""))
    equal("into itself", ask(here + "/x/y?z=1")[0].getheader("Location"), "http://berth.internal/svc/x/y?z=1")
    equal("a path", ask("/x")[0].getheader("Location"), "http://berth.internal/svc/x")
    equal("beside", ask("x?y")[0].getheader("Location"), "x?y")
    equal("a host that it names", ask("https://files.example.org/x", "leads")[0].getheader("Location"), "https://files.example.org/x")
    for to in ("https://evil.example/", "http://localhost/x", "//evil.example/x", "/\\evil.example", "https://files.example.org/x",
               f"https://localhost:{service.port + 1}/x", "javascript:x", f"http://localhost:{service.port}/x"):
        equal(f"to {to}", rule(ask(to)), (403, "redirect"))
    equal("with the value in it", has_value(str(ask("/" + urllib.parse.quote(TOKEN, safe=""))[0].getheaders()).encode()), None)
    r, _ = c.ask("/svc/link?to=" + urllib.parse.quote(f"<{here}/n?page=2>; rel=\"next\"", safe=""))
    equal("links", r.getheader("Link"), "<http://berth.internal/svc/n?page=2>; rel=\"next\"")
    equal("cookies and the like", (r.getheader("Set-Cookie"), r.getheader("Strict-Transport-Security")), (None, None))


def raw(b, text, secrets="TOK"):
    s = b.connect(secrets)
    s.sendall(text)
    s.shutdown(socket.SHUT_WR)
    data = b""
    while piece := s.recv(65536):
        data += piece
    s.close()
    return data


def smuggling(b):
    top = b"POST /svc/sink HTTP/1.1\r\nHost: berth.internal\r\n"
    inner = b"GET /svc/open HTTP/1.1\r\nHost: berth.internal\r\n\r\n"
    before = len(service.seen)
    bad = [
        top + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        top + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello" + inner,
        top + b"Transfer-Encoding: x\r\n\r\n" + inner, top + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + inner,
        top + b"X: a\r\n b\r\n\r\n", top + b"X: a\nY: b\r\n\r\n", top + b"X: a\rY: b\r\n\r\n", top + b"\x00: a\r\n\r\n",
        b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n", b"CONNECT /svc/x HTTP/1.1\r\nHost: berth.internal\r\n\r\n",
        top + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"GET https://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n",
        b"GET /svc/echo HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
        top + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", top + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
        top + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n" + inner,
    ]
    for text in bad:
        got = raw(b, text)
        answers = len(re.findall(rb"HTTP/1\.1 \d", got))
        if answers > 1 or (answers and not got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))):
            fail(f"{text!r} is answered {got!r}")
        equal("refused", has_value(got), None)
    paths = [s["target"] for s in service.seen[before:]]
    equal("what was hidden did not arrive", [p for p in paths if p != "/sink"], [])
    got = raw(b, b"GET /svc/echo/1 HTTP/1.1\r\nHost: berth.internal\r\n\r\nGET /svc/echo/2 HTTP/1.1\r\nHost: berth.internal\r\nConnection: close\r\n\r\n")
    equal("one behind the other", (got.count(b"HTTP/1.1 200"), got.index(b"/echo/1") < got.index(b"/echo/2")), (2, True))
    s = b.connect("TOK")
    s.sendall(top + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    equal("continue", s.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
    s.sendall(b"hello")
    equal("then the answer", s.recv(12), b"HTTP/1.1 200")


def cpu_of(b):
    with open(f"/proc/{b.process.pid}/stat") as f:
        times = f.read().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def stuffing(b):
    """Who asks and asks, and reads nothing, costs nothing meanwhile; when he reads, each is answered."""
    s, one, left, asked = b.connect("TOK", sandbox="stuffed"), b"GET /nothing/x HTTP/1.1\r\nHost: berth.internal\r\n\r\n", b"", 0
    s.setblocking(False)
    until, room = time.monotonic() + 60, select.poll()
    room.register(s, select.POLLOUT)
    while room.poll(1000):
        if not left:
            left, asked = one * 100, asked + 100
        left = left[s.send(left):]
        if time.monotonic() > until:
            fail(f"{asked} requests are taken of one who reads no answer")
    before = cpu_of(b)
    if room.poll(1500):
        fail("it goes on reading")
    used = cpu_of(b) - before
    if used > 0.5:
        fail(f"the broker used {used} seconds of a processor for one who does not read")
    answers, tail = 0, b""
    s.setblocking(True)
    s.settimeout(60)
    sending = threading.Thread(target=s.sendall, args=(left,), daemon=True)
    sending.start()
    while answers < asked:
        piece = s.recv(65536)
        if not piece:
            fail(f"{answers} of {asked} requests are answered")
        data = tail + piece
        answers, tail = answers + data.count(b"HTTP/1.1 403"), data[-11:]
    sending.join()
    equal("all are answered", answers, asked)
    s.close()


def failing(b):
    r = raw(b, b"GET /svc/cut HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
    equal("an answer that is cut off is seen as such", r.endswith(b"some\n") and b"Content-Length: 100" in r, True)
    s = b.connect("TOK")
    s.sendall(b"GET /svc/hang HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
    until = time.monotonic() + 30
    while not any(x["target"] == "/hang" for x in service.seen) and time.monotonic() < until:
        time.sleep(0.01)
    slot = b.slot
    s.close()  # who has left is heard of, though the service says nothing
    b.wait_told(lambda r: r["kind"] == brokerage.GONE and r["slot"] == slot, "that a connection has ended")
    service.open_gate("hang")


def audit(b):
    b.hold = threading.Event()
    before = len(service.seen)
    s = b.connect("TOK", sandbox="fresh")
    s.sendall(b"GET /svc/echo/first HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
    b.wait_told(lambda r: r["kind"] == brokerage.FIRST and r["sandbox"] == "fresh", "a first use")
    equal("nothing is sent before it is written down", len(service.seen), before)
    b.hold.set()
    equal("then it is", s.recv(12), b"HTTP/1.1 200")
    b.wait_told(lambda r: r["kind"] == brokerage.USED and r["sandbox"] == "fresh" and r["status"] == 200 and r["down"] > 0 and
                r["path"] == "/echo/first" and r["secret"] == "TOK" and r["method"] == "GET" and r["count"] == 1, "what was used")
    b.wait_told(lambda r: r["kind"] == brokerage.REFUSED and r["rule"] == "method" and r["service"] == "narrow", "a refusal")
    b.hold, b.refuse_audit = None, True
    equal("what is not written down does not happen", rule(Conn(b, "TOK", sandbox="unwritten").ask("/svc/echo")), (503, "audit"))
    b.refuse_audit = False


def opening(b):
    """The daemon is given values that it delivers, and no others."""
    equal("a file's", b.ask(brokerage.OPEN, tail=b.seal("A", TOKEN, "--deliver", "file")), TOKEN.encode())
    equal("a variable's", b.ask(brokerage.OPEN, tail=b.seal("A", TOKEN, "--deliver", "env")), TOKEN.encode())
    mine = b.seal("TOK", TOKEN, "--host", f"localhost:{service.port}")
    equal("one for the broker", b.ask(brokerage.OPEN, tail=mine, check=False), "wrong-delivery")
    equal("but it can be looked at", b.ask(brokerage.CHECK, tail=mine), b"")
    late, until = b.seal("A", TOKEN, "--deliver", "file", "--expires", "1s"), time.monotonic() + 30
    while (r := b.ask(brokerage.OPEN, tail=late, check=False)) == TOKEN.encode() and time.monotonic() < until:
        time.sleep(0.1)
    equal("one that has expired", r, "expired")


def reach(there, what):
    until = time.monotonic() + 30
    while not there():
        if time.monotonic() > until:
            fail(f"{what} does not come")
        time.sleep(0.2)


def rotation(b):
    c = Conn(b, "TOK")
    b.keep("TOK", "another value", "--host", f"localhost:{service.port}")
    equal("the new value from now on", c.ask("/svc/echo")[0].status, 401)
    b.ask(brokerage.DROP, "TOK")
    equal("and none when it is gone", rule(c.ask("/svc/echo")), (403, "no-secret"))


def reread(b):
    write("new")
    reach(lambda: rule(Conn(b, "TOK").ask("/new/echo"))[0] == 200, "a new policy")


def memory(b):
    """The value is where nobody may read, except root: not in what can be read and written, between uses."""
    with open(f"/proc/{b.process.pid}/status") as f:
        status = f.read()
    for line in ("NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Seccomp:\t2"):
        equal(line, line in status, True)
    equal("not dumpable", os.stat(f"/proc/{b.process.pid}/mem").st_uid, 0)


def speaks_two():
    """The broker does with a libcurl of 8.2 or newer; that of tests when it is told so."""
    curl = ctypes.CDLL("libcurl.so.4").curl_version
    curl.restype = ctypes.c_char_p
    if tuple(map(int, re.match(rb"libcurl/(\d+)\.(\d+)", curl()).groups())) >= (8, 2):
        return bool(tls_service.h2)
    try:
        with open(f"{SERVICES}/weak") as f:
            return bool(tls_service.h2) and "http2" in f.read().split()
    except FileNotFoundError:
        return False


for version in ["one"] + (["two"] if speaks_two() else []):
    service = tls_service.Service(TOP + "/cert.pem", TOP + "/key.pem", TOKEN, version == "two")
    service.version = 2 if version == "two" else 1
    policies()
    broker = brokerage.Broker(BUILD, TOP, SERVICES, os.environ.get("BROKER", "berth-broker"))
    host = f"localhost:{service.port}"
    broker.keep("TOK", TOKEN, "--host", host, "--for", "template=base")
    for other in ("OTHER", "ANOTHER", "FREE"):
        broker.keep(other, TOKEN, "--host", host)
    broker.keep("FOREIGN", TOKEN, "--host", host, "--for", "template=foreign")
    broker.keep("LATE", TOKEN, "--host", host, "--expires", "1s")
    conn = Conn(broker, "TOK")
    forwarding(conn)
    if version == "two":
        equal("HTTP/2 is spoken", {s["version"] for s in service.seen}, {2})
    streams(broker)
    redirects(conn)
    refusals(broker, conn)
    sealed_policies(broker)
    smuggling(broker)
    stuffing(broker)
    failing(broker)
    audit(broker)
    reread(broker)
    memory(broker)
    opening(broker)
    rotation(broker)
    print(f"HTTP/{version}: {service.connections} connections for {len(service.seen)} requests")
    equal("it ends with its daemon", broker.end(), 0)
print(f"{checks} checks")
