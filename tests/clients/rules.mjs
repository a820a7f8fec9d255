// SPDX-License-Identifier: Apache-2.0
// The part of secret.mjs that has rules: RULE_HOST is a service that lets in whoever has RULE_TOKEN and echoes what it was asked.
import assert from 'node:assert'

export async function rules({ step, rejects, Sandbox, Secret, host, small }) {
  const token = process.env.RULE_TOKEN, up = `${small}.up`, all = '0.0.0.0/0'
  const rule = (headers) => ({ [host]: [{ transform: { headers } }] })
  const bearer = (name) => rule({ Authorization: `Bearer ${Secret.fill(name)}`, 'X-Lit': 'as it is' })
  const make = (opts) => Sandbox.create('base', { timeoutMs: 120_000, ...opts })
  const ask = async (s, where, more = '') => {
    const r = await s.commands.run(`curl -s -m 20 ${more} -w '\\n%{http_code}' "${where}"`)
    const at = r.stdout.lastIndexOf('\n')
    return { status: +r.stdout.slice(at + 1), text: r.stdout.slice(0, at), rule: /"rule":"([^"]*)"/.exec(r.stdout)?.[1] }
  }
  const echo = `http://berth.internal/rules/${host}/echo`
  let s
  await step('network.rules: headers with a secret, and plain ones', async () => {
    await Secret.create(up, token)
    s = await make({ network: { allowOut: ({ rules }) => [...rules.keys()], rules: bearer(up.toUpperCase()) } })
    const r = await ask(s, echo, '-H "X-Lit: other"')
    assert.equal(r.status, 200)
    const sent = Object.fromEntries(JSON.parse(r.text).fields)
    assert.equal(sent['X-Lit'], 'as it is')
    assert.match(sent.Authorization, /^Bearer \*+$/)
  })
  await step('what programs know: addresses in variables', async () => {
    const env = (await s.commands.run('env')).stdout
    assert.match(env, new RegExp(`^BERTH_RULES=${host}=http://berth.internal/rules/${host}/$`, 'm'))
    assert.match(env, new RegExp(`^SVC_URL=http://berth.internal/rules/${host}/echo$`, 'm'))
    assert.equal((await ask(s, '$SVC_URL')).status, 200)
    assert(!(await s.commands.run('env; cat /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"', { user: 'root' })).stdout.includes(token))
  })
  await step('getInfo has them, and no value', async () => {
    const info = await s.getInfo()
    assert.deepEqual(info.network.rules, bearer(up.toUpperCase()))
    assert(!JSON.stringify(info).includes(token))
  })
  await step('an update of the secret is used from then on', async () => {
    await Secret.update(up, 'another-value')
    assert.equal((await ask(s, echo)).status, 401)
    await Secret.update(up, token)
    assert.equal((await ask(s, echo)).status, 200)
  })
  await step('updateNetwork has all of them anew', async () => {
    await s.updateNetwork({ rules: rule({ 'X-Api-Key': Secret.fill(up) }) })
    assert.equal((await ask(s, echo)).status, 200)
    await s.updateNetwork({ rules: { 'other.example': [{}] } })
    assert.deepEqual([(await ask(s, echo)).rule, (await s.commands.run('echo $BERTH_RULES $SVC_URL')).stdout], ['no-rule', '\n']) // no service leads there, and there is no network
    assert.equal((await ask(s, 'http://berth.internal/rules/other.example/')).rule, 'network')
    await s.updateNetwork({ denyOut: [all], rules: bearer(up) })
    assert.deepEqual([(await ask(s, echo)).rule, (await s.commands.run('echo $BERTH_RULES')).stdout], ['network', '\n'])
    await s.updateNetwork({})
    assert.equal((await ask(s, echo)).rule, 'no-rule')
    assert.equal((await s.getInfo()).network.rules, undefined)
    await s.updateNetwork({ rules: bearer(up) })
    assert.equal((await ask(s, echo)).status, 200)
  })
  await step('pause, connect', async () => {
    await s.pause()
    await s.updateNetwork({ rules: rule({ 'X-Api-Key': Secret.fill(up), 'X-New': '1' }) })
    s = await Sandbox.connect(s.sandboxId)
    const r = await ask(s, echo)
    assert.deepEqual([r.status, Object.fromEntries(JSON.parse(r.text).fields)['X-New']], [200, '1'])
  })
  await step('a fork has them, too', async () => {
    const [f] = await s.fork({ count: 1 })
    assert.equal((await ask(f.sandbox ?? f, echo)).status, 200)
    await (f.sandbox ?? f).kill()
  })
  await step('what cannot be done is refused, and says what', async () => {
    for (const [network, words] of [
      [{ rules: { '*.example.com': [{ transform: { headers: { a: 'b' } } }] } }, /\*\.example\.com.*patterns/],
      [{ rules: { '1.2.3.4': [{ transform: { headers: { a: 'b' } } }] } }, /1\.2\.3\.4.*addresses/],
      [{ rules: rule({ a: '${e2b.identity.tokens.aws}' }) }, /only .*secrets.*identity/],
      [{ rules: rule({ a: Secret.fill('no-such-one') }) }, /no-such-one.*not found/],
      [{ rules: rule({ Host: 'other.example' }) }, /header.*Host/],
      [{ rules: { [host]: [{}, {}] } }, /one rule/],
      [{ rules: { [host]: [{ transform: { query: { a: 'b' } } }] } }, /only headers/],
      [{ rules: { [host]: [{ transform: { headers: { a: 1 } } }] } }, /string|type/],
      [{ egressProxy: { address: 'proxy.example:1080' }, rules: rule({ a: 'b' }) }, /not have this yet.*rules together with egressProxy/],
      [{ egressProxy: { address: 'proxy.example' } }, /host:port/],
      [{ egressProxy: { address: 'proxy.example:1080' } }, /network/], // there is none here
    ]) {
      await rejects(make({ network }), words)
      await rejects(s.updateNetwork(network), words)
    }
    assert.equal((await ask(s, echo)).status, 200) // what was there is still there
  })
  await step('a secret that is gone', async () => {
    await Secret.destroy(up)
    assert.equal((await ask(s, echo)).rule, 'no-secret')
    await Secret.create(up, token)
    assert.equal((await ask(s, echo)).status, 200)
    await Secret.destroy(up)
    await s.kill()
  })
}
