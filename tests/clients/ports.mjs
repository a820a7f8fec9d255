// SPDX-License-Identifier: Apache-2.0
// Other ports of a sandbox: node ports.mjs PACKAGE DIR. A server in it answers, streams, takes a body, and is upgraded to; once more with
// TLS, by a certificate in DIR that nobody would believe.
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import http from 'node:http'

const { Sandbox } = await import(process.argv[2])
const SERVER = `
import http.server, socketserver, time, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        if self.headers.get("Upgrade"):
            self.send_response(101); self.send_header("Upgrade", "websocket"); self.send_header("Connection", "Upgrade"); self.end_headers()
            self.wfile.write(b"hello;"); self.wfile.flush()
            while (b := self.connection.recv(4096)):
                self.connection.sendall(b.upper())
            self.close_connection = True
            return
        if self.path.startswith("/events"):
            self.send_response(200); self.send_header("Content-Type", "text/event-stream"); self.end_headers()
            for i in range(3):
                self.wfile.write(b"data: %d\\n\\n" % i); self.wfile.flush(); time.sleep(0.3)
            self.close_connection = True
            return
        body = (self.path + "|" + self.headers["Host"] + "|" + str(self.headers.get("E2b-Sandbox-Id"))).encode()
        self.send_response(203); self.send_header("X-Seen", "yes"); self.send_header("Set-Cookie", "a=1"); self.send_header("Set-Cookie", "b=2")
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        n, left = 0, int(self.headers["Content-Length"])
        while left:
            part = self.rfile.read(min(left, 65536)); n += sum(part) & 0xff; left -= len(part)
        body = b"z" * int(self.headers["Content-Length"])
        self.send_response(200); self.end_headers(); self.wfile.write(body); self.close_connection = True
class S(socketserver.ThreadingMixIn, http.server.HTTPServer): daemon_threads = True
s = S(("127.0.0.1", int(sys.argv[1])), H)
if len(sys.argv) > 2:
    import ssl
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[2]); s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
`
const base = new URL(process.env.E2B_SANDBOX_URL)
const s = await Sandbox.create('base', { timeoutMs: 120_000, network: { httpsPorts: [8443, 8444] } })
const at_port = (port, path, options = {}) =>
  fetch(new URL(path, base), { ...options, headers: { 'E2b-Sandbox-Id': s.sandboxId, 'E2b-Sandbox-Port': port, ...options.headers } })
const at = (path, options) => at_port('8000', path, options)

