// SPDX-License-Identifier: Apache-2.0
// What E2B's SDK does with templates: node template.mjs PACKAGE DIRECTORY TEMPLATE. The last one is small, so that most builds are. One line for each row of the table in docs/e2b.md.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'

const [, , name, top, base] = process.argv
const e2b = await import(name)
const { Sandbox, Template, waitForFile } = e2b
process.on('exit', (code) => { if (code === 13) console.log('FAILED\ta promise that never settles') })

const dir = path.join(top, `context-${name}`)
fs.mkdirSync(path.join(dir, 'app/deep'), { recursive: true })
fs.writeFileSync(path.join(dir, 'app/main.txt'), 'main')
fs.writeFileSync(path.join(dir, 'app/deep/run.sh'), '#!/bin/sh\necho it runs\n', { mode: 0o755 })
fs.writeFileSync(path.join(dir, 'one.txt'), 'one')
const mine = `t-${name.replace(/[^0-9]/g, '')}`
const small = { cpuCount: 1, memoryMB: 256 }
const context = { fileContextPath: dir }

async function row(title, fn) {
  let result = 'ok'
  try {
    const r = await fn()
    if (r) result = r
  } catch (error) {
    result = 'FAILED'
    console.error(`${name}: ${title}:`, error)
    process.exitCode = 1
  }
  console.log(`${title}\t${result}`)
}

async function inside(template, fn) {
  const s = await Sandbox.create(template)
  try { return await fn(s) } finally { await s.kill() }
}
const out = async (s, command, options) => (await s.commands.run(command, options)).stdout.trim()

async function build(template, alias, more = {}) {
  const lines = []
  const options = { ...small, onBuildLogs: (l) => lines.push(l.message), ...more }
  // Older ones name it among the options.
  const info = e2b.Template.exists ? await Template.build(template, alias, options) : await Template.build(template, { alias, ...options })
  return { info, lines }
}

const recipe = (extra = 'true') => Template(context)
  .fromTemplate('base')
  .setEnvs({ GREETING: 'hello', LONGER: '${GREETING} world' })
  .runCmd(`mkdir -p /opt && echo made > /opt/made && echo said by ${name}`, { user: 'root' })
  .copy('app', '/srv/app', { user: 'root', mode: 0o755 })
  .copy('one.txt', 'copied.txt')
  .setWorkdir('/srv/work')
  .runCmd(`${extra} && echo $GREETING > greeting.txt && id -un >> greeting.txt`)

let first
await row('Template.build', async () => {
  first = await build(recipe(), mine)
  assert.match(first.lines.join('\n'), /said/)
  await inside(mine, async (s) => {
    assert.equal(await out(s, 'cat /opt/made'), 'made')
    assert.equal(await out(s, 'pwd; cat greeting.txt'), '/srv/work\nhello\nuser')
    assert.equal(await out(s, 'echo $LONGER'), 'hello world')
    assert.equal(await out(s, '/srv/app/deep/run.sh; cat /srv/app/main.txt; stat -c %U:%a /srv/app/main.txt'), 'it runs\nmainroot:755')
    assert.equal(await out(s, 'cat ~/copied.txt; stat -c %U ~/copied.txt'), 'oneuser')
    assert.equal(await out(s, 'nproc >/dev/null; sudo id -un'), 'root')
  })
})

await row('the cache: nothing is done twice', async () => {
  const again = await build(recipe(), mine)
  assert.equal(again.lines.filter((l) => /^CACHED /.test(l)).length, 6, again.lines.join('\n'))
  const other = await build(recipe('echo changed'), mine)
  assert.equal(other.lines.filter((l) => /^CACHED /.test(l)).length, 4, other.lines.join('\n'))
  await inside(mine, async (s) => assert.equal(await out(s, 'cat /opt/made ~/copied.txt greeting.txt'), 'made\nonehello\nuser'))
})

await row('a file that changed is copied anew', async () => {
  fs.writeFileSync(path.join(dir, 'one.txt'), 'two')
  const again = await build(recipe(), mine)
  assert.equal(again.lines.filter((l) => /^CACHED /.test(l)).length, 3, again.lines.join('\n'))
  await inside(mine, async (s) => assert.equal(await out(s, 'cat ~/copied.txt'), 'two'))
})

await row('skipCache', async () => {
  const stamp = () => Template(context).fromTemplate(base).runCmd(`cat /proc/sys/kernel/random/uuid > /home/user/stamp; echo ${name}`)
  const read = () => inside(`${mine}-s`, (s) => out(s, 'cat stamp'))
  await build(stamp(), `${mine}-s`)
  const a = await read()
  await build(stamp(), `${mine}-s`)
  assert.equal(await read(), a)
  await build(stamp(), `${mine}-s`, { skipCache: true })
  const b = await read()
  assert.notEqual(b, a)
  await build(stamp(), `${mine}-s`)
  assert.equal(await read(), b)
})

