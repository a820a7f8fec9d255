#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images for tests. oci.py make DIR ROOT.tar: an OCI layout with two layers (gzip, zstd), tag "good", in a list with one for
another machine. oci.py serve PORT ROOT.tar LOG: a registry (and another at PORT + 1) whose images are bad, each in its own way; LOG gets a line for each
request. User "me" with the password "pass-word" may have what is called private. oci.py fail URL KEY: builds from the images that standard
input names, all at once, each of which must fail with what stands behind a tab (a regular expression)."""
import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI = "application/vnd.oci.image."


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


def tar(*members):
    """Members: (name, what, more): what is bytes, "dir", ("link", to), ("hard", to), ("device",)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, what, *more in members:
            i = tarfile.TarInfo(name)
            i.mode, i.uid, i.gid, i.mtime = 0o644, 0, 0, 1700000000
            if what == "dir":
                i.type, i.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, tuple):
                i.type = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.BLKTYPE}[what[0]]
                i.linkname = what[1] if len(what) > 1 else ""
            else:
                i.size = len(what)
            for key, value in (more[0] if more else {}).items():
                setattr(i, key, value)
            t.addfile(i, io.BytesIO(what) if isinstance(what, bytes) else None)
    return out.getvalue()


class Image:
    def __init__(self, *layers, env=(), machine=MACHINE, diff_ids=None):
        """layers: archives, or (archive, packed, media type)."""
        self.blobs = {}
        packed = [x if isinstance(x, tuple) else (x, gzip.compress(x, 1), OCI + "layer.v1.tar+gzip") for x in layers]
        config = {"os": "linux", "architecture": machine, "config": {"Env": list(env), "User": "nobody", "WorkingDir": "/srv",
                                                                     "Entrypoint": ["/never"]},
                  "rootfs": {"type": "layers", "diff_ids": diff_ids or [sha(x[0]) for x in packed]}}
        self.config = self.blob(json.dumps(config).encode())
        self.manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
                         "config": dict(self.config, mediaType=OCI + "config.v1+json"),
                         "layers": [dict(self.blob(x[1]), mediaType=x[2]) for x in packed]}

    def blob(self, data):
        self.blobs[sha(data)] = data
        return {"digest": sha(data), "size": len(data)}

    def text(self):
        return json.dumps(self.manifest).encode()


def good(root):
    """What later layers do to earlier ones, on a root that runs."""
    changes = tar(("etc/old", b"old\n"), ("opt/all", "dir"), ("opt/all/a", b"a"), ("opt/all/deep/b", b"b"), ("opt/one/gone", b"x"),
                  ("opt/one/stays", b"stays\n"), ("opt/kind", "dir"), ("opt/kind/x", b"x"), ("opt/linked", b"linked\n"))
    upper = tar(("etc/.wh.old", b""), ("opt/all", "dir"), ("opt/all/.wh..wh..opq", b""), ("opt/all/new", b"new\n"),
                ("opt/one/.wh.gone", b""), ("opt/kind", b"a file\n"), ("opt/suid", b"#!/bin/sh\n", {"mode": 0o4755}),
                ("opt/owned", b"1000\n", {"uid": 1000, "gid": 1000}), ("opt/hard", ("hard", "opt/suid")),
                ("opt/older", ("hard", "opt/linked")), ("opt/abs", ("link", "/opt/owned")),
                ("opt/cap", b"x", {"mode": 0o755, "pax_headers": {"SCHILY.xattr.user.note": "kept"}}))
    return Image(root, changes,
                 (upper, zstd(upper), OCI + "layer.v1.tar+zstd"),
                 env=["FOO=bar baz", "PATH=/opt/bin:/usr/local/bin:/usr/bin:/bin", "1BAD=x", "none"])


def make(where, root):
    image = good(root)
    other = Image(tar(("x", b"")), machine="none")
    os.makedirs(where + "/blobs/sha256")
    listed = []
    for one, machine in ((other, "none"), (image, MACHINE)):
        text = one.text()
        one.blobs[sha(text)] = text
        listed.append({"mediaType": OCI + "manifest.v1+json", "digest": sha(text), "size": len(text),
                       "platform": {"os": "linux", "architecture": machine}})
    text = json.dumps({"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": listed}).encode()
    image.blobs[sha(text)] = text
    for name, data in {**other.blobs, **image.blobs}.items():
        with open(f"{where}/blobs/sha256/{name[7:]}", "wb") as f:
            f.write(data)
    with open(where + "/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion": "1.0.0"}')
    with open(where + "/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [{"mediaType": OCI + "index.v1+json", "digest": sha(text), "size": len(text),
                                                      "annotations": {"org.opencontainers.image.ref.name": "good"}}]}, f)


