#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a guest calls its files, and when it changes them, neither writes outside of where a copy goes nor to a terminal.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
mkdir "$TOP/victim" "$TOP/out"
echo kept >"$TOP/victim/file"

# --- a link that a copy made, then a directory of the same name ---
berth run "$id" -- sh -c "mkdir d; echo 1 >d/plain; ln -s $TOP/victim d/a" </dev/null
berth cp -r "$id:d" "$TOP/out"
equal "link" "$(readlink "$TOP/out/d/a")" "$TOP/victim"
berth run "$id" -- sh -c 'rm d/a; mkdir d/a; echo evil >d/a/file; echo 2 >d/plain' </dev/null
refused 1 "something else than a directory" berth cp -r "$id:d" "$TOP/out"
equal "victim" "$(cat "$TOP/victim/file")" kept
equal "plain" "$(cat "$TOP/out/d/plain")" 2
# --- a file where a link is replaces the link, not what it names ---
ln -s "$TOP/victim/file" "$TOP/out/one"
berth cp "$id:d/plain" "$TOP/out/one"
equal "victim" "$(cat "$TOP/victim/file")" kept
equal "one" "$(cat "$TOP/out/one")" 2
# --- where copies go ---
berth cp "$id:d/plain" "$TOP/out"
equal "into a directory" "$(cat "$TOP/out/plain")" 2
berth cp -r "$id:d/a" "$TOP/new/"
equal "a new directory" "$(cat "$TOP/new/file")" evil
berth cp -r "$id:" "$TOP/all"
equal "all" "$(cat "$TOP/all/d/a/file")" evil
(cd "$TOP" && berth cp "$id:d/plain" here && equal "here" "$(cat here)" 2)
refused 1 "No such file" berth cp "$id:d/plain" "$TOP/no/where"
# --- a pipe or a device is written to and stays what it is ---
mkfifo "$TOP/pipe"
timeout 20 cat "$TOP/pipe" >"$TOP/piped" &
berth cp "$id:d/plain" "$TOP/pipe"
wait $!
equal "through a pipe" "$(cat "$TOP/piped") $(stat -c %F "$TOP/pipe")" "2 fifo"
rm "$TOP/all/d/plain"
mknod "$TOP/all/d/plain" c 1 3
refused 1 "something else than a file" berth cp -r "$id:" "$TOP/all"
equal "device" "$(stat -c %F "$TOP/all/d/plain")" "character special file"
mkdir "$TOP/in"
echo 3 >"$TOP/in/file"
ln -s file "$TOP/in/link"
for i in "$TOP/in" "$TOP/in/" "$TOP/in//"; do berth cp -r "$i" "$id:"; done # a link replaces the link of before
equal "in" "$(berth cat "$id:in/file")" 3
for i in 1 2; do berth cp -r "$TOP/in/." "$id:dot/" && berth cp -r "$id:in/" "$TOP/out"; done
equal "contents" "$(berth cat "$id:dot/file")" 3
equal "out" "$(readlink "$TOP/out/in/link")" file

# --- terminals ---
# shellcheck disable=SC2016
berth run "$id" -- sh -c 'printf x >"$(printf "a\033[2Jb\302\233c")"; ln -s "$(printf "\033]0;t\007")" l' </dev/null
on_terminal() {
	python3 -c 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' "$@" </dev/null
}
for how in "" --json; do
	# shellcheck disable=SC2086
	on_terminal berth ls "$id" $how >"$TOP/shown"
	python3 - "$TOP/shown" <<'PY'
import sys
shown = open(sys.argv[1], "rb").read()
assert b"\x1b" not in shown and b"\x07" not in shown and b"\xc2\x9b" not in shown, shown
assert b"x1b[2Jb" in shown or b"u001b[2Jb" in shown, shown
PY
done
say "neither written nor shown"
berth kill "$id"
