#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# npm through the broker: a registry that demands the token. A sandbox installs a package with one that it depends on by the
# registry that npm has from its environment, and never has the token; archives that the registry names by its own address too.
. "$(dirname "$0")/../lib/flow.sh"
. "$(dirname "$0")/../lib/broker.sh"
node=$(command -v node) && npm=$(readlink -f "$(command -v npm)") || skip "needs node and npm"
npm_dir=$(dirname "$(dirname "$npm")")
[ -e "$npm_dir/package.json" ] || skip "needs npm in a directory of its own"
need_template base
make_ca
TOKEN=npm_$RANDOM$RANDOM$RANDOM
upstream npm "$TOKEN"
PORT=$(cat "$TOP/npm.port")
service npm '{"secrets":["NPM_TOKEN"],"private":true,"ca":"'"$TOP"'/ca.pem","routes":[{"prefix":"/","upstream":"https://localhost:'"$PORT"'/",
	"methods":["GET"],"paths":["/*","/*/-/*"],"encoded-slashes":true,"credential":{"as":"bearer"}}],
	"rewrite":["https://localhost:'"$PORT"'/={base}/"],"vars":{"npm_config_registry":"{base}/"}}'
start_daemon --set daemon.log-level=debug
secret NPM_TOKEN "$TOKEN" --host "localhost:$PORT"
id=$(berth create --template base --secret NPM_TOKEN)
run() { berth run "$id" -- "$@"; }

# The program of this machine, with the libraries that a template may not have.
mkdir "$TOP/node"
cp -L "$node" "$TOP/node/node"
for lib in $(ldd "$node" | awk '$3 ~ /^\// { print $3 }' | grep -vE '/lib(c|m|dl|pthread|rt)\.so'); do cp -L "$lib" "$TOP/node/"; done
cp -RL "$npm_dir" "$TOP/node/npm"
tar -C "$TOP/node" -c . | berth run --user root "$id" -- sh -c 'mkdir /opt/node && tar -x -C /opt/node'
npm() { berth run --env LD_LIBRARY_PATH=/opt/node --env PATH=/opt/node:/usr/bin:/bin "$id" -- node /opt/node/npm/bin/npm-cli.js "$@"; }
berth run --env LD_LIBRARY_PATH=/opt/node "$id" -- /opt/node/node --version >/dev/null 2>&1 || skip "this node does not run in the template"

equal "the registry" "$(npm config get registry)" http://berth.internal/npm/
npm install --no-audit --no-fund --loglevel=warn one >"$TOP/installed" 2>&1 || fail "$(cat "$TOP/installed")"
equal "what was installed" "$(berth run --env LD_LIBRARY_PATH=/opt/node "$id" -- /opt/node/node -p "require('one') + require('two')")" "this is onethis is two"
grep -q '^GET /one/-/one-1.0.0.tgz token' "$TOP/npm.seen" || fail "the archive was not fetched with the token: $(cat "$TOP/npm.seen")"
equal "where archives are" "$(run sh -c 'grep -o "http[^\"]*tgz" package-lock.json | sort' | tr '\n' ' ')" \
	"http://berth.internal/npm/one/-/one-1.0.0.tgz http://berth.internal/npm/two/-/two-1.0.0.tgz "
equal "publishing" "$(run curl -s -o /dev/null -w '%{http_code}' -X PUT -d '{}' http://berth.internal/npm/one)" 403
run sh -c 'cat package-lock.json; env; cat /proc/*/environ 2>/dev/null; grep -r npm_ ~/.npm 2>/dev/null' >"$TOP/inside" || :
if grep -aq "$TOKEN" "$TOP/inside"; then fail "the token is inside"; fi
berth kill "$id" --grace 0
say passed
