// SPDX-License-Identifier: Apache-2.0
// One version of E2B's SDK, as it comes, through every method that berth answers: node e2b.mjs PACKAGE MOUNT.
// A line for each: its name and ok, none (this version does not have it), missing (refused by name), or what went wrong.
import assert from 'node:assert'
import { readFileSync, existsSync } from 'node:fs'

const [pkg, mount] = process.argv.slice(2)
const { Sandbox } = await import(pkg)
const has = (o, name) => typeof o?.[name] === 'function'
let bad = 0

async function step(name, f) {
  let told
  try {
    told = (await f()) ?? 'ok'
  } catch (e) {
    told = /berth does not have this yet/.test(e.message) ? 'missing' : `FAILED ${e.constructor.name}: ${e.message}`.replaceAll('\n', ' ')
    bad += told !== 'missing'
  }
  console.log(`${name}\t${told}`)
}

const rejects = async (promise, word) => {
  const e = await promise.then(() => null, (e) => e)
  assert(e, 'it did not fail')
  assert.match(`${e.constructor.name} ${e.message}`, word)
}

let s
await step('Sandbox.create', async () => {
  s = await Sandbox.create('base', { metadata: { who: pkg, odd: 'a b&c=%' }, envs: { FOO: 'bar' }, timeoutMs: 120_000 })
  assert.match(s.sandboxId, /^[a-z0-9]+$/)
})
if (!s) process.exit(1)

await step('Sandbox.create (no such template)', () => rejects(Sandbox.create('nothing-like-it'), /not found|404/))
await step('commands.run', async () => {
  const r = await s.commands.run('echo out $FOO $BAR; pwd; id -un; echo err >&2', { envs: { BAR: 'x y' } })
  assert.deepEqual([r.exitCode, r.stdout, r.stderr], [0, 'out bar x y\n/home/user\nuser\n', 'err\n'])
})
await step('commands.run (status)', async () => {
  const e = await s.commands.run('echo some; exit 3').catch((e) => e)
  assert.deepEqual([e.constructor.name, e.exitCode, e.stdout], ['CommandExitError', 3, 'some\n'])
})
await step('commands.run (user, cwd)', async () => {
  assert.equal((await s.commands.run('id -un; pwd', { user: 'root', cwd: '/tmp' })).stdout, 'root\n/tmp\n')
  await rejects(s.commands.run('true', { user: 'nobody-here' }), /Authentication|nobody-here/)
  await rejects(s.commands.run('true', { cwd: '/nowhere' }), /nowhere/)
})
await step('commands.run (timeoutMs)', () => rejects(s.commands.run('sleep 20', { timeoutMs: 300 }), /Timeout/))
await step('commands.run (onStdout)', async () => {
  let text = ''
  const r = await s.commands.run('for i in $(seq 20000); do echo line $i; done', { onStdout: (d) => { text += d } })
  assert.equal(text, r.stdout)
  assert.equal(text.split('\n').length, 20001)
})
await step('commands.run (background), sendStdin, closeStdin', async () => {
  let came
  const first = new Promise((f) => { came = f })
  const h = await s.commands.run('cat; echo done', { background: true, stdin: true, onStdout: () => came() })
  await s.commands.sendStdin(h.pid, 'hello\n')
  if (has(s.commands, 'closeStdin')) await s.commands.closeStdin(h.pid)
  else await first.then(() => s.commands.kill(h.pid))
  const r = await h.wait().catch((e) => e)
  assert.match(r.stdout, /^hello\n/)
})
await step('commands.list, kill, connect', async () => {
  const h = await s.commands.run('echo begun; sleep 300', { background: true, timeoutMs: 0 })
  const found = (await s.commands.list()).find((p) => p.pid === h.pid)
  assert.deepEqual([found.cmd, found.args], ['/bin/bash', ['-l', '-c', 'echo begun; sleep 300']])
  const second = await s.commands.connect(h.pid, { timeoutMs: 0 })
  assert.equal(second.pid, h.pid)
  assert.equal(await s.commands.kill(h.pid), true)
  await rejects(h.wait(), /signal: killed|CommandExit/)
  await rejects(second.wait(), /signal: killed|CommandExit/)
  assert.equal(await s.commands.kill(999999), false)
})
await step('pty', async () => {
  let text = ''
  const p = await s.pty.create({ cols: 80, rows: 24, onData: (d) => { text += new TextDecoder().decode(d) }, timeoutMs: 0 })
  await s.pty.resize(p.pid, { cols: 91, rows: 33 })
  await s.pty.sendInput(p.pid, new TextEncoder().encode('stty size; echo $((40+2)) $TERM; exit 7\n'))
  const e = await p.wait().catch((e) => e)
  assert.equal(e.exitCode, 7)
  assert.match(text, /33 91/)
  assert.match(text, /42 xterm-256color/)
})

