#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# E2B's command line as it comes from npm: every command that needs no browser. The table in docs/e2b.md is what is measured here.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template base
command -v script >/dev/null || skip "script is not installed"
start_e2b
# It keeps the login of a browser there; there must be none.
export HOME=$TOP/home E2B_NO_UPDATE_CHECK=1
mkdir "$HOME"
CLI=("$(command -v node)" "$TOP/node_modules/@e2b/cli/dist/index.js")
e2b() { timeout 60 "${CLI[@]}" "$@" </dev/null; }
row() { printf '%s\tok\n' "$1" >>"$TOP/of-2.19"; }
has() { grep -qF -e "$2" <<<"$1" || fail "no '$2' in: $1"; }
hasnt() { ! grep -qF -e "$2" <<<"$1" || fail "'$2' in: $1"; }
# field_of NAME ID: of the sandbox in the list.
field_of() { e2b sandbox list -s running,paused -f json | node -pe "JSON.parse(require('fs').readFileSync(0)).find(s => s.sandboxId === '$2').$1"; }

id=$(e2b sandbox create --detach --timeout 300 --lifecycle.ontimeout pause base)
equal "its id in the host's list" "$(berth ps | grep -c "^$id ")" 1
row "sandbox create --detach"
equal "state" "$(field_of state "$id")" running
other=$(curl -sf -H "X-API-Key: $E2B_API_KEY" "$E2B_API_URL/v2/sandboxes" -d '{"templateID": "base", "metadata": {"who": "other"}}' | field sandboxID)
some=$(e2b sandbox list -m who=other -f json)
has "$some" "$other"
hasnt "$some" "$id"
some=$(e2b sandbox list -l 1 -o asc)
has "$some" "$id"
hasnt "$some" "$other"
row "sandbox list, with filters, order, limit"
some=$(e2b sandbox info -f json "$id")
has "$some" '"onTimeout": "pause"'
has "$(e2b sandbox info "$id")" "$id"
row "sandbox info"

equal "output" "$(e2b sandbox exec "$id" echo hello)" hello
status=0
some=$(e2b sandbox exec "$id" sh -c 'echo err >&2; exit 3' 2>&1) || status=$?
has "$some" err
equal "status" "$status" 3
equal "input" "$(printf 'from stdin' | timeout 60 "${CLI[@]}" sandbox exec "$id" cat)" "from stdin"
equal "user, directory, variable" "$(e2b sandbox exec -u root -c /tmp -e A=b "$id" sh -c 'id -u; pwd; echo $A' | tr '\n' ' ')" "0 /tmp b "
row "sandbox exec: output, status, input, user, directory, variables"
pid=$(e2b sandbox exec -b "$id" sleep 1000 2>&1)
berth run "$id" -- kill -0 "$pid" || fail "it does not run: $pid"
row "sandbox exec --background"

# A terminal, as script(1) makes one. It ends the sandbox that it made.
typed() { printf '%s; exit\n' "$1" | timeout 60 script -qec "${CLI[*]} ${*:2}" /dev/null; }
some=$(typed 'echo in-the-$((40 + 2))' sandbox connect -e B=c "$id")
has "$some" in-the-42
berth ps | grep -q "^$id .*running" || fail "the end of a terminal took the sandbox along"
row "sandbox connect"
some=$(typed 'echo of-$((40 + 2)) >/workspace/typed; cat /workspace/typed' sandbox create base)
has "$some" of-42
only_two() { [ "$(berth ps | grep -c running)" = 2 ]; }
wait_for 20 "the sandbox of a terminal to end with it" only_two
row "sandbox create: a terminal"

some=$(e2b sandbox logs --format json "$id")
has "$some" 'echo hello'
has "$some" '"exit_code":3'
has "$(e2b sandbox logs --level ERROR "$id")" 'status 3'
row "sandbox logs"
has "$(e2b sandbox metrics --format json "$id")" '"memTotal"'
row "sandbox metrics"
e2b sandbox pause "$id" >"$TOP/said"
equal "state" "$(field_of state "$id")" paused
e2b sandbox resume "$id" >"$TOP/said"
equal "state" "$(field_of state "$id")" running
berth run "$id" -- kill -0 "$pid" || fail "a process is gone after a pause"
row "sandbox pause, resume"

some=$(e2b sandbox snapshot create "$id")
snapshot=$(sed -nE 's/^Created snapshot ([^ ]+) .*/\1/p' <<<"$some")
has "$(e2b sandbox snapshot list)" "$snapshot"
from=$(e2b sandbox create --detach "$snapshot")
berth run "$from" -- true
e2b sandbox snapshot delete "$snapshot" >"$TOP/said"
hasnt "$(e2b sandbox snapshot list)" "$snapshot"
row "sandbox snapshot create, list, delete"

e2b sandbox logs --follow "$id" >"$TOP/followed" 2>&1 &
follower=$!
wait_for 30 "lines of the log" grep -q hello "$TOP/followed"
e2b sandbox kill "$id" >"$TOP/said"
wait "$follower" || :
if e2b sandbox list -s running,paused | grep "^$id "; then fail "it is listed after its end"; fi
e2b sandbox kill --all >"$TOP/said"
equal "left" "$(berth ps | grep -c running || :)" 0
row "sandbox kill, kill --all; logs --follow ends"

mkdir "$TOP/context"
printf 'FROM base\nRUN echo built > /opt/built\nCOPY one /opt/\n' >"$TOP/context/Dockerfile"
echo one >"$TOP/context/one"
some=$(cd "$TOP/context" && e2b template create mine --cpu-count 1 --memory-mb 256 2>&1) || fail "$some"
has "$(e2b template list)" mine
id=$(e2b sandbox create --detach mine)
equal "what was built" "$(berth run "$id" -- cat /opt/built /opt/one | tr '\n' ' ')" "built one "
berth kill "$id" --grace 0 >"$TOP/said"
row "template create (a Dockerfile), list"
e2b template publish -y mine >"$TOP/said"
e2b template unpublish -y mine >"$TOP/said"
e2b template delete -y mine >"$TOP/said"
some=$(e2b template list -f json)
hasnt "$some" mine
equal "what a template says of its sandboxes" "$(grep -c -e '"cpuCount": 2' -e '"memoryMB": 1024' -e '"createdAt": "20' <<<"$some")" 3
row "template publish, unpublish, delete"
some=$(E2B_API_KEY=e2b_00 e2b sandbox list 2>&1) && fail "a wrong key is taken: $some"
has "$some" Unauthorized
row "a wrong key is told so"

matrix_is "command line" 2.19
say ok
