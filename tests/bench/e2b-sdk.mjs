// SPDX-License-Identifier: Apache-2.0
// E2B's SDK as it comes, for tests/bench/e2b.py: each line of standard input is one thing to do, each line of output how many milliseconds
// a program that uses it waits. "command": commands.run('true') in a sandbox that is there; "create TEMPLATE": a new one until its first
// command has printed.
import { createInterface } from 'node:readline'
import { Sandbox } from 'e2b-2.51'

const options = { timeoutMs: 600_000, allowInternetAccess: false }
const there = await Sandbox.create('base', options)
await there.commands.run('true')
console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  const [what, template] = line.split(' ')
  const from = performance.now()
  if (what === 'command') {
    await there.commands.run('true')
    console.log(performance.now() - from)
  } else {
    const s = await Sandbox.create(template, options)
    const { stdout } = await s.commands.run('echo hello')
    if (stdout !== 'hello\n') throw new Error(`it printed ${stdout}`)
    console.log(performance.now() - from)
    await s.kill()
  }
}
await there.kill()