await step('files.write, read', async () => {
  const w = await s.files.write('hello.txt', 'Hällo')
  assert.deepEqual([w.path, w.name], ['/home/user/hello.txt', 'hello.txt'])
  assert.equal(await s.files.read('hello.txt'), 'Hällo')
  await s.files.write('hello.txt', 'x')
  assert.equal(await s.files.read('/home/user/hello.txt'), 'x')
  await s.files.write('~/empty', '')
  assert.equal(await s.files.read('empty'), '')
})
await step('files.write (on the mount)', async () => {
  await s.files.write('/workspace/deep/er/seen.txt', `by ${pkg}`)
  assert.equal(readFileSync(`${mount}/${s.sandboxId}/deep/er/seen.txt`, 'utf8'), `by ${pkg}`)
  await s.commands.run('echo run, then ls >/workspace/ran')
  assert.equal(readFileSync(`${mount}/${s.sandboxId}/ran`, 'utf8'), 'run, then ls\n')
})
await step('files.write (several)', async () => {
  const w = await s.files.write([{ path: 'a.txt', data: 'A' }, { path: '/workspace/b "q" ü.txt', data: 'B' }])
  assert.deepEqual(w.map((e) => e.path), ['/home/user/a.txt', '/workspace/b "q" ü.txt'])
  assert.equal(await s.files.read('/workspace/b "q" ü.txt'), 'B')
})
await step('files.read (bytes, blob, stream)', async () => {
  const data = new Uint8Array(5_000_000).map((_, i) => i * 7)
  await s.files.write('/workspace/big', data.buffer)
  assert.deepEqual(Buffer.from(await s.files.read('/workspace/big', { format: 'bytes' })), Buffer.from(data))
  assert.equal((await s.files.read('/workspace/big', { format: 'blob' })).size, data.length)
  let n = 0
  for await (const piece of await s.files.read('/workspace/big', { format: 'stream' })) n += piece.length
  assert.equal(n, data.length)
  assert.equal(readFileSync(`${mount}/${s.sandboxId}/big`).length, data.length)
})
await step('files.write (Blob)', async () => {
  await s.files.write('blob', new Blob(['of ', 'pieces']))
  assert.equal(await s.files.read('blob'), 'of pieces')
})
await step('files.exists, getInfo', async () => {
  assert.deepEqual([await s.files.exists('hello.txt'), await s.files.exists('no.txt')], [true, false])
  await s.commands.run('ln -s hello.txt link; chmod 640 hello.txt')
  if (!has(s.files, 'getInfo')) return 'none'
  const i = await s.files.getInfo('hello.txt')
  assert.deepEqual([i.name, i.type, i.path, i.size, i.mode, i.permissions, i.owner, i.group],
    ['hello.txt', 'file', '/home/user/hello.txt', 1, 0o640, '-rw-r-----', 'user', 'user'])
  assert.equal((await s.files.getInfo('link')).symlinkTarget, '/home/user/hello.txt')
  await rejects(s.files.getInfo('no.txt'), /NotFound/)
})
await step('files.makeDir, list, rename, remove', async () => {
  assert.equal(await s.files.makeDir('d/e/f'), true)
  assert.equal(await s.files.makeDir('d/e'), false)
  await s.files.write('d/e/z', 'z')
  await s.files.write('d/a', 'a')
  assert.deepEqual((await s.files.list('d')).map((e) => [e.name, e.type]), [['a', 'file'], ['e', 'dir']])
  assert.deepEqual((await s.files.list('d', { depth: 2 })).map((e) => e.path),
    ['/home/user/d/a', '/home/user/d/e', '/home/user/d/e/f', '/home/user/d/e/z'])
  assert.equal((await s.files.rename('d/a', 'new/b')).path, '/home/user/new/b')
  await s.files.remove('d')
  assert.equal(await s.files.exists('d'), false)
  await rejects(s.files.list('d'), /NotFound/)
  await rejects(s.files.read('d'), /NotFound/)
  await rejects(s.files.list('new/b'), /InvalidArgument/)
  await rejects(s.files.read('new'), /InvalidArgument|400|regular/)
})
await step('files metadata', async () => {
  const w = await s.files.write('m.txt', 'x', { metadata: { Color: 'red' } })
  if (w.metadata === undefined && !(await s.files.getInfo('m.txt')).metadata) return 'none'
  assert.deepEqual((await s.files.getInfo('m.txt')).metadata, { color: 'red' })
  await s.files.write('m.txt', 'y')
  assert.equal((await s.files.getInfo('m.txt')).metadata, undefined)
})
await step('files.write (gzip)', async () => {
  await s.files.write('zipped', 'z'.repeat(1000), { gzip: true })
  assert.equal((await s.files.read('zipped')).length, 1000)
})
await step('files.watchDir', async () => {
  await s.files.makeDir('watched')
  const seen = []
  const w = await s.files.watchDir('watched', (e) => seen.push(`${e.type} ${e.name}`))
  await s.files.write('watched/one', '1')
  for (let i = 0; i < 100 && !seen.some((e) => /write one/.test(e)); i++) await new Promise((r) => setTimeout(r, 50))
  await w.stop()
  assert(seen.includes('create one') && seen.includes('write one'), JSON.stringify(seen))
})
await step('downloadUrl, uploadUrl', async () => {
  const url = await s.downloadUrl('hello.txt')
  // Where no sandbox is named in it, the signature tells which one.
  if (!url.startsWith(process.env.E2B_SANDBOX_URL)) return 'none'
  assert.equal(await (await fetch(url)).text(), 'x')
  assert.equal((await fetch(url.replace(/signature=v1_./, 'signature=v1_-'))).status, 401)
  const late = await s.downloadUrl('hello.txt', { useSignatureExpiration: -10 })
  const answer = await fetch(late)
  assert.deepEqual([answer.status, (await answer.json()).message], [401, 'signature is already expired'])
  const form = new FormData()
  form.append('file', new Blob(['by url']), 'up.txt')
  assert.equal((await fetch(await s.uploadUrl('up.txt'), { method: 'POST', body: form })).status, 200)
  assert.equal(await s.files.read('up.txt'), 'by url')
})
await step('git', async () => {
  if (!s.git) return 'none'
  await s.git.init('/workspace/repo')
  await s.git.configureUser('A', 'a@example.org', { path: '/workspace/repo' })
  await s.files.write('/workspace/repo/f', 'f')
  await s.git.add('/workspace/repo')
  await s.git.commit('/workspace/repo', 'one')
  assert(existsSync(`${mount}/${s.sandboxId}/repo/.git/HEAD`))
})

