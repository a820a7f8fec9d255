# SPDX-License-Identifier: Apache-2.0
"""What the flow tests share: a client of the API on one kept-alive connection, manifests of trees, waiting for events."""
import hashlib
import http.client
import json
import os
import socket
import stat
import sys
import time


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("berth")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Api:
    def __init__(self, url=None):
        self.conn, self.used = Unix((url or os.environ["BERTH_URL"])[len("unix:"):]), 0

    def call(self, method, path, body=None):
        if time.monotonic() - self.used > 15:
            self.conn.close()  # the daemon hangs up on who says nothing for 30 s; the next request connects anew
        self.conn.request(method, path, json.dumps(body) if body is not None else None)
        answer = self.conn.getresponse()
        text = answer.read()
        self.used = time.monotonic()
        return answer.status, json.loads(text) if text else None

    def good(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if status >= 400:
            raise SystemExit(f"{method} {path}: {status} {answer}")
        return answer

    def run(self, sandbox, *argv, **more):
        return self.good("POST", f"/v1/sandboxes/{sandbox}/exec", dict(argv=list(argv), **more))

    def sh(self, sandbox, script, **more):
        return self.run(sandbox, "sh", "-c", script, **more)


def fail(words):
    print("FAILED:", words)
    sys.exit(1)


def has_sanitizers():
    """A build with sanitizers keeps what was freed: its memory says nothing."""
    with open(os.environ["BERTH_BUILD"] + "/berthd", "rb") as f:
        return b"__asan_" in f.read()


def until(what, seconds, words):
    """Wait for an event with a deadline; the only place that polls."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            fail("waited too long: " + words)
        time.sleep(0.02)


def manifest(root, owners=False, attrs=False):
    """Everything that a reader can see of a tree, in one comparable dictionary. Hard links are groups of names."""
    out, links = {}, {}
    root = os.fsencode(root).rstrip(b"/")
    for at, dirs, files in os.walk(root):
        for name in dirs + files + ([b"."] if at == root else []):
            path = os.path.join(at, name)
            st = os.lstat(path)
            rel = path[len(root) + 1:]
            one = [stat.filemode(st.st_mode), st.st_mtime_ns]
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    one += [st.st_size, hashlib.sha256(f.read()).hexdigest()]
                if st.st_nlink > 1:
                    links.setdefault((st.st_dev, st.st_ino), []).append(rel)
                one.append(st.st_nlink)
            elif stat.S_ISLNK(st.st_mode):
                one += [os.readlink(path).hex() if isinstance(os.readlink(path), bytes) else os.readlink(path)]
            elif stat.S_ISDIR(st.st_mode):
                one.append(st.st_nlink)
            if attrs and not stat.S_ISLNK(st.st_mode):
                one += [[k, os.getxattr(path, k).hex()] for k in sorted(os.listxattr(path)) if k.startswith("user.")]
            if owners:
                one += [st.st_uid, st.st_gid]
            out[rel.hex()] = one
    for names in links.values():
        for name in names:
            out[name.hex()].append(sorted(n.hex() for n in names))
    return out


def differences(a, b, limit=10):
    rows = []
    for key in sorted(set(a) | set(b)):
        if a.get(key) != b.get(key):
            rows.append(f"{bytes.fromhex(key)!r}: {a.get(key)} / {b.get(key)}")
    return rows[:limit] + ([f"… {len(rows)} in all"] if len(rows) > limit else [])


if __name__ == "__main__" and sys.argv[1:2] == ["manifest"]:
    json.dump(manifest(sys.argv[2], attrs="attrs" in sys.argv), sys.stdout)
