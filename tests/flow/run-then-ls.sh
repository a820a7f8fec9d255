#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run, then ls: when a command's end is reported the mount shows what it did. 2,000 times: never old, never missing.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
export id
python3 - <<'PY'
import os, random
from berthtest import Api, fail
api, m, rnd = Api(), os.environ["MNT"] + "/" + os.environ["id"], random.Random(1)
box = os.environ["id"]
gone = set()
for i in range(2000):
    name, sub = f"f{i % 40}", f"d{i % 7}"
    api.sh(box, f"echo {i} > {name}; mkdir -p {sub}; echo {i} > {sub}/x{i}; mv {sub}/x{i} {sub}/y{i}; rm -f {sub}/y{i - 70}; chmod {rnd.choice(['600', '644', '755'])} {name}")
    for path in (name, f"{sub}/y{i}"):
        got = open(f"{m}/{path}").read()
        if got != f"{i}\n":
            again = open(f"{m}/{path}").read()
            fail(f"turn {i}: {path} is old: {got!r}, then {again!r}, {os.stat(f'{m}/{path}')}, {api.sh(box, 'stat ' + path)['stdout']}")
    names = os.listdir(f"{m}/{sub}")
    if f"y{i}" not in names or f"x{i}" in names or f"y{i - 70}" in names:
        fail(f"turn {i}: the listing of {sub} is old")
    if os.path.exists(f"{m}/{sub}/x{i}") or os.path.exists(f"{m}/{sub}/y{i - 70}"):
        fail(f"turn {i}: a name that is gone is shown")
    if i % 50 == 0:
        st = api.sh(box, f"stat -c '%a %s %Y' {name}")["stdout"].split()
        here = os.stat(f"{m}/{name}")
        if [oct(here.st_mode & 0o7777)[2:], str(here.st_size), str(int(here.st_mtime))] != st:
            fail(f"turn {i}: attributes differ: {st} / {here}")
print("2000 turns: nothing old, nothing missing")
PY
berth kill "$id"
berth fsck