// All that a server behind a port can do.
async function works(port) {
  const at = (path, options = {}) => at_port(port, path, options)
  let a
  for (let i = 0; i < 50; i++) if ((a = await at('/x/y?q=1&r=a%20b')).status !== 502) break
  assert.equal(a.status, 203)
  assert.deepEqual([a.headers.get('x-seen'), a.headers.getSetCookie()], ['yes', ['a=1', 'b=2']])
  assert.equal(await a.text(), `/x/y?q=1&r=a%20b|${base.host}|None`)
  const big = new Uint8Array(20_000_000).fill(3)
  const back = await (await at('/up', { method: 'POST', body: big })).arrayBuffer()
  assert.equal(back.byteLength, big.length)
  const times = []
  for await (const piece of (await at('/events')).body) times.push([Date.now(), Buffer.from(piece).toString()])
  assert.equal(times.map((t) => t[1]).join(''), 'data: 0\n\ndata: 1\n\ndata: 2\n\n')
  assert(times.length >= 3, 'the events came in one piece')
  // By the name of the host, and upgraded.
  const said = await new Promise((done, fail) => {
    let text = ''
    const r = http.request({ host: base.hostname, port: base.port, path: '/ws',
      headers: { Host: `${port}-${s.sandboxId}.sandbox.test`, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Key': 'eA==' } })
    r.on('upgrade', (res, socket, head) => {
      const add = (d) => {
        text += d
        if (text.endsWith(';') && text.length < 10) socket.write('shout')
        if (text.endsWith('SHOUT')) socket.end()
      }
      add(head.toString())
      socket.on('data', add)
      socket.on('close', () => done(text))
    })
    r.on('response', (res) => fail(new Error(`not upgraded: ${res.statusCode}`)))
    r.on('error', fail)
    r.end()
  })
  assert.equal(said, 'hello;SHOUT')
}

try {
  const closed = await at('/')
  assert.deepEqual([closed.status, await closed.json()],
    [502, { sandboxId: s.sandboxId, message: 'The sandbox is running but port is not open', port: 8000, code: 502 }])
  await s.files.write('/workspace/server.py', SERVER)
  await s.commands.run('python3 /workspace/server.py 8000', { background: true, timeoutMs: 0 })
  await works('8000')
  // One that speaks TLS itself; one that was said to, and does not.
  await s.files.write('/workspace/cert.pem', readFileSync(`${process.argv[3]}/cert.pem`, 'utf8') + readFileSync(`${process.argv[3]}/key.pem`, 'utf8'))
  await s.commands.run('python3 /workspace/server.py 8443 /workspace/cert.pem', { background: true, timeoutMs: 0 })
  await works('8443')
  await s.commands.run('python3 /workspace/server.py 8444', { background: true, timeoutMs: 0 })
  let plain
  for (let i = 0; i < 50; i++) if (!/not open/.test((plain = await (await at_port('8444', '/')).text()))) break
  assert.match(plain, /"code":502/)
  assert.deepEqual((await s.getInfo()).network.httpsPorts, [8443, 8444])
  // Ports that are not for everybody, by another name.
  assert.equal(s.trafficAccessToken, undefined)
  const t = await Sandbox.create('base', { timeoutMs: 120_000, network: { allowPublicTraffic: false, maskRequestHost: 'inner-${PORT}.example:${PORT}' },
    lifecycle: { onTimeout: 'pause', autoResume: true } })
  try {
    assert.match(t.trafficAccessToken, /^[0-9a-f]{40}$/)
    await t.files.write('/workspace/server.py', SERVER)
    await t.commands.run('python3 /workspace/server.py 8000', { background: true, timeoutMs: 0 })
    const token = { 'E2B-Traffic-Access-Token': t.trafficAccessToken }
    const ask = (headers, port = '8000', path = '/x') =>
      fetch(new URL(path, base), { headers: { 'E2b-Sandbox-Id': t.sandboxId, 'E2b-Sandbox-Port': port, ...headers } })
    const refused = async (headers, words, port, path) => {
      const r = await ask(headers, port, path)
      assert.deepEqual([r.status, await r.json()], [403, { sandboxId: t.sandboxId, code: 403,
        message: `Sandbox is secured with traffic access token. ${words}` }])
    }
    const missing = "Token header 'e2b-traffic-access-token' is missing", wrong = "Provided token in header 'e2b-traffic-access-token' is invalid"
    let b
    for (let i = 0; i < 50; i++) if ((b = await ask(token)).status !== 502) break
    assert.deepEqual([b.status, await b.text()], [203, '/x|inner-8000.example:8000|None'])
    await refused({}, missing)
    await refused({}, missing, '9000') // also where nothing listens
    await refused({ 'X-Access-Token': t.envdAccessToken ?? 'x' }, missing, '49999', '/execute')
    await refused({ 'E2B-Traffic-Access-Token': 'x'.repeat(40) }, wrong)
    await refused({ 'E2B-Traffic-Access-Token': t.trafficAccessToken.slice(1) }, wrong)
    assert.equal((await ask({ 'E2B-Traffic-Access-Token': t.trafficAccessToken }, '9000')).status, 502)
    const host = await new Promise((done, fail) => http.get({ host: base.hostname, port: base.port, headers: { Host: `8000-${t.sandboxId}.sandbox.test` } },
      (r) => done(r.statusCode)).on('error', fail))
    assert.equal(host, 403)
    assert.equal((await Sandbox.connect(t.sandboxId)).trafficAccessToken, t.trafficAccessToken)
    const { network } = await t.getInfo()
    assert.deepEqual([network.allowPublicTraffic, network.maskRequestHost], [false, 'inner-${PORT}.example:${PORT}'])
    assert.equal((await s.getInfo()).network.allowPublicTraffic, true)
    // Only whoever has it wakes it.
    await t.pause()
    await refused({}, missing)
    await refused({ 'E2B-Traffic-Access-Token': 'y' }, wrong)
    assert.equal((await t.getInfo()).state, 'paused')
    assert.equal((await ask(token)).status, 203)
    assert.equal((await t.getInfo()).state, 'running')
  } finally {
    await t.kill()
  }
  for (const [network, words] of [[{ maskRequestHost: 'a b' }, /maskRequestHost/], [{ httpsPorts: [0] }, /httpsPorts/], [{ httpsPorts: [65536] }, /httpsPorts/], [{ httpsPorts: ['a'] }, /httpsPorts/]])
    await assert.rejects(Sandbox.create('base', { network }), words)
  // Its end cuts what is open.
  const stream = at('/events').then((r) => r.text()).catch((e) => e)
  await s.kill()
  await stream
  assert.equal((await at('/')).status, 502)
} catch (e) {
  console.error(e)
  process.exit(1)
}
process.exit(0)
