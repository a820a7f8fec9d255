// SPDX-License-Identifier: Apache-2.0
// Secrets of one version of E2B's SDK, and rules that put them into headers: node secret.mjs PACKAGE VALUE. A line for each thing: its
// name and ok, none (this version does not have it), or what went wrong. RULE_HOST is a service that echoes what it was asked.
import assert from 'node:assert'

const [pkg, value] = process.argv.slice(2)
const { Sandbox, Secret } = await import(pkg)
const host = process.env.RULE_HOST
let bad = 0

async function step(name, f) {
  let told
  try {
    told = Secret ? ((await f()) ?? 'ok') : 'none'
  } catch (e) {
    told = /berth does not have this yet/.test(e.message) ? 'missing' : `FAILED ${e.constructor.name}: ${e.message}`.replaceAll('\n', ' ')
    bad += 1
  }
  console.log(`${name}\t${told}`)
}
const rejects = async (promise, word) => {
  const e = await promise.then(() => null, (e) => e)
  assert(e, 'it did not fail')
  assert.match(`${e.constructor.name} ${e.message}`, word)
}
const name = `Api-Key-${pkg.replace(/.*-/, '').replace('.', '')}`
const small = name.toLowerCase()
let made

await step('Secret.create', async () => {
  made = await Secret.create(name, `${value}-1`, { metadata: { team: 'ci "x"', who: pkg } })
  assert.match(made.secretId, /^sec_[0-9a-z]+$/)
  assert.deepEqual([made.name, made.version, made.metadata], [small, 1, { team: 'ci "x"', who: pkg }])
  assert(Math.abs(made.createdAt.getTime() - Date.now()) < 600_000)
})
await step('Secret.create (what cannot be)', async () => {
  await rejects(Secret.create(name, 'other-value'), /exists/)
  await rejects(Secret.create('sec_x', 'some-value'), /sec_/)
  await rejects(Secret.create('a/b', 'some-value'), /name/)
  await rejects(Secret.create('a'.repeat(65), 'some-value'), /name/)
  await rejects(Secret.create('empty', ''), /empty/)
  await rejects(Secret.create('lines', 'a\nb'), /control/)
  await rejects(Secret.create('long', 'x'.repeat(8193)), /8192/)
  await rejects(Secret.create('meta', 'some-value', { metadata: { a: 'x'.repeat(1025) } }), /metadata/)
  await rejects(Secret.create('meta', 'some-value', { metadata: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, ''])) }), /metadata/)
  assert.equal(await Secret.exists('meta'), false)
})
await step('Secret.getInfo, exists', async () => {
  assert.deepEqual(await Secret.getInfo(name), made)
  assert.deepEqual(await Secret.getInfo(made.secretId), made)
  assert.deepEqual([await Secret.exists(made.name), await Secret.exists('no-such-one')], [true, false])
  await rejects(Secret.getInfo('no-such-one'), /SecretNotFound|not found/)
})
await step('Secret.update', async () => {
  const now = await Secret.update(small, `${value}-2`)
  assert.deepEqual([now.secretId, now.version, now.metadata], [made.secretId, 2, made.metadata])
  assert.equal((await Secret.update(made.secretId, `${value}-3`, { metadata: {} })).version, 3)
  assert.deepEqual((await Secret.getInfo(name)).metadata, {})
  await rejects(Secret.update('no-such-one', 'some-value'), /SecretNotFound|not found/)
})
await step('Secret.list', async () => {
  for (const i of [1, 2, 3, 4]) await Secret.create(`${small}.${i}`, 'some-value')
  const pages = Secret.list({ limit: 2 }), found = []
  while (pages.hasNext) found.push(...await pages.nextItems())
  assert.deepEqual(found.map((s) => s.name).filter((n) => n.startsWith(small)), [small, ...[1, 2, 3, 4].map((i) => `${small}.${i}`)])
})
await step('Secret.destroy', async () => {
  for (const i of [1, 2, 3, 4]) assert.equal(await Secret.destroy(`${small}.${i}`), true)
  assert.equal(await Secret.destroy(`${small}.1`), false)
  const again = await Secret.create(`${small}.1`, 'some-value')
  assert.equal(again.version, 1)
  assert.equal(await Secret.destroy(again.secretId), true)
})
if (host) await import('./rules.mjs').then((m) => m.rules({ step, rejects, Sandbox, Secret, host, small, value }))
await step('Secret.destroy (the last)', async () => assert.equal(await Secret.destroy(name), true))
process.exit(bad ? 1 : 0)
