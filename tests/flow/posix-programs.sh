#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Programs on the mount, of a live workspace and of a stopped one: make, rsync, tar, sqlite in WAL mode, an editor that saves
# by rename, git; then those that put load on a file system and verify what they read: stress-ng, fio, dbench. Bounded;
# BERTH_LONG=1 gives the last three a minute each.
. "$(dirname "$0")/../lib/flow.sh"
for p in rsync sqlite3 stress-ng fio dbench getfattr git make gcc; do command -v "$p" >/dev/null || skip "needs $p"; done
need_template base
TIME=3
[ "${BERTH_LONG:-}" != 1 ] || TIME=60
start_daemon --set sandbox.workspace=2G
id=$(berth create --template base)

mkdir -p "$TOP/src/sub dir" "$TOP/src/empty"
seq 20000 >"$TOP/src/numbers"
head -c 3000000 /dev/urandom >"$TOP/src/sub dir/random"
ln "$TOP/src/numbers" "$TOP/src/sub dir/linked"
ln -s ../numbers "$TOP/src/sub dir/symlink"
mkfifo "$TOP/src/pipe"
truncate -s 5M "$TOP/src/sparse" && printf x | dd of="$TOP/src/sparse" bs=1 seek=2000000 conv=notrunc 2>/dev/null
setfattr -n user.kept -v value "$TOP/src/numbers"
setfattr -n user.dir -v yes "$TOP/src/empty"
chmod 600 "$TOP/src/sub dir/random" && chmod 4755 "$TOP/src/sparse" && chmod 1777 "$TOP/src/empty"
touch -d '2001-02-03 04:05:06.789012345' "$TOP/src/sub dir/random" "$TOP/src/sub dir"

# As the account that owns what is on the mount: root would ask for owners that are not there.
as_guest() { setpriv --reuid berth-guest --regid berth --clear-groups -- "$@"; }
find "$TOP/src" -exec chown -h berth-guest:berth {} +
chmod 4755 "$TOP/src/sparse"
chmod 711 "$TOP"

copies() {
	local to=$1
	as_guest rsync -aHAXS "$TOP/src/" "$to/rsync/" || fail "rsync"
	equal "rsync again" "$(as_guest rsync -aHAXSi "$TOP/src/" "$to/rsync/")" ""
	equal "rsync -c back" "$(as_guest rsync -aHAXSnic "$to/rsync/" "$TOP/src/")" ""
	rsync -aHAX --no-owner --no-group "$TOP/src/" "$to/as-root/" || fail "rsync as root"
	equal "as root again" "$(rsync -aHAXi --no-owner --no-group "$TOP/src/" "$to/as-root/")" ""
	mkdir "$to/tar" "$to/back"
	tar --xattrs --sparse -C "$TOP/src" -cf "$TOP/t.tar" .
	as_guest tar --xattrs -C "$to/tar" -xpf - <"$TOP/t.tar" || fail "tar"
	equal "what tar brought" "$(as_guest rsync -aHAXnic "$TOP/src/" "$to/tar/")" ""
	as_guest tar --xattrs --sparse -C "$to/tar" -cf "$to/t.tar" . || fail "tar from the mount"
	tar --xattrs -C "$to/back" -xpf "$to/t.tar" --no-same-owner || fail "tar there and back"
	equal "there and back" "$(rsync -aHAXnic --no-owner --no-group "$TOP/src/" "$to/back/")" ""
	[ "$(du -k "$to/rsync/sparse" | cut -f1)" -lt 1000 ] || fail "the hole was filled: $(du -k "$to/rsync/sparse")"
}

builds() {
	local to=$1
	mkdir "$to/make"
	printf '#include <stdio.h>\nint main(void) { return puts(WORD) < 0; }\n' >"$to/make/a.c"
	printf 'a: a.o\n\tgcc -o a a.o\na.o: a.c word\n\tgcc -DWORD="\\"$$(cat word)\\"" -c a.c\n' >"$to/make/Makefile"
	echo one >"$to/make/word"
	make -s -C "$to/make" || fail "make"
	equal "what was made" "$("$to/make/a")" one
	make -q -C "$to/make" || fail "make finds more to do"
	echo two >"$to/make/word"
	make -s -C "$to/make" || fail "make again"
	equal "made again" "$("$to/make/a")" two
	make -q -C "$to/make" || fail "make finds more to do behind a change"
}

databases() {
	python3 - "$1/db" <<'PY' || fail "sqlite"
import os, sqlite3, subprocess, sys, threading
path = sys.argv[1]
CHILD = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=60)
for k in range(60):
    c.execute("insert into t(who, v) values (?, ?)", ("child", os.urandom(2000).hex())); c.commit()
