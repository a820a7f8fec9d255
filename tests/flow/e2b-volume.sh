#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Volumes with E2B's SDK as it comes from npm: files by way of the API, in several sandboxes at once, and what outlives a daemon
# and a volume's own sandbox. The table in docs/e2b.md is what is measured here; BERTH_MATRIX=FILE writes it, BERTH_LONG=1 measures
# all versions.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template base
read -ra versions <<<"${BERTH_CLIENTS:-$([ -n "${BERTH_LONG:-}" ] && echo 2.18 2.45 2.50) 2.51}"
TAKEOVER=10s # its mount waits for the next daemon
start_e2b
export E2B_VOLUME_API_URL=$E2B_API_URL
for v in "${versions[@]}"; do
	timeout 120 node "$TOP/volume.mjs" "e2b-$v" "$MNT" >"$TOP/of-$v" 2>"$TOP/err-$v" ||
		fail "e2b $v: $(grep FAILED "$TOP/of-$v" | head -n 5) $(tail -n 25 "$TOP/err-$v")"
done

ask() { curl -s --max-time 20 -X "$1" -H "X-API-Key: ${3:-$E2B_API_KEY}" ${4:+-d "$4"} "$E2B_API_URL$2"; }
status() { equal "$1" "$(ask "${@:3}" | field code)" "$2"; }
said=$(ask POST /volumes "" '{"name": "stays"}')
id=$(field volumeID <<<"$said")
token=$(field token <<<"$said")
content() { curl -s --max-time 20 -X "$1" -H "Authorization: Bearer ${3:-$token}" ${4:+-d "$4"} "$E2B_API_URL/volumecontent/$id$2"; }
reads() { [ "$(content GET /file?path=/kept)" = kept ]; }
content PUT "/file?path=/kept" "" kept >"$TOP/put"

# Another key, another token.
other=$(berth key create other)
for what in "GET /volumes/$id" "DELETE /volumes/$id" "DELETE /volumes/stays"; do
	status "$what by another" 404 "${what% *}" "${what#* }" "$other"
done
equal "another's list" "$(ask GET /volumes "$other")" "[]"
status "mounted by another" 400 POST /v2/sandboxes "$other" '{"templateID": "base", "volumeMounts": [{"name": "stays", "path": "/data"}]}'
equal "another's token" "$(content GET /file?path=/kept "$(printf %040d 1)" | field code)" unauthenticated

# It outlives the daemon with who uses it, and its own sandbox.
box=$(berth ps --json | python3 -c 'import json, sys; print([s["id"] for s in json.load(sys.stdin) if s["name"].startswith("e2b-volume-")][0])')
user=$(ask POST /v2/sandboxes "" '{"templateID": "base", "volumeMounts": [{"name": "stays", "path": "/data"}]}' | field sandboxID)
stop_daemon KILL
start_daemon --set "api.listen=${E2B_API_URL#http://}"
wait_for 30 "the volume" reads
equal "inside" "$(berth run "$user" -- cat /data/kept)" kept
berth kill "$user" --grace 0
berth kill "$box" --grace 0
user=$(ask POST /v2/sandboxes "" '{"templateID": "base", "volumeMounts": [{"name": "stays", "path": "/data"}]}' | field sandboxID)
equal "its files went on" "$(berth run "$user" -- cat /data/kept)" kept
reads || fail "the API does not go on"

# By berth's own door the key has no such sandbox.
of_box() { berth ps --all --json | python3 -c 'import json, sys
s = [s for s in json.load(sys.stdin) if s["name"].startswith("e2b-volume-") and s["state"] == sys.argv[1]]
print(s[0][sys.argv[2]] if s else "")' "$@"; }
box=$(of_box running id)
mine() { curl -s --max-time 20 -o "$TOP/mine" -w '%{http_code}' -X "$1" -H "Authorization: Bearer $E2B_API_KEY" "$E2B_API_URL/v1/sandboxes/$2"; }
equal "its own sandbox by v1" "$(mine GET "$user")" 200
for what in "POST $box/kill" "POST $box/pause" "GET $box" "DELETE $box"; do
	equal "v1 $what by its key" "$(mine "${what% *}" "${what#* }")" 404
done

# It was paused by the operator: it goes on, and is not made anew.
berth kill "$user" --grace 0
berth pause "$box"
user=$(ask POST /v2/sandboxes "" '{"templateID": "base", "volumeMounts": [{"name": "stays", "path": "/data"}]}' | field sandboxID)
equal "paused and mounted" "$(berth run "$user" -- cat /data/kept)" kept
equal "the same sandbox" "$(of_box running id)" "$box"

# Its agent dies below a sandbox that uses it: no second one beside that, and the disk of the failed one is kept.
kill -KILL "$(of_box running pid)"
has_failed() { [ "$(of_box failed id)" = "$box" ]; }
wait_for 30 "the end of its agent" has_failed
status "mounted beside a user" 409 POST /v2/sandboxes "" '{"templateID": "base", "volumeMounts": [{"name": "stays", "path": "/data"}]}'
berth kill "$user" --grace 0
user=$(ask POST /v2/sandboxes "" '{"templateID": "base", "volumeMounts": [{"name": "stays", "path": "/data"}]}' | field sandboxID)
equal "files after its agent died" "$(berth run "$user" -- cat /data/kept)" kept
has_failed || fail "the failed sandbox of the volume was not kept"
status "removed while it is used" 409 DELETE "/volumes/$id"
berth kill "$user" --grace 0
ask DELETE "/volumes/$id"
equal "gone" "$(ask GET "/volumes/$id" | field code)" 404
berth rm "$box"
equal "nothing is left of it" "$(berth ps --all 2>/dev/null | grep -c e2b-volume || :)" 0

# A volume counts among the sandboxes of its key.
one=$(berth key create --sandboxes 1 one)
other_id=$(ask POST /volumes "$one" '{"name": "only"}' | field volumeID)
equal "the second of a key that may have one" "$(ask POST /volumes "$one" '{"name": "more"}' | grep -c 'may have 1')" 1

# A daemon died before its record was written: nobody's sandbox is ended. One record that cannot be read: nobody's is kept.
record=$(find "$TOP" -path "*/volumes/$other_id.json")
box=$(of_box running id)
mv "$record" "$TOP/record"
echo "{" >"${record%/*}/unreadable.json"
restart() {
	stop_daemon KILL
	start_daemon --set "api.listen=${E2B_API_URL#http://}"
}
restart
equal "kept beside what cannot be read" "$(of_box running id)" "$box"
rm "${record%/*}/unreadable.json"
restart
is_gone() { [ "$(berth ps --all 2>/dev/null | grep -c e2b-volume)" = 0 ]; }
wait_for 30 "the end of nobody's sandbox" is_gone

matrix_is volumes "${versions[@]}"
end_keeper
say ok
