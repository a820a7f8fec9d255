#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The socket of who keeps the mount: nobody but root reaches it, and what root's mistakes may send there (nonsense, halves,
# other versions, requests for a mount that is served, hundreds of connections) changes nothing: the mount goes on, and the
# next daemon gets it.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
export TAKEOVER=20s
start_daemon
[ -S "$STATE/keeper/sock" ] || skip "no keeper: this kernel cannot hand a mount over"
id=$(berth create --template mini)
berth run "$id" -- sh -c 'echo kept >file' </dev/null
exec 9<"$MNT/$id/file"
keeper=$(cat "$STATE/keeper/pid")
equal "who may see its directory" "$(stat -c '%a %u' "$STATE/keeper")" "700 0"
equal "who may connect" "$(stat -c '%a %u' "$STATE/keeper/sock")" "600 0"
python3 - "$STATE/keeper/sock" "$MNT/$id/file" <<'PY'
import array, os, socket, struct, sys, threading
from berthtest import fail
path, file = sys.argv[1:]
MAGIC, TAKE, TELL, END, PING = 0x62706b70, 1, 2, 3, 4
def dial():
    s = socket.socket(socket.AF_UNIX); s.connect(path); s.settimeout(60)
    return s
def request(magic=MAGIC, version=1, op=PING, window=0): return struct.pack("IIII", magic, version, op, window)
def ask(data, fds=()):
    """Result, and how many descriptors came with it; None when it hung up."""
    s = dial()
    s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    s.shutdown(socket.SHUT_WR)
    try: got, more, _, _ = s.recvmsg(64, socket.CMSG_SPACE(16))
    except ConnectionError: got, more = b"", ()
    s.close()
    n = sum(len(m[2]) // 4 for m in more)
    return (struct.unpack("i", got[:4])[0] if len(got) == 16 else None), n

pid = os.fork()
if pid == 0: # somebody else, even with the path in hand
    fd = os.open(os.path.dirname(path), os.O_PATH)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    for way in (path, f"/proc/self/fd/{fd}/sock"):
        try: socket.socket(socket.AF_UNIX).connect(way)
        except PermissionError: continue
        os._exit(1)
    os._exit(0)
if os.waitpid(pid, 0)[1]: fail("somebody else could connect")

if ask(request())[0] != 0: fail("no answer to a ping")
null = os.open("/dev/null", os.O_RDWR)
held, idle = os.pipe()
wrong = [request(magic=0), request(magic=MAGIC ^ 1), request(version=0), request(version=2), request(op=0), request(op=5),
         request(op=0xffffffff), request()[:15], b"x", b"\0" * 16, b"\xff" * 16, os.urandom(16), request() + b"more"]
for data in wrong:
    for fds in ((), (null,), (null, null, null), tuple([null] * 8)):
        result, n = ask(data, fds)
        if n or (result == 0 and data[:16] != request()): fail(f"{data!r} with {len(fds)}: {result}, {n} descriptors")
# a mount that is served is given to nobody, with or without a sign of life
for fds in ((), (held,), (null,)):
    result, n = ask(request(op=TAKE), fds)
    if result == 0 or n: fail(f"TAKE: {result}, {n} descriptors")
for _ in range(300): dial().close()
def half():
    try: s = dial(); s.sendall(request()[:7]); s.recv(16); s.close()
    except OSError: pass
threads = [threading.Thread(target=half) for _ in range(100)]
for t in threads: t.start()
for t in threads: t.join()
silent = [dial() for _ in range(2)] # each is waited for, shortly
if ask(request())[0] != 0: fail("no answer to a ping behind silent ones")
with open(file) as f:
    if f.read() != "kept\n": fail("the file")
print(f"{len(wrong) * 4} wrong messages, 402 connections")
PY
equal "the keeper" "$(cat "$STATE/keeper/pid")" "$keeper"
kill -0 "$keeper"
stop_daemon KILL
start_daemon
equal "an open file after a new start" "$(cat <&9)" kept
equal "the mount after a new start" "$(cat "$MNT/$id/file")" kept
exec 9<&-
berth kill "$id" >/dev/null
