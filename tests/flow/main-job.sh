#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job: a repository goes in, a program inside works on it, its files are read on the host through the mount:
# while it runs, after it was killed, after the daemon came again.
. "$(dirname "$0")/../lib/flow.sh"
command -v git >/dev/null || skip "needs git on the host"

# A bundle of this repository; where the sources are no checkout, of a small one that is made here.
bundle() {
	if git -C "$SRC" rev-parse --git-dir >/dev/null 2>&1; then
		git -C "$SRC" bundle create -q "$1" HEAD
		return
	fi
	git init -q "$TOP/repo"
	cp -r "$SRC/src" "$SRC/docs" "$TOP/repo/"
	git -C "$TOP/repo" add .
	git -C "$TOP/repo" -c user.name=t -c user.email=t@example.org commit -q -m "all"
	git -C "$TOP/repo" bundle create -q "$1" HEAD
}

# same WHEN: everything that the job wrote is on the mount as it was copied out the first time.
same() {
	ls "$dir/out" >/dev/null
	diff -r --no-dereference "$dir/out" "$TOP/out" || fail "$1: the mount differs from what was there first"
	cmp "$dir/report.txt" "$TOP/report.txt" || fail "$1: the report differs"
	diff -r --no-dereference --exclude=.git "$dir/repo" "$TOP/clone" || fail "$1: the clone differs"
	say "$1: all there"
}

need_template base
start_daemon
bundle "$TOP/repo.bundle"
git clone -q "$TOP/repo.bundle" "$TOP/clone" 2>/dev/null

id=$(berth create --name job)
[[ $id =~ ^[a-z0-9-]+$ ]] || fail "create printed \"$id\""
equal "state" "$(berth info "$id" --json | field state)" running
dir=$(berth info "$id" --json | field mount)
say "sandbox $id at $dir"

berth cp "$TOP/repo.bundle" "$id:repo.bundle"
cmp "$TOP/repo.bundle" "$dir/repo.bundle"
berth run "$id" -- git -c advice.detachedHead=false clone -q repo.bundle repo </dev/null
cat >"$TOP/job.py" <<'PY'
import hashlib, os, pathlib
out = pathlib.Path("/workspace/out")
rows = []
for p in sorted(pathlib.Path("/workspace/repo").rglob("*")):
    if ".git" in p.parts or not p.is_file():
        continue
    data = p.read_bytes()
    rows.append((hashlib.sha256(data).hexdigest(), len(data), str(p)))
for i in range(400):
    d = out / f"d{i % 20}"
    d.mkdir(parents=True, exist_ok=True)
    (d / f"f{i}.txt").write_text(f"{i}\n" * (i + 1))
os.symlink("d0/f0.txt", out / "first")
with open("/workspace/report.txt", "w") as f:
    for row in rows:
        print(*row, file=f)
print("files read:", len(rows))
PY
berth cp "$TOP/job.py" "$id:job.py"
berth run "$id" -- python job.py </dev/null

# At once, on the mount: no sync, no waiting.
equal "files seen on the mount" "$(find "$dir/out" -type f | wc -l)" 400
equal "a link" "$(readlink "$dir/out/first")" d0/f0.txt
equal "one content" "$(sort -u "$dir/out/d7/f7.txt")" 7
diff -r --no-dereference --exclude=.git "$TOP/clone" "$dir/repo" || fail "the clone on the mount is not the repository"
files=$(find "$TOP/clone" -path '*/.git' -prune -o -type f -print | wc -l)
equal "what the report counts" "$(wc -l <"$dir/report.txt")" "$files"
equal "first to go when memory is out" "$(berth run "$id" --user root -- sh -c \
	'cat /proc/1/oom_score_adj /proc/self/oom_score_adj' </dev/null | uniq)" 500
equal "berth ls" "$(berth ls "$id:out" --json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))')" 21
equal "berth cat" "$(berth cat "$id:report.txt" | sha256sum)" "$(sha256sum <"$dir/report.txt")"
equal "by name" "$(wc -l <"$MNT/by-name/job/out/d3/f3.txt")" 4
cp -r "$dir/out" "$TOP/out"
cp "$dir/report.txt" "$TOP/report.txt"

# Status, streams, and the other direction.
r=0; berth run "$id" -- sh -c 'echo to-out; echo to-err >&2; exit 7' </dev/null >"$TOP/1" 2>"$TOP/2" || r=$?
equal "exit status" "$r" 7
equal "standard output" "$(cat "$TOP/1")" to-out
equal "standard error" "$(cat "$TOP/2")" to-err
equal "standard input" "$(echo through | berth run "$id" -- cat)" through
equal "sudo" "$(berth run "$id" -- sudo id -u </dev/null)" 0
echo "from the host" >"$dir/note"
equal "a host's file inside" "$(berth run "$id" -- cat note </dev/null)" "from the host"
berth git "$id" -C repo log --oneline -1 </dev/null >/dev/null
berth sync "$id"
same "after sync"

berth kill "$id"
equal "state" "$(berth info "$id" --json | field state)" stopped
same "after kill"
stop_daemon
[ ! -e "$dir" ] || fail "the mount is still there without a daemon"
start_daemon
same "after a restart of the daemon"
berth fsck >"$TOP/fsck" || fail "fsck: $(tail -n 3 "$TOP/fsck")"
berth rm "$id"
refused 1 "no.*sandbox|$id" berth info "$id"
[ ! -e "$dir" ] || fail "the directory is still there after rm"
berth fsck >/dev/null
say "done"
