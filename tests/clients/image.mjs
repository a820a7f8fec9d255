// SPDX-License-Identifier: Apache-2.0
// Images of registries as E2B's SDK asks for them: node image.mjs PACKAGE IMAGE PRIVATE-IMAGE.
import assert from 'node:assert/strict'

const [, , name, image, secret] = process.argv
const { Sandbox, Template } = await import(name)
process.on('exit', (code) => { if (code === 13) console.error('a promise that never settles') })
const small = { cpuCount: 1, memoryMB: 256 }

async function inside(template, fn) {
  const s = await Sandbox.create(template)
  try { await fn(async (command, options) => (await s.commands.run(command, options)).stdout.trim()) } finally { await s.kill() }
}

const lines = []
await Template.build(Template().fromImage(image).setEnvs({ MINE: '${FOO}!' }).runCmd('echo made > /opt/made; cat /opt/all/new', { user: 'root' }), 'sdk',
  { ...small, onBuildLogs: (l) => lines.push(l.message) })
assert.match(lines.join('\n'), /stdout\]: new/)
await inside('sdk', async (out) => {
  assert.equal(await out('cat /opt/made /opt/one/stays /opt/kind /opt/owned; ls /opt/all; ls -d /etc/old /opt/one/gone 2>/dev/null; true'), 'made\nstays\na file\n1000\nnew')
  assert.equal(await out('stat -c "%a %h %U" /opt/suid /opt/hard /opt/linked /opt/older; stat -c %U /opt/owned; cat /opt/abs'),
    '4755 2 root\n4755 2 root\n644 2 root\n644 2 root\nuser\n1000')
  // Variables of the image are there; its user, working directory and entrypoint are not, as with E2B.
  assert.equal(await out('echo "$FOO|$MINE"; id -un; pwd'), 'bar baz|bar baz!\nuser\n/home/user')
})
const refused = async (template, words) => assert.rejects(Template.build(template, 'sdk-bad', small), (e) => words.test(e.message) || assert.fail(e.message))
await refused(Template().fromImage(secret), /unauthorized|authentication required|401/)
await refused(Template().fromAWSRegistry(secret, { accessKeyId: 'a', secretAccessKey: 'b', region: 'c' }), /fromAWSRegistry/)
await Template.build(Template().fromImage(secret, { username: 'me', password: 'pass-word' }), 'sdk-private', small)
await inside('sdk-private', async (out) => assert.equal(await out('echo up'), 'up'))
