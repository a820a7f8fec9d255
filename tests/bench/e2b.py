#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What E2B's clients would wait for, asked as they ask, on kept connections: a command, a create and its first output, output
as a stream, files both ways; and what a program waits for that uses the SDK as it comes. Peers in turn: crun exec, podman exec, and nginx
for files. Parts of tests/bench/run."""
import http.client
import json
import os
import shutil
import struct
import subprocess
import time

from bench import KIB, MIB, note, report, turns

HERE = os.path.dirname(os.path.abspath(__file__))

FILE_MIB, STREAM_MIB = 512, 256


def envelope(message):
    text = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(text)) + text


class Door:
    """One kept connection of a client."""

    def __init__(self, port, headers):
        self.conn = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = headers

    def ask(self, method, path, body=None, wants=(200, 201, 204), **more):
        self.conn.request(method, path, body, {**self.headers, **more})
        r = self.conn.getresponse()
        if r.status not in wants:
            raise SystemExit(f"{method} {path}: {r.status} {r.read()[:200]}")
        return r

    def run(self, cmd, *args):
        """Whether its end came; what it printed is thrown away."""
        body = envelope({"process": {"cmd": cmd, "args": list(args)}, "stdin": False})
        r = self.ask("POST", "/process.Process/Start", body, **{"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1"})
        n = end = 0
        while True:
            head = r.read(5)
            if len(head) < 5:
                break
            flags, size = struct.unpack(">BI", head)
            text = r.read(size)
            n += size
            end |= b'"end"' in text[:40]
        if not end:
            raise SystemExit("no end")
        return n


def connect(key):
    port = int(os.environ["BENCH_E2B_PORT"])
    control = Door(port, {"X-API-Key": key, "Content-Type": "application/json"})

    def create(template="base"):
        box = json.loads(control.ask("POST", "/v2/sandboxes", json.dumps({"templateID": template, "timeout": 600, "allowInternetAccess": False})).read())
        return box["sandboxID"], Door(port, {"E2b-Sandbox-Id": box["sandboxID"], "X-Access-Token": box["envdAccessToken"]})

    return control, create


class Nginx:
    """Serves and takes files of a directory, sendfile on."""

    def __init__(self, at):
        self.at, self.port = at, 20000 + os.getpid() % 10000
        os.makedirs(at + "/tmp", exist_ok=True)
        os.chmod(at, 0o777)
        os.chmod(at + "/tmp", 0o777)
        with open(at + "/nginx.conf", "w", encoding="utf-8") as f:
            f.write(f"""
daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
load_module modules/ngx_http_dav_ext_module.so;
events {{ }}
http {{ access_log off; sendfile on; client_body_temp_path {at}/tmp; proxy_temp_path {at}/tmp; fastcgi_temp_path {at}/tmp; uwsgi_temp_path {at}/tmp;
 scgi_temp_path {at}/tmp; client_max_body_size 0;
 server {{ listen 127.0.0.1:{self.port}; root {at}; location / {{ dav_methods PUT; }} }} }}
