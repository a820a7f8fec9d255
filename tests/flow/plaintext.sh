#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Marked values go every way that there is, with captures on and every line logged; then they are looked for everywhere: in
# all files, in environments and command lines of all processes, in the memory of the daemon, its helpers and the agents,
# in answers, and in what is left when the processes are killed with a core dump. They are nowhere but in the commands that
# were given them, and in the broker, whose own are in no command. A daemon and an agent that do not hide them must be found out by the same search.
. "$(dirname "$0")/../lib/flow.sh"
. "$(dirname "$0")/../lib/broker.sh"
need_template mini
make_ca
chown berth "$TOP/key.pem"
plain=$((20000 + RANDOM % 5000)) tls=$((25000 + RANDOM % 5000))
ulimit -c unlimited
cd "$TOP"
kind=strong
run_daemon() {
	local program=$BERTH_BUILD/berthd
	[ "$kind" = strong ] || program=$BERTH_BUILD/tests/lib/berthd-leaky
	[ -x "$program" ] || program=$BERTH_BUILD/berthd
	exec "$program" --set "daemon.state-dir=$STATE" --set "daemon.agent=$BERTH_AGENT" --set sandbox.max=16 \
		--set "sandbox.ids-first=$IDS_FIRST" --set sandbox.workspace=256M --set mount.takeover=0 "$@"
}
api() { curl -s --unix-socket "$STATE/run/api.sock" "$@"; }

# By the door of E2B's clients it comes in clear text: in one piece and in many, over each kind of connection; and where it is refused.
deliver_clear() { # MARK
	local i=0 door key made
	key=$(berth key create "clear-$kind")
	for door in "--unix-socket $STATE/run/api.sock http://x" "http://127.0.0.1:$plain" "--cacert $TOP/ca.pem https://localhost:$tls"; do
		i=$((i + 1))
		ask() { # PATH OPTIONS...: the body from standard input
			# shellcheck disable=SC2086
			curl -s --max-time 20 -H "X-API-Key: $key" "${@:2}" $door"$1" >>clear
		}
		printf '{"name": "'$kind'-one%d", "value": "%s-made%d"}' $i "$1" $i | ask /secrets -d @-
		printf '{"value": "%s-next%d", "metadata": {"a": "b"}}' "$1" $i | ask "/secrets/$kind-one$i" -H 'Transfer-Encoding: chunked' -d @-
		printf '{"name": "'$kind'-two%d", "value": "%s-long%d%s"}' $i "$1" $i "$(printf 'x%.0s' $(seq 7000))" | ask /secrets -d @-
		printf '{"name": "'$kind'-one%d", "value": "%s-twice%d"}' $i "$1" $i | ask /secrets -d @-
		printf '{"name": "/", "value": "%s-wrong%d"}' "$1" $i | ask /secrets -d @-
		printf '{"name": "three", "value": "%s-torn%d" ' "$1" $i | ask /secrets -d @-
		python3 -c 'import sys
for c in "{\"name\": \"'$kind'-four%s\", \"value\": \"%s-slow\"}" % (sys.argv[2], sys.argv[1]): print(c, end="", flush=True)' "$1" $i | ask /secrets -X POST -T -
	done
	# A connection that stays keeps its memory.
	printf '{"name": "%s-five", "value": "%s-stays"}' "$kind" "$1" | python3 -c 'import http.client, sys, time
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
c.request("POST", "/secrets", sys.stdin.read(), {"X-API-Key": sys.argv[2]})
print(c.getresponse().read().decode(), flush=True)
time.sleep(1000)' "$plain" "$key" >stays &
	SERVERS+=($!)
	wait_for 20 "it to be taken" grep -q currentVersion stays
	made=$(grep -o '"currentVersion"' clear | wc -l)
	[ "$made" = 12 ] || fail "$made secrets were taken: $(cat clear)"
}

