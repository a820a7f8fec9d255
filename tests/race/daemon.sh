#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# Everything that threads of the daemon share, at once: sandboxes made and ended, commands, streams, files through the API
# and the mount, events, figures, keys, df. For a build with the race detector; what it finds, ./check reports.
. "$(dirname "$0")/../lib/flow.sh"
need_root
start_daemon --set sandbox.box=fake
python3 - <<'PY'
import os, threading, time
from berthtest import Api
until = time.monotonic() + (120 if os.environ.get("BERTH_LONG") else 15)
done, errors = {}, []
mnt = os.environ["MNT"]

def worker(name, work):
    def run():
        api, n = Api(), 0
        try:
            while time.monotonic() < until and not errors:
                work(api, n)
                n += 1
        except BaseException as e:
            errors.append(f"{name}: {e!r}")
        done[name] = n
    return threading.Thread(target=run)

main = Api().good("POST", "/v1/sandboxes", {"name": "main"})["id"]

def churn(api, n):
    box = api.good("POST", "/v1/sandboxes", {"metadata": {"n": str(n)}})["id"]
    api.sh(box, "echo x >f; ls")
    api.good("POST", f"/v1/sandboxes/{box}/timeout", {"timeout_ms": 100000})
    api.good("POST", f"/v1/sandboxes/{box}/kill", {"grace_ms": 0})
    api.good("DELETE", f"/v1/sandboxes/{box}")

def commands(api, n):
    api.sh(main, f"mkdir -p d{n % 7}; echo {n} >d{n % 7}/f; rm -f d{(n + 3) % 7}/f")
    api.good("POST", f"/v1/sandboxes/{main}/sync")

def look(api, n):
    for path in ("/health", "/metrics", "/v1/df", "/v1/sandboxes?all=1", "/v1/events", f"/v1/sandboxes/{main}/list?path=",
                 f"/v1/sandboxes/{main}/processes"):
        api.conn.request("GET", path)
        r = api.conn.getresponse()
        r.read()
        if r.status != 200:
            raise RuntimeError(f"{path}: {r.status}")

def mount(api, n):
    base = f"{mnt}/{main}"
    with open(f"{base}/m{n % 5}", "w") as f:
        f.write("x" * (n % 3000))
    for name in os.listdir(base):
        try:
            os.stat(f"{base}/{name}")
        except FileNotFoundError:
            pass

def keys(api, n):
    k = api.good("POST", "/v1/keys", {"name": f"k{n}", "scopes": ["read"]})
    api.good("DELETE", f"/v1/keys/{k['id']}")

threads = [worker(f"{w.__name__}-{i}", w) for w, k in ((churn, 2), (commands, 2), (look, 2), (mount, 2), (keys, 1)) for i in range(k)]
for t in threads: t.start()
for t in threads: t.join()
print("races:", done)
if errors: raise SystemExit(errors[0])
PY
berth fsck
if grep -q "ThreadSanitizer" "$LOG"; then
	grep -A 45 -m 1 "WARNING: ThreadSanitizer" "$LOG"
	fail "the race detector had $(grep -c "WARNING: ThreadSanitizer" "$LOG") things to say"
fi
