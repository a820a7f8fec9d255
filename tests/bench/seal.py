#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""berth-seal beside age and openssl (cms), as programs: a value of 40 bytes sealed and opened, one process each time, and a
large file. One JSON line per figure. Usage: seal.py BERTH-SEAL [TIMES] [MIB]; peers that are not installed are left away."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

SEAL = os.path.abspath(sys.argv[1])
TIMES = int(sys.argv[2]) if len(sys.argv) > 2 else 100
MIB = int(sys.argv[3]) if len(sys.argv) > 3 else 256


def run(*argv, stdin=None, out=None):
    with open(out or os.devnull, "wb") as to:
        subprocess.run(argv, stdin=open(stdin, "rb") if stdin else subprocess.DEVNULL, stdout=to,
                       stderr=subprocess.DEVNULL, check=True)


def rate(times, argv, **how):
    begin = time.monotonic()
    for _ in range(times):
        run(*argv, **how)
    return times / (time.monotonic() - begin)


def tell(name, unit, figure, peer):
    print(json.dumps({"name": name, "goal": "-", "unit": unit, "figure": round(figure, 1), "peer": round(peer, 1),
                      "ratio": round(figure / peer, 3) if peer else 0}), flush=True)


os.chdir(tempfile.mkdtemp(dir="/var/tmp"))
with open("value", "w") as f:
    f.write("x" * 40)
with open("big", "wb") as f:
    for _ in range(MIB):
        f.write(os.urandom(1 << 20))
run(SEAL, "keygen", "-o", "key", out="pub")
ways = {"berth": ((SEAL, "seal", "--to", "pub", "--name", "V", "--binary", "-o", "OUT", "IN"),
                  (SEAL, "open", "-k", "key", "-o", "OUT", "IN"))}
if shutil.which("age"):
    run("age-keygen", "-o", "age.key")
    to = subprocess.run(["age-keygen", "-y", "age.key"], capture_output=True, text=True, check=True).stdout.strip()
    ways["age"] = (("age", "-r", to, "-o", "OUT", "IN"), ("age", "-d", "-i", "age.key", "-o", "OUT", "IN"))
if shutil.which("openssl"):
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "o.key", "-out", "o.pem", "-subj", "/CN=x")
    ways["openssl"] = (("openssl", "cms", "-encrypt", "-binary", "-aes-256-cbc", "-outform", "DER", "-in", "IN", "-out", "OUT", "o.pem"),
                       ("openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-inkey", "o.key", "-in", "IN", "-out", "OUT"))
got = {}
for name, (seal, unseal) in ways.items():
    def words(way, source, to):
        return [{"IN": source, "OUT": to}.get(w, w) for w in way]
    got[name] = [rate(TIMES, words(seal, "value", name + ".v")), rate(TIMES, words(unseal, name + ".v", "out")),
                 MIB * rate(1, words(seal, "big", name + ".b")), MIB * rate(1, words(unseal, name + ".b", "out"))]
for peer in [p for p in got if p != "berth"]:
    for i, (what, unit) in enumerate((("seal", "files/s"), ("open", "files/s"), ("seal_big", "MiB/s"), ("open_big", "MiB/s"))):
        tell(f"seal.{what}_beside_{peer}", unit, got["berth"][i], got[peer][i])
shutil.rmtree(os.getcwd())