is_read() { berth run "$1" -- wget -q -O /dev/null http://berth.internal/web/hello 2>/dev/null; }

deliver() { # a mark: every way that there is
	local mark=$1 first second third port
	berth secret key >host.pub
	printf %s "$mark-env" | seal seal --to host.pub --name "TOKEN_$kind" --deliver env --expires 90d -o e.sealed
	printf %s "$mark-file" | seal seal --to host.pub --name "cert_$kind" --deliver file -o f.sealed
	printf %s "$mark-new" | seal seal --to host.pub --name "cert_$kind" --deliver file -o g.sealed
	printf %s "$mark-brok" | seal seal --to host.pub --name "web_$kind" --host localhost:1 -o w.sealed
	berth secret add w.sealed
	berth secret add e.sealed
	berth secret add <f.sealed
	first=$(berth create --template mini --secret "cert_$kind" --secret "TOKEN_$kind" --secret "web_$kind")
	# A use that goes as far as opening the value: nobody listens there, and it is an address of the inside.
	berth run "$first" -- sh -c 'printf "GET /bearer/localhost:1/ HTTP/1.0\r\n\r\n" | nc 127.19.0.1 80' >>answers
	grep -q private-address answers || fail "the broker did not try: $(cat answers)"
	second=$(berth create --template mini)
	berth run --detach --id holder --secret "TOKEN_$kind" "$second" -- sleep 1000 >/dev/null # it has one as long as it runs
	equal "it is there" "$(berth run "$first" -- sh -c "wc -c </run/berth/secrets/cert_$kind")" "$(printf %s "$mark-file" | wc -c)"
	berth run --secret "TOKEN_$kind" "$second" -- true
	api "http://x/v1/sandboxes/$second/exec" -d "{\"argv\":[\"true\"],\"secrets\":[\"TOKEN_$kind\"]}" >>answers
	upstream "web_$kind" "$mark-broker"
	port=$(cat "$TOP/web_$kind.port")
	service web '{"secrets":["WEB_'$kind'"],"private":true,"ca":"'"$TOP"'/ca.pem","routes":[{"prefix":"/","upstream":"https://localhost:'"$port"'/",
		"methods":["GET","POST"],"paths":["/**"],"credential":{"as":"bearer"}}]}'
	secret "WEB_$kind" "$mark-broker" --host "localhost:$port"
	third=$(berth create --template mini --secret "WEB_$kind")
	wait_for 20 "the service's policy to be read" is_read "$third"
	for what in hello 'echo?how=body' 'echo?how=header' 'echo?how=base64-1'; do
		berth run "$third" -- wget -S -q -O - "http://berth.internal/web/$what" >>answers 2>&1
	done
	grep -q hello answers && grep -q '\*\*\*' answers || fail "the broker was not used: $(tail -n 20 answers)"
	berth run --detach --id waits "$third" -- wget -q -O - "http://berth.internal/web/events?seconds=1000" >/dev/null # under way while it is looked for
	berth snapshot "$first" kept >/dev/null
	berth pause "$first"
	berth secret rotate "cert_$kind" g.sealed
	berth resume "$first"
	berth run "$first" -- true
	for what in "sandboxes/$first" sandboxes secrets secrets/audit "sandboxes/$first/processes" "sandboxes/$second/log" events; do
		api "http://x/v1/$what" >>answers
	done
	berth logs "$first" >>answers
	berth export "$first" -o "export-$kind.tar" --quiet
	deliver_clear "$mark-clear"
	berth backup -o "backup-$kind.tar"
}

