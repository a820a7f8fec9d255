// SPDX-License-Identifier: Apache-2.0
// What E2B's SDK does with volumes: node volume.mjs PACKAGE MOUNT. One line for each row of the table in docs/e2b.md.
import assert from 'node:assert/strict'
import fs from 'node:fs'

const [, , name, mount] = process.argv
const { Sandbox, Volume } = await import(name)
process.on('exit', (code) => { if (code === 13) console.log('FAILED\ta promise that never settles') })

async function row(title, fn) {
  let result = 'ok'
  try {
    result = (await fn()) ?? 'ok'
  } catch (error) {
    result = 'FAILED'
    console.error(`${name}: ${title}:`, error)
    process.exitCode = 1
  }
  console.log(`${title}\t${result}`)
}
async function until(what, fn) {
  const end = Date.now() + 20000
  while (!(await fn())) {
    assert(Date.now() < end, `waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
const out = async (s, command, options) => (await s.commands.run(command, options)).stdout.trim()

const called = `v_${name.replace(/[^0-9]/g, '')}`
let v
await row('Volume.create, getInfo, list, connect', async () => {
  v = await Volume.create(called)
  assert.equal(v.name, called)
  assert.equal((await Volume.getInfo(v.volumeId)).token, v.token)
  assert((await Volume.list()).some((one) => one.volumeId === v.volumeId))
  assert.equal((await Volume.connect(v.volumeId)).token, v.token)
  await assert.rejects(Volume.create(called))
  await assert.rejects(Volume.create('not/a name'))
  await assert.rejects(Volume.getInfo('nothing'))
})
await row('writeFile, readFile', async () => {
  const e = await v.writeFile('/a/one.txt', 'one')
  assert.deepEqual([e.name, e.path, e.type, e.size, e.uid], ['one.txt', '/a/one.txt', 'file', 3, 1000])
  assert.equal(await v.readFile('/a/one.txt'), 'one')
  await v.writeFile('/a/one.txt', new Blob(['two!']))
  assert.equal(Buffer.from(await v.readFile('/a/one.txt', { format: 'bytes' })).toString(), 'two!')
  await v.writeFile('/empty', '')
  assert.equal(await v.readFile('/empty'), '')
  const large = new Uint8Array(5 * 1024 * 1024).map((_, i) => i % 251)
  await v.writeFile('/large', large.buffer)
  assert.deepEqual(Buffer.from(await v.readFile('/large', { format: 'bytes' })), Buffer.from(large))
  let n = 0
  for await (const part of await v.readFile('/large', { format: 'stream' })) n += part.length
  assert.equal(n, large.length)
  await assert.rejects(v.readFile('/none'), /not found/i)
  await assert.rejects(v.readFile('/../etc/passwd'))
})
await row('makeDir, list, getInfo, exists, updateMetadata, remove', async () => {
  const d = await v.makeDir('/dir/deep', { mode: 0o750, uid: 1000, gid: 1000 })
  assert.deepEqual([d.type, d.mode], ['directory', 0o750])
  await v.writeFile('/dir/x', 'x', { mode: 0o600, uid: 0, gid: 0 })
  const x = await v.getInfo('/dir/x')
  assert.deepEqual([x.mode, x.uid, x.gid], [0o600, 0, 0])
  assert.deepEqual((await v.list('/dir')).map((e) => e.name), ['deep', 'x'])
  assert((await v.list('/', { depth: 3 })).some((e) => e.path === '/dir/deep'))
  assert.equal((await v.updateMetadata('/dir/x', { mode: 0o644, uid: 1000 })).mode, 0o644)
  assert.equal(await v.exists('/dir/x'), true)
  await v.remove('/dir')
  assert.equal(await v.exists('/dir/x'), false)
  await assert.rejects(v.remove('/dir'), /not found/i)
})
await row('volumeMounts: several sandboxes at once', async () => {
  const [a, b] = await Promise.all([
    Sandbox.create('base', { volumeMounts: { '/data': v, '/srv/more': called } }),
    Sandbox.create('base', { volumeMounts: { '/data': called } }),
  ])
  assert.equal(await out(a, 'cat /data/a/one.txt; cat /srv/more/a/one.txt'), 'two!two!')
  await a.commands.run('echo from a > /data/shared; mkdir -p /data/d; chmod 700 /data/d; git init -q /data/repo')
  assert.equal(await out(b, 'cat /data/shared; stat -c %U:%a /data/d; ls /data/repo/.git/HEAD'), 'from a\nuser:700\n/data/repo/.git/HEAD')
  await b.commands.run('echo from b >> /data/shared; rm -r /data/d')
  assert.equal(await out(a, 'cat /data/shared; ls -d /data/d 2>&1 | wc -l'), 'from a\nfrom b\n1')
  assert.equal(await v.readFile('/shared'), 'from a\nfrom b\n')
  await v.writeFile('/shared', 'from outside')
  assert.equal(await out(b, 'cat /data/shared'), 'from outside')
  assert.deepEqual((await a.getInfo()).volumeMounts?.map((m) => m.path).sort() ?? ['/data', '/srv/more'], ['/data', '/srv/more'])
  await assert.rejects(Volume.destroy(v.volumeId), /uses/)
  // A lock of one holds in the other.
  await a.commands.run('flock /data/lock sleep 1000', { background: true })
  await until('the lock', async () => (await out(b, 'flock -n /data/lock true && echo free || echo held')) === 'held')
  await Promise.all([a.kill(), b.kill()])
})
await row('what a sandbox wrote is there afterwards, and on the mount', async () => {
  await until('the mount', () => fs.readdirSync(mount).some((id) => {
    try { return fs.readFileSync(`${mount}/${id}/shared`, 'utf8') === 'from outside' } catch { return false }
  }))
  const c = await Sandbox.create('base', { volumeMounts: { '/data': called } })
  assert.equal(await out(c, 'cat /data/shared; echo; ls -d /data/repo'), 'from outside\n/data/repo')
  await c.kill()
})
await row('what cannot be mounted is refused', async () => {
  for (const path of ['/proc/x', '/workspace', 'data', '/a/../b', '/']) {
    await assert.rejects(Sandbox.create('base', { volumeMounts: { [path]: called } }), /mounted at/)
  }
  await assert.rejects(Sandbox.create('base', { volumeMounts: { '/data': 'nothing-such' } }), /not found/)
})
await row('Volume.destroy', async () => {
  if (process.env.KEEP_VOLUME) return
  assert.equal(await Volume.destroy(v.volumeId), true)
  assert.equal(await Volume.destroy(v.volumeId), false)
  assert.equal((await Volume.list()).length, 0)
})