c.close()
"""
db = sqlite3.connect(path)
assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
db.execute("create table t(k integer primary key, who, v)"); db.commit()
def writer(who):
    c = sqlite3.connect(path, timeout=60)
    for k in range(60):
        c.execute("insert into t(who, v) values (?, ?)", (who, os.urandom(2000).hex())); c.commit()
    c.close()
child = subprocess.Popen([sys.executable, "-c", CHILD, path]) # a connection must not go through a fork
t = threading.Thread(target=writer, args=("thread",)); t.start()
last = 0
while t.is_alive():
    n, = db.execute("select count(*) from t").fetchone()
    assert n >= last; last = n
t.join(); assert child.wait() == 0
assert db.execute("select count(*) from t").fetchone() == (120,)
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
db.execute("update t set v = 'x' where who = 'child'"); db.commit()
db.execute("vacuum"); db.close()
assert not os.path.exists(path + "-wal")
db = sqlite3.connect(path)
db.execute("pragma journal_mode=delete"); db.execute("delete from t where who = 'thread'"); db.commit()
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
PY
	equal "sqlite3" "$(sqlite3 "$1/db" "select count(*), max(v) from t")" "60|x"
}

edits() {
	local k
	echo 0 >"$1/edited"
	chmod 640 "$1/edited"
	for k in 1 2 3 4 5 6 7 8; do
		cp -p "$1/edited" "$1/edited~"
		echo "$k" >"$1/.edited.swp"
		mv "$1/.edited.swp" "$1/edited"
		equal "saved" "$(cat "$1/edited" "$1/edited~" | tr '\n' ' ')" "$k $((k - 1)) "
	done
	seq 1000 >"$1/stream"
	sed -i 's/^5.*/five/' "$1/stream"
	equal "sed -i" "$(grep -c five "$1/stream")" 111
}

repositories() {
	local to=$1
	[ -d "$TOP/repo" ] || {
		git init -q "$TOP/repo"
		cp -r "$SRC/docs" "$SRC/src" "$TOP/repo"
		git -C "$TOP/repo" add . && git -C "$TOP/repo" -c user.name=a -c user.email=b commit -qm one
	}
	git clone -q --no-hardlinks "$TOP/repo" "$to/repo" || fail "git clone"
	local git=(git -C "$to/repo" -c "safe.directory=*" -c user.name=a -c user.email=b)
	export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
	equal "status" "$("${git[@]}" status --porcelain)" ""
	echo change >>"$to/repo/docs/mount.md"
	equal "a change" "$("${git[@]}" status --porcelain)" " M docs/mount.md"
	"${git[@]}" commit -qam two && "${git[@]}" checkout -q HEAD~1 && "${git[@]}" checkout -q - && "${git[@]}" gc -q || fail "git"
	"${git[@]}" fsck --strict >/dev/null 2>"$TOP/err" || fail "git fsck: $(cat "$TOP/err")"
	equal "behind it" "$("${git[@]}" status --porcelain)" ""
	unset GIT_CONFIG_COUNT
}

loads() {
	local to=$1
	mkdir "$to/load"
	# chown, mknod and locks of files that others own are not there; all else must pass.
	(cd "$to/load" && as_guest stress-ng --temp-path . --timeout "$TIME" --verify --no-rand-seed \
		--hdd 1 --hdd-bytes 8M --dir 1 --dir-dirs 64 --rename 1 --link 1 --flock 1 --lockf 1 --fallocate 1 --fallocate-bytes 8M \
		--seek 1 --seek-size 1M --utime 1 --xattr 1 --dentry 1 --dentries 64 --fpunch 1 --sync-file 1 --sync-file-bytes 1M \
		--open 1 --fstat 1 --chmod 1 --getdent 1 --mmap 1 --mmap-bytes 1M --mmap-file) \
		>"$TOP/out" 2>&1 || fail "stress-ng: $(grep -v 'info:' "$TOP/out" | head -n 20)"
	if grep -E 'fail:|error:' "$TOP/out"; then fail "stress-ng"; fi
	fio --name=v --directory="$to/load" --size=4M --rw=randrw --bs=4k-64k --verify=crc32c --verify_fatal=1 --do_verify=1 --numjobs=2 \
		--runtime="$TIME" --ioengine=psync --group_reporting >"$TOP/out" 2>&1 || fail "fio: $(tail -n 20 "$TOP/out")"
	fio --name=m --directory="$to/load" --size=4M --rw=randwrite --bs=4k --verify=crc32c --verify_fatal=1 --do_verify=1 \
		--ioengine=mmap --runtime="$TIME" >"$TOP/out" 2>&1 || fail "fio by maps: $(tail -n 20 "$TOP/out")"
	dbench -c /usr/share/dbench/client.txt -D "$to/load" -t "$TIME" 2 >"$TOP/out" 2>&1 || fail "dbench: $(tail -n 20 "$TOP/out")"
	rm -rf "$to/load"
}

for where in live stopped; do
	to=$MNT/$id/$where
	mkdir "$to"
	for what in copies builds databases edits repositories loads; do
		$what "$to"
		say "$where: $what"
	done
	[ "$where" = stopped ] || {
		berth sync "$id"
		(cd "$to" && find . -type f -exec sha256sum {} + | sort) >"$TOP/outside"
		berth run "$id" --user root -- sh -c 'cd live && find . -type f -exec sha256sum {} + | sort' </dev/null >"$TOP/inside"
		diff "$TOP/outside" "$TOP/inside" >"$TOP/diff" || fail "inside is something else: $(head -n 5 "$TOP/diff")"
		berth kill "$id"
	}
done
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
