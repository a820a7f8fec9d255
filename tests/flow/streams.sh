#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Commands from the command line: streams, exit status, signals, timeouts, start failures, terminals, attach.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base --name box)
status() { local s=0; "$@" >"$TOP/out" 2>"$TOP/err" || s=$?; echo "$s"; }

equal "output" "$(berth run "$id" -- echo hello)" hello
equal "error output apart" "$(berth run "$id" -- sh -c 'echo out; echo err >&2' 2>/dev/null)" out
equal "exit status" "$(status berth run "$id" -- sh -c 'exit 7')" 7
equal "signal" "$(status berth run "$id" -- sh -c 'kill -TERM $$')" 143
equal "not found" "$(status berth run "$id" -- no-such-program)" 127
equal "not executable" "$(status berth run "$id" -- /etc/passwd)" 126
equal "bad directory" "$(status berth run "$id" --cwd /none -- true)" 125
grep -q /none "$TOP/err"
equal "unknown user" "$(status berth run "$id" --user nobodyatall -- true)" 125
equal "timeout" "$(status berth run "$id" --timeout 1 -- sleep 60)" 124
equal "environment" "$(berth run "$id" --env A=1 --env B='x y' -- sh -c 'echo "$A-$B"')" "1-x y"
equal "directory" "$(berth run "$id" --cwd /tmp -- pwd)" /tmp
equal "user" "$(berth run "$id" -- id -un)" user
equal "root" "$(berth run "$id" --user root -- id -u)" 0
equal "sudo" "$(berth run "$id" -- sudo -n id -u)" 0
equal "no input" "$(berth run "$id" --no-stdin -- cat)" ""
equal "input" "$(echo in | berth run "$id" -- cat)" in
head -c 20000000 /dev/urandom >"$TOP/r"
berth run "$id" -- cat <"$TOP/r" | cmp - "$TOP/r"
equal "a reader that goes away" "$(berth run "$id" -- sh -c 'while :; do echo y; done' 2>/dev/null | head -n 1)" y
# somebody who survives the command holds nothing open
equal "survivor" "$(timeout 20 berth run "$id" -- sh -c 'sleep 300 & echo started')" started

# a signal to the command line reaches the process
berth run "$id" -- sh -c 'trap "echo got it; exit 9" TERM; echo ready; while :; do sleep 0.05; done' >"$TOP/sig" &
pid=$!
python3 - "$TOP/sig" <<'PY'
import sys
from berthtest import until
until(lambda: "ready" in open(sys.argv[1]).read(), 20, "the command did not start")
PY
kill -TERM "$pid"
s=0
wait "$pid" || s=$?
equal "signal passed through" "$s $(tail -n 1 "$TOP/sig")" "9 got it"

# detached: the output so far is replayed, the end is told
exec_id=$(berth run "$id" --detach -- sh -c 'for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exit 3')
equal "attach" "$(status berth attach "$id" "$exec_id") $(tr '\n' ' ' <"$TOP/out")" "3 1 2 3 4 5 "

# a terminal, with a size that changes
python3 - "$id" <<'PY'
import fcntl, os, pty, select, struct, sys, termios, time
from berthtest import fail
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp("berth", ["berth", "shell", sys.argv[1]])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
got = b""
def want(word, send=None):
    global got
    if send: os.write(fd, send)
    end = time.monotonic() + 20
    while word not in got:
        if time.monotonic() > end: fail(f"no {word!r} in {got!r}")
        if select.select([fd], [], [], 0.2)[0]:
            try: got += os.read(fd, 4096)
            except OSError: break
    if word not in got: fail(f"no {word!r} in {got!r}")
want(b"$ ")
want(b"33 99", b"stty size\n")
got = b""
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
import signal
os.kill(pid, signal.SIGWINCH)
for _ in range(40):
    got = b""
    want(b"$ ", b"stty size\n")
    if b"44 111" in got: break
else: fail(f"the size did not change: {got!r}")
got = b""
want(b"is a tty", b"test -t 0 && echo is a'' tty\n")
got = b""
os.write(fd, b"sleep 100\n"); time.sleep(0.3); os.write(fd, b"\x03")
want(b"alive", b"echo ali''ve\n")
os.write(fd, b"exit 5\n")
_, status = os.waitpid(pid, 0)
if os.waitstatus_to_exitcode(status) != 5: fail(f"shell ended with {status}")
print("terminal: size, resize, ^C, exit status")
PY
berth kill box