def bad_images(root):
    mib = b"\0" * (1 << 20)
    wrong = Image(tar(("x", b"right")))
    for name in wrong.blobs:
        if name == wrong.manifest["layers"][0]["digest"]:
            wrong.blobs[name] = gzip.compress(tar(("x", b"wrong")))
    many = Image(tar(("x", b"")))
    many.manifest["layers"] *= 10000
    huge = Image(tar(("x", b"")))
    huge.manifest["annotations"] = {"x": "y" * (5 << 20)}
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as z:
        head = tarfile.TarInfo("huge")
        head.size = 100 << 20
        z.write(head.tobuf())
        for _ in range(100):
            z.write(mib)
    bomb = Image((b"", out.getvalue(), OCI + "layer.v1.tar+gzip"))
    through = tar(("d", ("link", "/etc")), ("d/through", b"x"), ("e", ("link", "../../../../tmp")), ("e/through", b"x"))
    no_config = Image(tar(("x", b"")))
    no_config.blobs[no_config.config["digest"]] = b"{}"
    return {
        "digest": wrong, "layers": many, "huge": huge, "bomb": bomb, "config": no_config,
        "unpacked": Image(tar(("x", b"right")), diff_ids=[sha(b"another")]),
        "up": Image(tar(("../../../../../etc/up", b"x"))),
        # Taken away, and there again by the first layer, which comes twice.
        "through": Image(through, root, tar(("d/.wh.through", b""), ("tmp/.wh.through", b"")), through),
        "device": Image(tar(("sda", ("device",)))), "machine": Image(tar(("x", b"")), machine="none"),
        "garbage": Image((b"x", b"no gzip", OCI + "layer.v1.tar+gzip")),
        "private": Image(root), "fine": Image(root),
        "sneaky": Image(tar(("x", b""))),
    }


def serve(port, root, log):
    images = bad_images(root)
    lock = threading.Lock()
    given = "Basic " + base64.b64encode(b"me:pass-word").decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def say(self, status, body=b"", **headers):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            with lock, open(log, "a") as f:
                f.write(self.requestline + "\n")
            part = self.path.split("/")  # "", v2, NAME, manifests, TAG
            name = part[2] if len(part) > 2 else ""
            if name == "":
                # A registry may send whoever asks for a token elsewhere.
                realm = 'Bearer realm="https://10.20.0.2/token",service="x"' if self.server.server_port != port else 'Basic realm="here"'
                return self.say(401, b"{}", WWW_Authenticate=realm)
            if name == "hangs":
                time.sleep(1000)
            if name == "private" and self.headers.get("Authorization") != given:
                return self.say(401, b"{}", WWW_Authenticate='Basic realm="here"')
            # A registry that leads to where it should not.
            if name == "away" or (name == "sneaky" and part[3] == "blobs"):
                return self.say(307, b"", Location="https://10.20.0.2" + self.path)
            if name == "plain":
                return self.say(307, b"", Location="http://10.20.0.2" + self.path)
            if name == "port":
                return self.say(307, b"", Location="https://93.184.216.34:22" + self.path)
            image = images.get(name)
            if not image:
                return self.say(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such\\u001b[31m thing"}]}')
            if part[3] == "manifests":
                return self.say(200, image.text(), Content_Type=OCI + "manifest.v1+json", Docker_Content_Digest=sha(image.text()))
            if part[4] in image.blobs:
                return self.say(200, image.blobs[part[4]], Content_Type="application/octet-stream")
            return self.say(404)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    threading.Thread(target=Server(("127.0.0.1", port + 1), Handler).serve_forever, daemon=True).start()
    Server(("127.0.0.1", port), Handler).serve_forever()


def fail(url, key):
    def ask(method, path, body=None):
        r = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode(), {"X-API-Key": key}, method=method)
        text = urllib.request.urlopen(r, timeout=30).read()
        return json.loads(text) if text else None

    def begin(n, image):
        t = ask("POST", "/v3/templates", {"name": f"bad{n}"})
        ask("POST", f"/v2/templates/{t['templateID']}/builds/{t['buildID']}", {"fromImage": image, "steps": []})
        return f"/templates/{t['templateID']}/builds/{t['buildID']}/status"

    wrong, until = 0, time.time() + 120
    for image, words, path in [(i, w, begin(n, i)) for n, (i, w) in enumerate(line.rstrip("\n").split("\t") for line in sys.stdin)]:
        while (status := ask("GET", path))["status"] not in ("ready", "error") and time.time() < until:
            time.sleep(0.05)
        why = status.get("reason", {}).get("message", status["status"])
        good = re.search(words, why) and all(c >= " " for c in why)
        print("ok:" if good else f"FAILED, wanted {words}:", why)
        wrong += not good
    sys.exit(wrong != 0)


if __name__ == "__main__":
    if sys.argv[1] == "fail":
        fail(*sys.argv[2:])
    with open(sys.argv[3], "rb") as file:
        tree = file.read()
    if sys.argv[1] == "make":
        make(sys.argv[2], tree)
    else:
        serve(int(sys.argv[2]), tree, sys.argv[4])