await row('buildInBackground, getBuildStatus', async () => {
  if (!Template.buildInBackground) return 'none'
  const template = Template().fromTemplate(base).runCmd(`for i in 1 2 3; do echo line $i; done; echo ${name}`)
  const info = e2b.Template.exists
    ? await Template.buildInBackground(template, `${mine}-b`, small)
    : await Template.buildInBackground(template, { alias: `${mine}-b`, ...small })
  const lines = []
  for (;;) {
    const s = await Template.getBuildStatus(info, { logsOffset: lines.length })
    lines.push(...s.logEntries.map((l) => l.message))
    if (s.status === 'ready' && !s.logEntries.length) break
    assert.notEqual(s.status, 'error', JSON.stringify(s.reason))
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  assert.equal(lines.filter((l) => /stdout\]: line [123]$/.test(l)).length, 3, lines.join('\n'))
})

await row('a build that fails says why and where', async () => {
  const bad = [
    [Template().fromTemplate(base).runCmd('echo fine').runCmd('echo bad >&2; exit 3'), /failed to run command 'echo bad >&2; exit 3': exit status 3/],
    [Template().fromTemplate(base).runCmd('whoami', { user: 'root123' }), /failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'/],
    [Template().fromTemplate('nothing-such'), /template 'nothing-such' not found/],
    [Template().fromImage('example.invalid/none:1'), /image 'example.invalid\/none:1'/],
  ]
  for (const [template, words] of bad) await assert.rejects(build(template, `${mine}-bad`), (e) => words.test(e.message) || assert.fail(`${e.message} ${words}`))
  await assert.rejects(Sandbox.create(`${mine}-bad`))
})

await row('exists (aliases)', async () => {
  if (!Template.exists && !Template.aliasExists) return 'none'
  const exists = (Template.exists ?? Template.aliasExists).bind(Template)
  assert.equal(await exists(mine), true)
  assert.equal(await exists('base'), true)
  assert.equal(await exists(`${mine}-never`), false)
})

await row('tags', async () => {
  if (!Template.assignTags) return 'none'
  const stamp = (text) => Template().fromTemplate(base).runCmd(`echo ${text} > /home/user/stamp`)
  const read = (tag) => inside(`${mine}-t${tag}`, (s) => out(s, 'cat stamp'))
  const one = await build(stamp('one'), `${mine}-t:v1`, { tags: ['stable'] })
  assert.deepEqual([...one.info.tags].sort(), ['stable', 'v1'])
  await build(stamp('two'), `${mine}-t:v2`)
  assert.equal(await read(':v1'), 'one')
  assert.equal(await read(':stable'), 'one')
  assert.equal(await read(':v2'), 'two')
  assert.deepEqual((await Template.assignTags(`${mine}-t:v2`, ['stable', 'new'])).tags.sort(), ['new', 'stable'])
  assert.equal(await read(':stable'), 'two')
  await Template.removeTags(`${mine}-t`, ['new'])
  assert.deepEqual((await Template.getTags(one.info.templateId)).map((t) => t.tag).sort(), ['stable', 'v1', 'v2'])
  await assert.rejects(Sandbox.create(`${mine}-t:new`))
})

await row('fromTemplate (a built one), setUser', async () => {
  await build(Template().fromTemplate(mine).setUser('worker').runCmd('id -un > /srv/work/who 2>/dev/null || id -un > ~/who'), `${mine}-on`)
  await inside(`${mine}-on`, async (s) => {
    assert.equal(await out(s, 'id -un; cat ~/who; cat /opt/made; echo $GREETING'), 'worker\nworker\nmade\nhello')
    assert.equal(await out(s, 'id -un', { user: 'root' }), 'root')
  })
})

await row('fromDockerfile, fromBaseImage', async () => {
  await build(Template(context).fromDockerfile('FROM e2bdev/base\nENV A=1\nRUN echo docker > /tmp/x && cp /tmp/x /srv/x\nCOPY one.txt /srv/\nWORKDIR /srv\nUSER user\n'), `${mine}-d`)
  await inside(`${mine}-d`, async (s) => assert.equal(await out(s, 'cat /srv/x /srv/one.txt; echo $A'), 'docker\ntwo1'))
})

await row('setStartCmd, setReadyCmd', async () => {
  const ready = waitForFile ? waitForFile('/tmp/is-ready') : '[ -f /tmp/is-ready ]'
  await build(Template().fromTemplate(base).setEnvs({ WORD: 'up' })
    .setStartCmd('echo $WORD > /tmp/was-started; sleep 0.3; touch /tmp/is-ready; exec sleep 1000', ready), `${mine}-w`)
  await inside(`${mine}-w`, async (s) => {
    assert.equal(await out(s, 'cat /tmp/was-started; ls /tmp/is-ready'), 'up\n/tmp/is-ready')
    assert.equal((await s.commands.list()).filter((p) => p.args.some((a) => /exec sleep 1000/.test(a))).length, 1)
  })
})
