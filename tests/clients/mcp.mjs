// SPDX-License-Identifier: Apache-2.0
// What E2B's SDK does with a gateway of MCP: node mcp.mjs PACKAGE without|with|own [DIRECTORY]. One line for each row of the table in docs/e2b.md.
import assert from 'node:assert/strict'

const [pkg, how, dir] = process.argv.slice(2)
const { Sandbox, Template } = await import(pkg)

async function row(title, f) {
  let told
  try {
    told = (await f()) ?? 'ok'
  } catch (e) {
    told = `FAILED ${e.constructor.name}: ${e.message}`.replaceAll('\n', ' ')
    process.exitCode = 1
  }
  console.log(`${title}\t${told}`)
}

// No single quote in it: older versions put it between such, as it is.
const mcp = { brave: { apiKey: 'a "k" \\ $HOME `id` ü' }, github: { token: 't', tools: ['a', 'b'] }, long: { text: 'x'.repeat(60_000) },
  last: { key: 'kept-nowhere' } }
const timeoutMs = 120_000

if (how === 'without') {
  await row('Sandbox.create({ mcp }) (no such template)', async () => {
    const e = await Sandbox.create({ mcp, timeoutMs }).then(() => null, (e) => e)
    assert.match(e?.message ?? 'it did not fail', /mcp-gateway.*not found.*make a template of that name/)
    assert.deepEqual(await Sandbox.list().nextItems(), [])
  })
} else if (how === 'own') {
  // A key's own, which its clients build themselves: as docs/e2b.md has it.
  await row('a template of its own', async () => {
    const template = Template({ fileContextPath: dir }).fromTemplate('without').copy('mcp-gateway', '/usr/local/bin/', { user: 'root', mode: 0o755 })
    await Template.build(template, 'mcp-gateway', { cpuCount: 1, memoryMB: 256 })
    const s = await Sandbox.create({ mcp, timeoutMs })
    assert.equal(await (await Sandbox.connect(s.sandboxId)).getMcpToken(), await s.getMcpToken())
    await s.kill()
  })
} else {
  let s
  await row('Sandbox.create({ mcp })', async () => {
    s = await Sandbox.create({ mcp, timeoutMs, metadata: { of: pkg } })
    assert.match((await s.getInfo?.())?.templateId ?? 'mcp-gateway', /mcp-gateway/)
  })
  if (!s) process.exit(1)
  let token
  const ask = (token, body) => fetch(s.getMcpUrl(), { method: 'POST', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body) })
  await row('getMcpToken', async () => {
    token = await s.getMcpToken()
    assert.match(token, /^[0-9a-f-]{36}$/)
    // One that did not make it reads it inside, as root.
    assert.equal(await (await Sandbox.connect(s.sandboxId)).getMcpToken(), token)
  })
  await row('getMcpUrl', async () => {
    const asked = { jsonrpc: '2.0', id: 1, method: 'initialize' }
    const answer = await ask(token, asked)
    assert.equal(answer.status, 200)
    assert.deepEqual(await answer.json(), { config: mcp, request: 'POST /mcp', asked })
    assert.equal((await ask('other', asked)).status, 401)
  })
  await row('Sandbox.create({ mcp }) (what cannot be)', async () => {
    for (const [wrong, words] of [[['a'], /mcp must be an object/], [{ long: 'x'.repeat(66_000) }, /mcp: at most 65536 bytes/]])
      await assert.rejects(Sandbox.create({ mcp: wrong, timeoutMs }), words)
    // Their program there says no.
    await assert.rejects(Sandbox.create('without', { mcp, timeoutMs }), /Failed to start MCP gateway|exit status 127/)
  })
  await row('addMcpServer', async () => {
    const name = `mcp-${pkg.replace(/[^0-9]/g, '')}`
    const template = Template().fromTemplate('mcp-gateway').addMcpServer(['exa', 'brave'])
    await (Template.exists ? Template.build(template, name, { cpuCount: 1, memoryMB: 256 }) : Template.build(template, { alias: name, cpuCount: 1, memoryMB: 256 }))
    const b = await Sandbox.create(name, { mcp, timeoutMs })
    assert.equal(await b.files.read('/etc/mcp-gateway/pulled', { user: 'root' }), 'exa\nbrave\n')
    assert.match(await b.getMcpToken(), /^[0-9a-f-]{36}$/)
    await b.kill()
  })
  await s.kill()
}
process.exit()
