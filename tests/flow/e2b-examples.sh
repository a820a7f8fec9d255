#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The spawners of docs/examples, compiled against E2B's own types and run: what they answer, what is on the mount afterwards, and
# that they clean up however it ends.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template base
cp -r "$SRC/docs/examples" "$TOP/examples"
ln -s "$TOP/node_modules" "$TOP/examples/node_modules"
(cd "$TOP/examples" && node node_modules/typescript/bin/tsc -p .) >"$TOP/tsc" 2>&1 || fail "they do not compile: $(head -n 10 "$TOP/tsc")"
start_e2b
git init -q -b main "$TOP/origin"
echo 'exit 3' >"$TOP/origin/test.sh"
git -C "$TOP/origin" add test.sh
git -C "$TOP/origin" -c user.name=t -c user.email=t@localhost commit -qm first
field() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1]))[sys.argv[2]]; print(v, end="")' "$TOP/said" "$1"; }

# ci_fix COMMAND [WORDS OF env...]: its status, what it said in $TOP/said.
ci_fix() {
	local status=0
	timeout 120 env REPO_URL="$TOP/origin" CI_RUN_ID=run-7 GITHUB_TOKEN=ghp_secret "${@:2}" node "$TOP/examples/ci-fix.js" "$1" >"$TOP/said" 2>"$TOP/err" || status=$?
	echo $status
}
# shellcheck disable=SC2016 # they are the sandbox's
equal "an agent that fails" "$(ci_fix 'sh test.sh; s=$?; echo "of $CI_RUN_ID"; echo no >&2; sed -i s/3/0/ test.sh; git -c user.name=a -c user.email=a@x commit -qam fixed; echo "${#GITHUB_TOKEN}" >>../length; exit $s')" 3
equal "its words" "$(field stdout) $(field stderr) $(field exitCode)" "of run-7 no 3"
box=$(field sandboxId)
equal "what it made is on the mount" "$(cat "$MNT/$box/repo/test.sh" "$MNT/$box/length" | tr '\n' ' ')" "exit 0 10 "
equal "its commit" "$(berth git "$box" -C repo log --format=%s | tr '\n' ' ')" "fixed first "
equal "no token in the repository" "$(grep -rl ghp_secret "$MNT/$box" || :)" ""
equal "nothing runs" "$(berth ps | tail -n +2)" ""
equal "one that works" "$(ci_fix 'exit 0')" 0
equal "no such repository" "$(ci_fix 'exit 0' REPO_URL=/nowhere/at/all)" 1
grep -q 'the clone failed' "$TOP/err" || fail "not told: $(tail -n 5 "$TOP/err")"
equal "no such template" "$(sed "s/'base'/'nothing'/" "$TOP/examples/ci-fix.js" >"$TOP/examples/other-ci-fix.js"; REPO_URL=$TOP/origin CI_RUN_ID=1 node "$TOP/examples/other-ci-fix.js" true >/dev/null 2>&1; echo $?)" 1
equal "nothing runs" "$(berth ps | tail -n +2)" ""

# Five at a time.
# shellcheck disable=SC2016
timeout 120 node "$TOP/examples/code-review.js" "$TOP/origin" 'echo "$QUESTION of $(ls)"' >"$TOP/said" 2>"$TOP/err" || fail "$(cat "$TOP/said" "$TOP/err")"
python3 - "$TOP/said" "$MNT" <<'END'
import json, sys
reviews = json.load(open(sys.argv[1]))
assert len(reviews) == 5 and len({r["sandboxId"] for r in reviews}) == 5, reviews
for r in reviews:
    assert r["words"] == f"{r['question']} of test.sh\n", r
    assert open(f"{sys.argv[2]}/{r['sandboxId']}/review.md").read() == f"# {r['question']}\n\n{r['words']}", r
    assert open(f"{sys.argv[2]}/{r['sandboxId']}/src/test.sh").read() == "exit 3\n"
END
timeout 120 node "$TOP/examples/code-review.js" "$TOP/origin" 'exit 1' >"$TOP/said" 2>&1 && fail "five that failed are no failure"
equal "each says why" "$(grep -c '"failed"' "$TOP/said")" 5
equal "nothing runs" "$(berth ps | tail -n +2)" ""
say ok
