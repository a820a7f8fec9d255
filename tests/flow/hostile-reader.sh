#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `berth run` whose output nobody takes: it hears signals, learns that its sandbox was killed, and loses nothing when the
# reader was only slow.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base)

# stuck NAME COMMAND...: into a FIFO that is open and never read, until the process waits for room; its pid is in $pid.
stuck() {
	local name=$1
	shift
	mkfifo "$TOP/$name"
	exec 20<>"$TOP/$name"
	berth run "$id" --id "$name" "$@" </dev/null >&20 2>"$TOP/$name.err" 20>&- &
	pid=$!
	wait_for 20 "a full pipe of $name" full
}

full() {
	python3 -c 'import fcntl, struct, sys, termios
n = struct.unpack("i", fcntl.ioctl(20, termios.FIONREAD, struct.pack("i", 0)))[0]
sys.exit(0 if n >= fcntl.fcntl(20, 1032) - 4096 else 1)'
}

# ended PID: within the deadline; its status is in $ended_status.
ended() {
	wait_for 10 "the end of $2" gone "$1"
	ended_status=0
	wait "$1" || ended_status=$?
}
gone() { grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || ! kill -0 "$1" 2>/dev/null; }
no_process() { berth run "$id" -- sh -c "! pgrep -x $1" </dev/null; }

# a signal, while the output is stuck: the process gets it, and we end with its status
stuck term -- yes
kill -TERM "$pid"
ended "$pid" "run after SIGTERM"
equal "status after SIGTERM" "$ended_status" 143
wait_for 10 "the end of yes in the sandbox" no_process yes
exec 20>&-
say "SIGTERM ends a run whose output is stuck"

# one that does not die of it: the second signal ends our side
stuck deaf -- sh -c 'trap "" TERM INT; exec yes deaf'
kill -TERM "$pid"
kill -INT "$pid"
ended "$pid" "run after a second signal"
[ "$ended_status" = 130 ] || [ "$ended_status" = 143 ] || fail "status after a second signal: $ended_status"
berth run "$id" -- pgrep -x yes </dev/null >/dev/null || fail "the process that ignores signals is gone"
berth signal "$id" deaf KILL
exec 20>&-
say "a second signal ends the run of a process that ignores the first"

# a reader that is slow only, and a process that says farewell: everything arrives although a signal came
stuck slow -- sh -c 'trap "echo farewell; exit 9" TERM; seq 60000; while :; do sleep 0.05; done'
kill -TERM "$pid"
timeout 20 head -c 348903 <&20 >"$TOP/slow.out"
ended "$pid" "run with a slow reader"
equal "status of the farewell" "$ended_status" 9
equal "what a slow reader got" "$(tail -n 2 "$TOP/slow.out" | tr '\n' ' ')" "60000 farewell "
exec 20>&-
say "a slow reader gets everything"

# the sandbox is killed
stuck killed -- yes
berth kill "$id" --grace 0
ended "$pid" "run of a killed sandbox"
equal "status of a killed sandbox" "$ended_status" 125
exec 20>&-
say "a run whose output is stuck learns that its sandbox was killed: $(tail -n 1 "$TOP/killed.err")"
