#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# git over https through the broker: a real server (lighttpd with git's own backend) that demands the token; a sandbox that has the
# secret for the broker clones and pushes by the addresses that everybody knows, and never has the token.
. "$(dirname "$0")/../lib/flow.sh"
. "$(dirname "$0")/../lib/broker.sh"
command -v lighttpd >/dev/null || skip "needs lighttpd"
backend=$(git --exec-path)/git-http-backend
[ -x "$backend" ] || skip "needs git-http-backend"
need_template base
make_ca
TOKEN=ghp_$RANDOM$RANDOM$RANDOM
OTHER=ghp_other$RANDOM$RANDOM

# the server: a repository below /owner/, for whoever says the token
git init -q --bare -b main "$TOP/repos/owner/project.git"
git -C "$TOP/repos/owner/project.git" config http.receivepack true
git init -q -b main "$TOP/first"
git -C "$TOP/first" config user.email t@example.org
git -C "$TOP/first" config user.name t
head -c 3000000 /dev/urandom >"$TOP/first/large"
echo one >"$TOP/first/file"
git -C "$TOP/first" add .
git -C "$TOP/first" commit -qm first
git -C "$TOP/first" push -q "$TOP/repos/owner/project.git" main
PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'x-access-token:%s\n' "$TOKEN" >"$TOP/users"
cat "$TOP/cert.pem" "$TOP/key.pem" >"$TOP/both.pem"
cat >"$TOP/lighttpd.conf" <<EOF
server.document-root = "$TOP/repos"
server.port = $PORT
server.bind = "127.0.0.1"
server.modules = ("mod_openssl", "mod_auth", "mod_authn_file", "mod_accesslog", "mod_alias", "mod_setenv", "mod_cgi")
server.upload-dirs = ("$TOP")
server.errorlog = "$TOP/lighttpd.log"
accesslog.filename = "$TOP/access.log"
ssl.engine = "enable"
ssl.pemfile = "$TOP/both.pem"
auth.backend = "plain"
auth.backend.plain.userfile = "$TOP/users"
auth.require = ("/" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))
alias.url = ("/" => "$backend/")
setenv.set-environment = ("GIT_PROJECT_ROOT" => "$TOP/repos", "GIT_HTTP_EXPORT_ALL" => "1")
cgi.assign = ("" => "")
EOF
lighttpd -D -f "$TOP/lighttpd.conf" >"$TOP/lighttpd.out" 2>&1 &
SERVERS+=($!)
answers() { [ "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$TOP/ca.pem" "https://localhost:$PORT/owner/project.git/info/refs?service=git-upload-pack")" = 401 ]; }
wait_for 20 "the git server, which demands a token ($(cat "$TOP/lighttpd.out" "$TOP/lighttpd.log" 2>/dev/null))" answers

service git '{"secrets":["GITHUB_TOKEN"],"private":true,"ca":"'"$TOP"'/ca.pem","routes":[{"prefix":"/git/","upstream":"https://localhost:'"$PORT"'/",
	"methods":["GET","POST"],"paths":["/*/*/info/refs","/*/*/git-upload-pack","/*/*/git-receive-pack"],"credential":{"as":"basic","name":"x-access-token"}}],
	"git":{"from":"https://github.com/","prefix":"/git/"}}'
rm -f "$BERTHD_BROKER_SERVICES/github.json"
start_daemon --set daemon.log-level=debug
secret GITHUB_TOKEN "$TOKEN" --host "localhost:$PORT" --for template=base
id=$(berth create --template base --secret GITHUB_TOKEN)
none=$(berth create --template base)
run() { berth run "$id" -- "$@"; }

run git clone -q https://github.com/owner/project.git
equal "what was cloned" "$(run git -C project log --format=%s)" first
equal "a large file" "$(sha256sum <"$MNT/$id/project/large")" "$(sha256sum <"$TOP/first/large")"
run sh -c 'cd project && git config user.email t@example.org && git config user.name t && echo two >file && head -c 2000000 /dev/urandom >more &&
	git add . && git commit -qm second && git push -q origin main'
equal "what was pushed" "$(git -C "$TOP/repos/owner/project.git" log --format=%s main | head -n 1)" second
equal "on a shallow clone" "$(run sh -c 'git clone -q --depth 1 https://github.com/owner/project shallow && git -C shallow log --format=%s')" second
equal "what git remembers" "$(run git -C project remote get-url origin)" "http://berth.internal/git/git/owner/project.git"
# several at once, of a server that may speak HTTP/2
run sh -c 'for i in 1 2 3 4; do (for k in 1 2 3 4; do git clone -q https://github.com/owner/project "many-$i-$k" || echo failed; done) & done; wait' >"$TOP/many" 2>&1
[ ! -s "$TOP/many" ] || fail "clones at once: $(cat "$TOP/many")"
# not by others, and nothing else
must_fail berth run "$none" -- sh -c 'GIT_TERMINAL_PROMPT=0 timeout 20 git -c url.http://berth.internal/git/git/.insteadOf=https://github.com/ ls-remote https://github.com/owner/project'
equal "another path" "$(run curl -s -o /dev/null -w '%{http_code}' http://berth.internal/git/git/owner/project.git/HEAD)" 403
# the token is nowhere inside
run sh -c 'cat project/.git/config; env; cat /proc/*/environ 2>/dev/null; git -C project config --list' >"$TOP/inside"
if grep -aq "$TOKEN" "$TOP/inside"; then fail "the token is inside"; fi
# a rotated one is used from the next request on
printf 'x-access-token:%s\n' "$OTHER" >"$TOP/users"
must_fail run sh -c 'GIT_TERMINAL_PROMPT=0 git -C project fetch -q </dev/null'
printf %s "$OTHER" | seal seal --to "$TOP/host.pub" --name GITHUB_TOKEN --host "localhost:$PORT" --for template=base -o "$TOP/new.sealed"
berth secret rotate GITHUB_TOKEN "$TOP/new.sealed"
run git -C project fetch -q
berth secret audit --json >"$TOP/audit"
grep -q '"what":"used","secret":"GITHUB_TOKEN"' "$TOP/audit" || fail "the audit: $(tail -n 5 "$TOP/audit")"
grep -q "\"sandbox\":\"$id\"" "$TOP/audit" || fail "the audit does not say who"
if grep -aq -e "$TOKEN" -e "$OTHER" "$TOP/audit" "$LOG"; then fail "a token is in the audit or the log"; fi
for s in "$id" "$none"; do berth kill "$s" --grace 0; done
say passed