# search MARK: prints where it is
search() {
	MARK=$1 IDS_FIRST=$IDS_FIRST IDS_COUNT=$IDS_COUNT python3 - <<'PY'
import base64, os, re, sys, urllib.parse
mark = os.environ["MARK"].encode()
forms = {mark, mark[::-1], mark.hex().encode(), mark.hex().upper().encode(), urllib.parse.quote_plus(mark).encode(), urllib.parse.quote(mark).encode()}
for i in range(3):
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(b"x" * i + mark + b"yyy")[4:4 + (len(mark) - 3) // 3 * 4])
def look(what, data):
    if data.count(0) == len(data): return
    for f in forms:
        if f in data: print(what, f.decode("latin-1"))
def look_file(path):
    try:
        with open(path, "rb") as f:
            at, size = 0, os.fstat(f.fileno()).st_size
            while at < size: # what is no hole
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                end = min(os.lseek(f.fileno(), at, os.SEEK_HOLE), at + (1 << 24))
                look("file " + path, os.pread(f.fileno(), end - at + 200, at))
                at = end
    except OSError:
        pass
n = 0
for top, dirs, files in os.walk(os.environ["TOP"]):
    dirs[:] = [d for d in dirs if not (top == os.environ["STATE"] and d == "templates")]
    for name in files:
        if name == "found": continue
        look_file(os.path.join(top, name))
        n += 1
if n < 20: sys.exit("too few files")
first, last = int(os.environ["IDS_FIRST"]), int(os.environ["IDS_FIRST"]) + 65536 * int(os.environ["IDS_COUNT"])
searched = 0
for pid in [p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]: # we have it ourselves
    try:
        line = open(f"/proc/{pid}/cmdline", "rb").read()
        look(f"cmdline {pid}", line)
        holds = line.split(b"\0")[:2] == [b"sleep", b"1000"]
        if not holds: look(f"environ {pid}", open(f"/proc/{pid}/environ", "rb").read())
        uid = os.stat(f"/proc/{pid}").st_uid
        ours = f"daemon.state-dir={os.environ['STATE']}".encode() in line or first <= uid < last
        if not ours or holds: continue
        comm = open(f"/proc/{pid}/comm").read().strip()
        if comm == "berth-broker": continue # which has them
        searched += 1
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for m in re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) rw..( .*)?$", maps.read(), re.M):
                a, b = int(m[1], 16), int(m[2], 16)
                for at in range(a, b, 1 << 24):
                    try:
                        mem.seek(at)
                        look(f"memory of {comm}", mem.read(min(b - at, 1 << 24)))
                    except (OSError, ValueError): pass
    except OSError:
        pass
if searched < 4: sys.exit(f"only {searched} processes were searched")
PY
}

# kill_all: as a crash would, with a core if they let it
kill_all() {
	local pid
	for pid in $(processes_of_ids) $(processes_of_state | cut -d' ' -f1); do kill -ABRT "$pid" 2>/dev/null || :; done
	wait_for 30 "berthd to be gone" daemon_is_gone
	wait "$DAEMON" 2>/dev/null || :
	DAEMON=
}

agent=$BERTH_AGENT
for kind in strong leaky; do
	mark="m4rk/$kind+$RANDOM$RANDOM"
	[ "$kind" = strong ] || BERTH_AGENT=$BERTH_BUILD/tests/lib/agent-leaky
	install -o berth -m 600 /dev/null "$TOP/trace-$kind" # the daemon is not root when it captures
	export BERTH_TRACE=$TOP/trace-$kind
	start_daemon --set daemon.log-level=debug --set "api.listen=127.0.0.1:$plain" --set "api.tls-listen=127.0.0.1:$tls" \
		--set "api.tls-cert=$TOP/cert.pem" --set "api.tls-key=$TOP/key.pem"
	rm -f clear
	deliver "$mark"
	search "$mark" >found || fail "$(cat found)"
	[ "$(stat -c %s "$TOP/trace-$kind")" -gt 1000 ] || fail "there is no capture"
	if [ "$kind" = strong ]; then
		[ ! -s found ] || fail "found: $(cat found)"
		kill_all
		MARK=$mark python3 - <<'PY'
import os, sys
mark = os.environ["MARK"].encode()
for top, _, files in os.walk(os.environ["TOP"]):
    for name in files:
        if name == "core" or name.startswith("core."):
            with open(os.path.join(top, name), "rb") as f:
                if mark in f.read(): sys.exit(f"a core has the value: {top}/{name}")
PY
		say "nothing was found"
	else
		for what in "file .*/trace-leaky" "memory of berthd" "memory of berth-agent"; do
			grep -qE "^$what" found || fail "it was not found: $what ($(cat found))"
		done
		say "found in programs that do not hide it: $(cut -d' ' -f1-3 found | sort -u | sed "s|$TOP/||" | tr '\n' ';')"
		end_sandboxes
		stop_daemon
	fi
done
BERTH_AGENT=$agent
say passed
