#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Templates that E2B's SDK builds, as it comes from npm: every method, the cache, what is refused and what fails. The table in
# docs/e2b.md is what is measured here; BERTH_MATRIX=FILE writes it, BERTH_CLIENTS="2.51" measures that version alone and
# BERTH_LONG=1 all.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template base
command -v busybox >/dev/null || skip "needs busybox"
read -ra versions <<<"${BERTH_CLIENTS:-$([ -n "${BERTH_LONG:-}" ] && echo 2.10 2.15 2.18 2.45 2.50) 2.51}"
TAKEOVER=10s # its mount waits for the next daemon
start_e2b
# A small one, which has what their clients need: busybox and bash.
mkdir "$TOP/extra"
for f in /bin/bash $(ldd /bin/bash | grep -o '/[^ ]*'); do cp -L --parents "$f" "$TOP/extra"; done
mini_tar "$TOP/mini.tar"
tar -C "$TOP/extra" -rf "$TOP/mini.tar" .
berth template build small --tar "$TOP/mini.tar" >"$TOP/small" 2>&1 || fail "template: $(tail -n 5 "$TOP/small")"
for v in "${versions[@]}"; do
	timeout 170 node "$TOP/template.mjs" "e2b-$v" "$TOP" small >"$TOP/of-$v" 2>"$TOP/err-$v" ||
		fail "e2b $v: $(grep FAILED "$TOP/of-$v" | head -n 5) $(tail -n 25 "$TOP/err-$v")"
done

ask() { curl -s --max-time 20 -X "$1" -H "X-API-Key: ${3:-$E2B_API_KEY}" ${4:+-d "$4"} "$E2B_API_URL$2"; }
status() { equal "$1" "$(ask "${@:3}" | field code)" "$2"; }

# begin NAME STEPS: a build of `small`; its template and id are in $t and $b.
begin() {
	local said
	said=$(ask POST /v3/templates "" "{\"name\": \"$1\"}")
	t=$(field templateID <<<"$said")
	b=$(field buildID <<<"$said")
	ask POST "/v2/templates/$t/builds/$b" "" "{\"fromTemplate\": \"small\", \"steps\": [$2]}"
}
run_of() { printf '{"type": "RUN", "args": ["%s", "root"]}' "$1"; }
state() { ask GET "/templates/$t/builds/$b/status" | field status; }
is_state() { [ "$(state)" = "$1" ]; }
says() { ask GET "/templates/$t/builds/$b/status" | grep -qF "$1"; }
disks() { find "$STATE/templates" -maxdepth 1 -name 'e2b-*' | wc -l; }
nothing_runs() { ! berth ps | grep -q e2b-build-; }
has_disks() { [ "$(disks)" = "$1" ]; }

# Another key sees nothing of it and takes nothing away.
other=$(berth key create other)
begin mine "$(run_of 'echo mine > /etc/mine')"
wait_for 30 "the build" is_state ready
had=$(disks)
equal "another's list" "$(ask GET /templates "$other" | grep -c "$t" || :)" 0
for what in "GET /templates/$t" "DELETE /templates/$t" "DELETE /templates/mine" "GET /templates/$t/tags" "GET /templates/$t/builds/$b/status" \
	"GET /templates/$t/builds/$b/logs" "GET /templates/aliases/mine" "PATCH /v2/templates/$t" "POST /v2/templates/$t/builds/$b" \
	"GET /templates/$t/files/$(printf x | sha256sum | cut -c 1-64)"; do
	status "$what by another" 404 "${what% *}" "${what#* }" "$other"
done
for name in mine "$t" "mine:default" "$(basename "$(find "$STATE/templates" -maxdepth 1 -name 'e2b-*' | head -n 1)")"; do
	status "a sandbox of $name by another" 404 POST /v2/sandboxes "$other" "{\"templateID\": \"$name\"}"
done
status "tags by another" 404 POST /templates/tags "$other" '{"target": "mine", "tags": ["x"]}'
equal "another's of the same name" "$(ask POST /v3/templates "$other" '{"name": "mine"}' | grep -c "$t" || :)" 0
status "a file without a link" 401 PUT "/templates/$t/files/$(printf x | sha256sum | cut -c 1-64)?owner=x&until=9999999999&mark=$(printf x | sha1sum | cut -c 1-40)"

# What is not understood.
status "a name of the operator's" 409 POST /v3/templates "" '{"name": "small"}'
status "no name" 400 POST /v3/templates "" '{"name": "a b"}'
status "too large" 400 POST /v3/templates "" '{"name": "large", "memoryMB": 99999999}'
status "again" 400 POST "/v2/templates/$t/builds/$b" "" '{"fromTemplate": "small"}'
said=$(ask POST /v3/templates "" '{"name": "bad"}')
bad=/v2/templates/$(field templateID <<<"$said")/builds/$(field buildID <<<"$said")
for steps in '{"type": "EXEC", "args": ["x"]}' '{"type": "RUN", "args": []}' '{"type": "COPY", "args": ["a", "b"]}' \
	'{"type": "USER", "args": ["a; b"]}' '{"type": "ENV", "args": ["a=b", "c"]}' '{"type": "RUN", "args": [1]}'; do
	status "step $steps" 400 POST "$bad" "" "{\"fromTemplate\": \"small\", \"steps\": [$steps]}"
done

# Deleted while it is built, and a disk that is full: nothing is left.
begin gone "$(run_of 'sleep 1000')"
wait_for 30 "the step" says 'sleep 1000'
ask DELETE "/templates/$t"
wait_for 30 "its end" nothing_runs
status "it is gone" 404 GET "/templates/$t/builds/$b/status"
begin full "$(run_of 'fallocate -l 7800M /var/x && dd if=/dev/zero of=/var/y bs=1M count=400 || exit 9')"
wait_for 60 "the end" is_state error
says 'exit status 9' || fail "why it failed: $(ask GET "/templates/$t/builds/$b/status")"
wait_for 30 "nothing to be left" nothing_runs
equal "trees" "$(disks)" "$had"

# A sandbox that does not become ready is told so, and goes.
said=$(ask POST /v3/templates "" '{"name": "never"}')
t=$(field templateID <<<"$said") b=$(field buildID <<<"$said")
ask POST "/v2/templates/$t/builds/$b" "" '{"fromTemplate": "small", "readyCmd": "[ -e /tmp/never ]", "steps": []}'
wait_for 30 "the ready command to be asked" says 'waiting until'
ask DELETE "/templates/$t"
wait_for 30 "its end" nothing_runs

# The daemon dies in the middle of a step; one that was finished is there afterwards.
begin cut "$(run_of 'sleep 1000')"
wait_for 30 "the step" says 'sleep 1000'
stop_daemon KILL
start_daemon --set "api.listen=${E2B_API_URL#http://}" --set "api.interpreter=$SRC/templates/interpreter"
equal "after the daemon's death" "$(state)" error
says 'the daemon ended' || fail "no reason"
wait_for 30 "its sandbox to go" nothing_runs
id=$(ask POST /v2/sandboxes "" '{"templateID": "mine"}' | field sandboxID)
equal "what was built" "$(berth run "$id" -- cat /etc/mine)" mine
berth kill "$id" --grace 0
ask DELETE /templates/mine
wait_for 30 "its tree to go" has_disks $((had - 1))

matrix_is templates "${versions[@]}"
end_keeper
say ok
