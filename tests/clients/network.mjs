// SPDX-License-Identifier: Apache-2.0
// What sandboxes of E2B's SDK reach, in the world of tests/lib/net.sh: node network.mjs PACKAGE
import assert from 'node:assert'

const { Sandbox } = await import(process.argv[2])
const fetched = async (s, where) => {
  const r = await s.commands.run(`curl -sS -m 8 --noproxy '*' http://${where}/ 2>&1 || :`)
  return r.stdout.trim()
}
const reaches = async (s, where, who) => assert.equal(await fetched(s, where), who)
const not = async (s, where) => assert.match(await fetched(s, where), /refused|Couldn't connect|not resolve|Failed to connect/)
const made = []
const make = async (opts) => {
  const s = await Sandbox.create('base', { timeoutMs: 120_000, ...opts })
  made.push(s)
  return s
}
try {
  // open unless it is said otherwise
  let s = await make({})
  await reaches(s, 'example.test', '93.184.216.34')
  await not(s, '169.254.169.254')
  await not(s, '10.20.0.2')
  s = await make({ allowInternetAccess: false })
  await not(s, '93.184.216.34')
  await not(s, 'example.test')
  if (s.updateNetwork) {
    const all = '0.0.0.0/0'
    await s.updateNetwork({ denyOut: [all], allowOut: ['example.test', '93.184.216.35'] })
    await reaches(s, 'example.test', '93.184.216.34')
    await reaches(s, '93.184.216.35', '93.184.216.35')
    await not(s, 'other.test')
    const info = await s.getInfo()
    assert.equal(info.allowInternetAccess, false)
    await s.updateNetwork({ denyOut: ['93.184.216.35'] })
    await reaches(s, '93.184.216.34', '93.184.216.34')
    await not(s, '93.184.216.35')
    await assert.rejects(s.updateNetwork({ allowOut: ['example.test'] }), /0\.0\.0\.0\/0/)
    await assert.rejects(s.updateNetwork({ denyOut: ['example.test'] }), /no address|range/)
    await assert.rejects(s.updateNetwork({ denyOut: [all], allowOut: ['169.254.169.254'] }), /internet|private/)
    s = await make({ network: { denyOut: [all], allowOut: ['*.example.test'] } })
    await reaches(s, 'www.example.test', '93.184.216.34')
    await not(s, 'example.test:80')
    await not(s, '93.184.216.35')
    const ruled = async (network) => (await (await make({ network })).commands.run('echo "$BERTH_RULES"')).stdout.trim()
    const rules = { 'example.test': [{ transform: { headers: { a: 'b' } } }] }, there = 'example.test=http://berth.internal/rules/example.test/'
    assert.equal(await ruled({ rules }), there)
    assert.equal(await ruled({ rules, denyOut: [all] }), '')
    assert.equal(await ruled({ rules, denyOut: [all], allowOut: ['example.test'] }), there)
    // What the network does not allow any more, the rules do not either, by whatever door it was changed.
    s = await make({ network: { rules } })
    const refusal = async () => (await s.commands.run('curl -s -i http://berth.internal/rules/example.test/ | tr -d "\\r" | sed -n "s/^X-Berth-Rule: //p"')).stdout.trim()
    const change = (internet) => fetch(`${process.env.E2B_API_URL}/v1/sandboxes/${s.sandboxId}/network`, {
      method: 'PUT', headers: { 'X-API-Key': process.env.E2B_API_KEY, 'Content-Type': 'application/json' }, body: JSON.stringify({ internet }) })
    assert.notEqual(await refusal(), 'network')
    assert.equal((await change(false)).status, 200)
    assert.equal(await refusal(), 'network')
    assert.equal((await change(true)).status, 200)
    assert.notEqual(await refusal(), 'network')
    await assert.rejects(make({ network: { rules: { '*.example.test': [{ transform: { headers: { a: 'b' } } }] } } }), /patterns/)
  }
  if (s.updateNetwork && process.env.SOCKS) {
    // all of its TCP through a proxy; who a server sees is the proxy
    const [address, username, password] = process.env.SOCKS.split(' ')
    const egressProxy = { address, username, password }, through = (s) => reaches(s, 'example.test/who', address.split(':')[0])
    s = await make({ network: { egressProxy } })
    await through(s)
    const told = async () => { const r = await fetch(`${process.env.E2B_API_URL}/sandboxes/${s.sandboxId}`, { headers: { 'X-API-Key': process.env.E2B_API_KEY } }); return r.json() }
    assert.deepEqual((await told()).network.egressProxy, { address, username })
    const info = await s.getInfo()
    if (info.network && 'egressProxy' in info.network) assert.deepEqual(info.network.egressProxy, { address, username })
    await s.updateNetwork({ egressProxy, denyOut: ['93.184.216.34'] })
    await not(s, '93.184.216.34')
    await s.updateNetwork({ egressProxy: { address, username, password: 'wrong' } })
    assert.match(await fetched(s, '93.184.216.34'), /reset|Empty reply|Couldn't connect/)
    await s.updateNetwork({ egressProxy })
    await through(s)
    const [f] = await s.fork({ count: 1 })
    made.push(f.sandbox ?? f)
    await through(f.sandbox ?? f)
    await s.updateNetwork({}) // a full replacement
    await reaches(s, 'example.test/who', '93.184.216.1')
    assert.equal((await told()).network.egressProxy, undefined)
    for (const [egressProxy, words] of [[{ address: 'x' }, /host:port/], [{ address: '10.20.0.2:1080' }, /not of the internet/], [{ address: 'a:1', password: 'x' }, /username/]]) {
      await assert.rejects(make({ network: { egressProxy } }), words)
      await assert.rejects(s.updateNetwork({ egressProxy }), words)
    }
  }
  console.log(`${process.argv[2]} ok${s.updateNetwork ? '' : ' (no updateNetwork)'}`)
} finally {
  for (const s of made) await s.kill()
}