""".replace("load_module modules/ngx_http_dav_ext_module.so;\n", ""))
        self.process = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", at + "/nginx.conf", "-p", at])
        self.door = Door(self.port, {})
        for _ in range(200):
            try:
                self.door.conn.connect()
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit("nginx does not listen")

    def end(self):
        self.process.terminate()
        self.process.wait()


def down(door, path):
    def once():
        t = time.perf_counter_ns()
        r, n = door.ask("GET", path), 0
        buf = bytearray(256 * KIB)
        while got := r.readinto(buf):
            n += got
        if n != FILE_MIB * MIB:
            raise SystemExit(f"{path}: {n} bytes")
        return n / MIB / ((time.perf_counter_ns() - t) / 1e9)
    return once


def up(door, method, path, data, **headers):
    def once():
        t = time.perf_counter_ns()
        door.ask(method, path, data, **headers).read()
        return len(data) / MIB / ((time.perf_counter_ns() - t) / 1e9)
    return once


def wait_ready(figures):
    end = time.monotonic() + 60
    while b'berth_ready{template="ahead"} 2' not in figures.ask("GET", "/metrics").read():
        if time.monotonic() > end:
            raise SystemExit("none is ready")
        time.sleep(0.02)


def keys(part):
    """One for a client of this part, and the door of one that sees the figures."""
    from bench import sh
    berth = os.environ["BENCH_BERTH"] + "/berth"
    key = sh(berth, "key", "create", part, "--scopes", "read,files,run").strip()
    return key, Door(int(os.environ["BENCH_E2B_PORT"]), {"X-API-Key": sh(berth, "key", "create", part + "-figures", "--scopes", "read,others").strip()})


def bench_e2b(box, peer):
    note("as E2B's clients ask: commands, create, stream, files")
    key, figures = keys("e2b")
    control, create = connect(key)
    sandbox, door = create()
    door.run("true")
    turns(10, lambda: (door.run("true"), None)[1], lambda: peer.spawn("true"))
    ours, crun = turns(200, lambda: (door.run("true"), None)[1], lambda: peer.spawn("true"))
    report("e2b_command", "<= 3", "ms", ours, "crun exec", crun, "process.Process/Start true, one kept connection, Python's client", True)
    many = time.perf_counter_ns()
    for _ in range(500):
        door.ask("POST", "/process.Process/List", "{}", **{"Content-Type": "application/json"}).read()
    report("e2b_requests", "-", "1/s", [500 / ((time.perf_counter_ns() - many) / 1e9)], words="process.Process/List, one connection")

    def first(template="base"):
        t = time.perf_counter_ns()
        id, new = create(template)
        new.run("echo", "hello")
        took = (time.perf_counter_ns() - t) / 1e6
        control.ask("DELETE", "/sandboxes/" + id).read()
        return took

    def theirs():
        t = time.perf_counter_ns()
        subprocess.run(peer.crun + ["run", "--bundle", os.environ["TOP"] + "/bundle-once", "once"], check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter_ns() - t) / 1e6

    def from_pool():
        wait_ready(figures)
        return first("ahead")

    cold, crun, pool = turns(40, first, theirs, from_pool)
    report("e2b_create_first_output_pool", "<= 10", "ms", pool, "crun run", crun, "the same from [pool]", True)
    report("e2b_create_first_output", "<= 100", "ms", cold, "crun run", crun, "POST /v2/sandboxes, then echo", True)

    def stream():
        t = time.perf_counter_ns()
        n = door.run("sh", "-c", f"head -c {STREAM_MIB * MIB} /dev/zero")
        if n < STREAM_MIB * MIB:
            raise SystemExit(f"{n} bytes")
        return STREAM_MIB / ((time.perf_counter_ns() - t) / 1e9)

    def pipe():
        t = time.perf_counter_ns()
        p = subprocess.Popen(peer.crun + ["exec", "peer", "sh", "-c", f"head -c {STREAM_MIB * MIB} /dev/zero | base64 -w 0"], stdout=subprocess.PIPE)
        n = 0
        while got := p.stdout.read(256 * KIB):
            n += len(got)
        p.wait()
        return STREAM_MIB / ((time.perf_counter_ns() - t) / 1e9)

    ours, crun = turns(5, stream, pipe)
    report("e2b_stream", ">= 150", "MiB/s", ours, "crun exec … | base64", crun, "standard output in base64 in JSON, as the protocol has it; bytes before that")
    served = os.environ["TOP"] + "/nginx"
    nginx = Nginx(served)
    try:
        data = os.urandom(MIB) * FILE_MIB
        with open(served + "/big", "wb") as f:
            f.write(data)
        mine, theirs = turns(3, up(door, "POST", "/files?path=/workspace/big", data, **{"Content-Type": "application/octet-stream"}),
                             up(nginx.door, "PUT", "/up", data))
        report("e2b_file_up", ">= 500", "MB/s", [x * 1.048576 for x in mine], "nginx PUT", [x * 1.048576 for x in theirs], f"{FILE_MIB} MiB")
        mine, theirs = turns(3, down(door, "/files?path=/workspace/big"), down(nginx.door, "/big"))
        report("e2b_file_down", ">= 1000", "MB/s", [x * 1.048576 for x in mine], "nginx", [x * 1.048576 for x in theirs], f"{FILE_MIB} MiB; Python's client reads")
    finally:
        nginx.end()
    connect(key)[0].ask("DELETE", "/sandboxes/" + sandbox).read()  # the other connection may have been idle for too long


class Sdk:
    """A program that uses it, in a process of its own."""

    def __init__(self, key, sandboxes=None):
        """@sandboxes: another port for what goes to sandboxes."""
        port, top = os.environ["BENCH_E2B_PORT"], os.environ["TOP"]
        shutil.copy(f"{HERE}/e2b-sdk.mjs", top)
        env = dict(os.environ, E2B_API_KEY=key, E2B_API_URL=f"http://127.0.0.1:{port}", E2B_SANDBOX_URL=f"http://127.0.0.1:{sandboxes or port}")
        self.process = subprocess.Popen(["node", top + "/e2b-sdk.mjs"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise SystemExit("the SDK's program ended")
        return line

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.answer())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Replay:
    """A server that answers at once, always the same."""

    def __init__(self):
        env = dict(os.environ, BENCH_TO=f"http://127.0.0.1:{os.environ['BENCH_E2B_PORT']}")
        self.process = subprocess.Popen(["node", f"{HERE}/e2b-replay.mjs"], env=env, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def end(self):
        self.process.terminate()
        self.process.wait()


def bench_sdk(_box, peer):
    note("E2B's SDK as it comes: a command, a create and its first output")
    if not os.path.exists(os.environ["TOP"] + "/node_modules"):
        note("the SDK cannot be had here")
        return
    from more import Podman, peer_made
    key, figures = keys("sdk")
    sdk, replay = Sdk(key), Replay()
    alone = Sdk(key, replay.port)
    podman, missing = peer_made(Podman, f"{os.environ['STATE']}/templates/base/root")
    if podman:
        podman("run", "-d", "--name", "idle", *podman.rootfs, "sleep", "600")
    nothing = lambda: 0.0

    def theirs():
        podman("exec", "idle", "true")

    def theirs_new():
        podman("run", "--rm", *podman.rootfs, "echo", "hello")

    def from_pool():
        wait_ready(figures)
        return sdk.ask("create ahead")

    turns(20, lambda: sdk.ask("command"), lambda: alone.ask("command"))
    ours, bare = turns(200, lambda: sdk.ask("command"), lambda: alone.ask("command"))
    report("e2b_sdk_command_itself", "-", "ms", ours, "the SDK with a server that replays one answer", bare,
           "commands.run('true') of the SDK 2.51: the peer's is what the SDK takes by itself", True)
    alone.end()
    replay.end()
    ours, exec_ = turns(100, lambda: sdk.ask("command"), theirs if podman else nothing)
    report("e2b_sdk_command", "<= 3", "ms", ours, "podman exec", exec_ if podman else None, "commands.run('true') of the SDK 2.51, one kept connection" + missing, True)
    cold, pool, run = turns(25, lambda: sdk.ask("create base"), from_pool, theirs_new if podman else nothing)
    report("e2b_sdk_create_first_output", "<= 100", "ms", cold, "podman run", run if podman else None, "Sandbox.create, then commands.run('echo hello')" + missing, True)
    report("e2b_sdk_create_first_output_pool", "<= 10", "ms", pool, "podman run", run if podman else None, "the same from [pool]" + missing, True)
    sdk.end()
    if podman:
        podman("rm", "-f", "-t", "0", "idle")


PARTS = dict(e2b=bench_e2b, e2b_sdk=bench_sdk)