await step('isRunning', async () => assert.equal(await s.isRunning(), true))
await step('getInfo', async () => {
  if (!has(s, 'getInfo')) return 'none'
  const i = await s.getInfo()
  assert.deepEqual([i.sandboxId, i.templateId, i.metadata.odd], [s.sandboxId, 'base', 'a b&c=%'])
  assert(i.endAt > i.startedAt)
})
await step('setTimeout', async () => {
  await s.setTimeout(600_000)
  if (has(s, 'getInfo')) assert((await s.getInfo()).endAt - Date.now() > 590_000)
})
await step('getMetrics', async () => {
  if (!has(s, 'getMetrics')) return 'none'
  const m = await s.getMetrics()
  assert(m.length >= 1 && m[0].memTotal > 0 && m[0].diskTotal > 0, JSON.stringify(m))
})
await step('Sandbox.list', async () => {
  const other = await Sandbox.create('base', { metadata: { who: pkg }, timeoutMs: 60_000 })
  const p = Sandbox.list({ query: { metadata: { who: pkg } }, limit: 1 })
  const seen = []
  while (p.hasNext) seen.push(...(await p.nextItems()).map((i) => i.sandboxId))
  assert.deepEqual(new Set(seen), new Set([s.sandboxId, other.sandboxId]))
  const odd = await Sandbox.list({ query: { metadata: { odd: 'a b&c=%', who: pkg } } }).nextItems()
  assert.deepEqual(odd.map((i) => i.sandboxId), [s.sandboxId])
  assert.equal(await Sandbox.kill(other.sandboxId), true)
})
await step('pause, connect', async () => {
  const h = await s.commands.run('sleep 300', { background: true, timeoutMs: 0 })
  h.wait().catch(() => null)
  await (has(s, 'pause') ? s.pause() : s.betaPause())
  assert.equal(await s.isRunning(), false)
  const paused = await Sandbox.list({ query: { state: ['paused'], metadata: { who: pkg } } }).nextItems()
  assert.deepEqual(paused.map((i) => i.sandboxId), [s.sandboxId])
  const again = await Sandbox.connect(s.sandboxId)
  assert.equal(await again.isRunning(), true)
  assert((await again.commands.list()).some((p) => p.pid === h.pid), 'the process is not there any more')
  const joined = await again.commands.connect(h.pid)
  assert.equal(await joined.kill(), true)
  await rejects(joined.wait(), /signal: killed|CommandExit/)
})
await step('autoResume', async () => {
  const o = await Sandbox.create('base', { timeoutMs: 60_000, lifecycle: { onTimeout: 'pause', autoResume: true } })
  try {
    if (!(await o.getInfo()).lifecycle?.autoResume) return 'none'
    await o.files.write('x', 'before')
    await o.pause()
    assert.equal(await o.isRunning(), false)
    assert.equal(await o.files.read('x'), 'before')
    assert.equal(await o.isRunning(), true)
  } finally {
    await o.kill()
  }
})
await step('pause (keepMemory: false)', async () => {
  const o = await Sandbox.create('base', { timeoutMs: 60_000, lifecycle: { onTimeout: { action: 'pause', keepMemory: false } } })
  try {
    await o.files.write('x', 'before')
    await o.commands.run('sleep 300', { background: true, timeoutMs: 0 })
    if (!has(o, 'pause')) return 'none'
    await o.pause({ keepMemory: false })
    await Sandbox.connect(o.sandboxId)
    if ((await o.commands.list()).length) return 'none' // this version does not ask for it
    assert.equal(await o.files.read('x'), 'before')
    assert.equal((await o.commands.run('echo $((1 + 1))')).stdout, '2\n')
    await o.commands.run('sleep 300', { background: true, timeoutMs: 0 })
    await o.setTimeout(1)
    for (const end = Date.now() + 20_000; (await o.getInfo()).state !== 'paused'; ) assert(Date.now() < end, 'not paused')
    await Sandbox.connect(o.sandboxId)
    assert.equal((await o.commands.list()).length, 0)
    assert.equal(await o.files.read('x'), 'before')
  } finally {
    await o.kill()
  }
})
await step('createSnapshot, listSnapshots, deleteSnapshot', async () => {
  if (!has(s, 'createSnapshot')) return 'none'
  await s.files.write('/workspace/kept', 'then')
  await s.files.write('kept', 'home')
  const snap = await s.createSnapshot()
  await s.files.write('/workspace/kept', 'now')
  await s.files.write('kept', 'now') // of /home/user
  const b = await Sandbox.create(snap.snapshotId)
  assert.equal(await b.files.read('/workspace/kept'), 'then')
  assert.equal(await b.files.read('kept'), 'home')
  await b.kill()
  if (!has(Sandbox, 'listSnapshots')) return
  const all = await Sandbox.listSnapshots({ sandboxId: s.sandboxId }).nextItems()
  assert.deepEqual(all.map((x) => x.snapshotId), [snap.snapshotId])
  assert.equal(await Sandbox.deleteSnapshot(snap.snapshotId), true)
  assert.equal(await Sandbox.deleteSnapshot(snap.snapshotId), false)
})
await step('fork', async () => {
  if (!has(s, 'fork')) return 'none'
  await s.files.write('/workspace/forked', 'first')
  await s.files.write('forked', 'home')
  const all = await s.fork({ count: 2 })
  assert.equal(all.length, 2)
  const forks = all.map((x) => x.sandbox ?? x)
  for (const f of forks) {
    assert.notEqual(f.sandboxId, s.sandboxId)
    assert.equal(await f.files.read('/workspace/forked'), 'first')
    assert.equal(await f.files.read('forked'), 'home')
    await f.files.write('forked', f.sandboxId)
    assert.deepEqual((await f.getInfo()).metadata, (await s.getInfo()).metadata)
  }
  assert.equal(await s.files.read('forked'), 'home')
  for (const f of forks) await f.kill()
})
await step('updateNetwork', async () => {
  if (!has(s, 'updateNetwork')) return 'none'
  await s.updateNetwork({ denyOut: ['0.0.0.0/0'] }) // what it does: network.mjs
})
await step('kill', async () => {
  const h = await s.commands.run('sleep 300', { background: true, timeoutMs: 0 })
  const ended = h.wait().then(() => null, (e) => e)
  assert.notEqual(await s.kill(), false)
  assert(await ended, 'a stream outlived its sandbox')
  assert.equal(await s.isRunning(), false)
  assert.notEqual(await Sandbox.kill(s.sandboxId), true)
  await rejects(Sandbox.connect(s.sandboxId), /not found|NotFound|404/)
  assert.equal(readFileSync(`${mount}/${s.sandboxId}/ran`, 'utf8'), 'run, then ls\n') // what it made is kept
})
process.exit(bad ? 1 : 0)
