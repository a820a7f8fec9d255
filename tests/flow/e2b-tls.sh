#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# E2B's SDK over TLS with wildcard names and nothing but a domain set: every method, ports of sandboxes by getHost(), a certificate
# that is renewed under the daemon, and what is refused.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template base
start_tls_daemon
timeout 200 node --require "$TOP/names.cjs" "$TOP/e2b.mjs" e2b-2.51 "$MNT" >"$TOP/of" 2>"$TOP/err" ||
	fail "$(grep FAILED "$TOP/of" | head -n 5) $(tail -n 5 "$TOP/err")"
say "$(grep -c 'ok$' "$TOP/of") methods over TLS"
cat >"$TOP/host.mjs" <<'END'
import assert from 'node:assert'
import https from 'node:https'
import { Sandbox } from 'e2b-2.51'
const s = await Sandbox.create('base', { timeoutMs: 60_000 })
await s.commands.run('mkdir web && echo inside >web/index.html')
await s.commands.run('cd web && exec python3 -m http.server 8000', { background: true })
let text
for (let i = 0; i < 50 && !text?.startsWith('inside'); i++) text = await (await fetch(`https://${s.getHost(8000)}/`)).text()
assert.equal(text, 'inside\n')
assert.match(s.getHost(8000), /^8000-[a-z0-9]+\.sbx\.localhost:\d+$/)
await s.files.write('/home/user/up.py', `
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(101); self.send_header("Upgrade", "websocket"); self.send_header("Connection", "Upgrade"); self.end_headers()
        self.wfile.write(b"hello;"); self.wfile.flush()
        while (b := self.connection.recv(4096)): self.connection.sendall(b.upper())
http.server.HTTPServer(("127.0.0.1", 8001), H).serve_forever()
`)
await s.commands.run('exec python3 up.py', { background: true })
const up = () => new Promise((done, fail) => https.get(`https://${s.getHost(8001)}/`, { headers: { Connection: 'Upgrade', Upgrade: 'websocket' } },
  (r) => fail(new Error(`status ${r.statusCode}`))).on('error', fail).on('upgrade', (r, socket, head) => {
  let got = head.toString()
  const sent = 'x'.repeat(200000)
  socket.on('data', (d) => { got += d; if (got.length === 6 + sent.length) { socket.destroy(); done(got === 'hello;' + sent.toUpperCase()) } })
  socket.write(sent)
}))
let same
for (let i = 0; i < 50 && same === undefined; i++) same = await up().catch(() => undefined)
assert.equal(same, true)
await s.kill()
END
timeout 100 node --require "$TOP/names.cjs" "$TOP/host.mjs" >"$TOP/out" 2>&1 || fail "getHost: $(tail -n 20 "$TOP/out")"

# Renewed below the daemon; what is no certificate changes nothing.
shown() { python3 - "$port" "$tls/ca.pem" "$@" <<'END'
import hashlib, socket, ssl, sys
port, ca, name = int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "api.sbx.localhost"
c = ssl.create_default_context(cafile=ca)
if len(sys.argv) > 4:
    c.minimum_version, c.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
with c.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=name) as s:
    print(hashlib.sha256(s.getpeercert(True)).hexdigest(), s.version())
END
}
first=$(shown)
equal "its version" "${first#* }" TLSv1.3
echo nonsense >"$TOP/nonsense"
cp -p "$tls/cert.pem" "$TOP/old.pem"
cp "$TOP/nonsense" "$tls/cert.pem"
wait_for 20 "the daemon to say so" sh -c "curl -sk -o /dev/null https://127.0.0.1:$port/; grep -q 'certificate not read anew' '$LOG'"
cp "$TOP/old.pem" "$tls/cert.pem"
equal "nonsense is not shown" "$(shown)" "$first"
berth tls init --dir "$tls" --domain sbx.localhost >"$TOP/said"
chown berth "$tls/key.pem"
renewed() { [ "$(shown)" != "$first" ]; }
wait_for 20 "the new certificate" renewed
must_fail shown api.elsewhere.example
must_fail shown api.sbx.localhost old
refused 1 "another domain needs another directory" berth tls init --dir "$tls" --domain other.example
refused 1 "a domain" berth tls init --dir "$tls" --domain 'Bad_name'
equal "without a key" "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$tls/ca.pem" "https://localhost:$port/sandboxes")" 401
equal "modes" "$(stat -c '%a %n' "$tls"/* | sed "s,$tls/,," | tr '\n' ' ')" "600 ca-key.pem 644 ca.pem 644 cert.pem 600 key.pem "

# Without a certificate it says so, and ends.
stop_daemon
cp "$TOP/nonsense" "$tls/cert.pem"
run_daemon --set "api.tls-listen=127.0.0.1:$port" --set "api.tls-cert=$tls/cert.pem" --set "api.tls-key=$tls/key.pem" >"$TOP/none" 2>&1 &
ended() { ! kill -0 $! 2>/dev/null; }
wait_for 60 "the daemon to end" ended
wait $! && fail "it ended well"
grep -q 'cannot start.*cert.pem' "$TOP/none" || fail "not told: $(tail -n 3 "$TOP/none")"
say ok
