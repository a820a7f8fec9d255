// SPDX-License-Identifier: Apache-2.0
// E2B's code interpreter, as it comes, against berthd: node interpreter.mjs. Each line a method.
import assert from 'node:assert'
import { Sandbox } from '@e2b/code-interpreter'

let bad = 0
async function step(name, f) {
  const told = await f().then(() => 'ok', (e) => `FAILED ${e.constructor.name}: ${e.message}`.replaceAll('\n', ' '))
  bad += told !== 'ok'
  console.log(`${name}\t${told}`)
}
const refused = async (promise, word) => {
  const e = await promise.then(() => null, (e) => e)
  assert(e, 'it did not fail')
  assert.match(`${e.constructor.name} ${e.message}`, word)
}

const s = await Sandbox.create({ timeoutMs: 300_000, envs: { OF_ALL: 'here' } })
await step('runCode', async () => {
  const r = await s.runCode('import os\nx = 20\nprint("out", os.environ["OF_ALL"])\nimport sys; print("err", file=sys.stderr)\nx + 1')
  assert.deepEqual([r.text, r.logs.stdout.join(''), r.logs.stderr.join(''), r.error, r.executionCount], ['21', 'out here\n', 'err\n', undefined, 1])
})
await step('runCode (state)', async () => assert.equal((await s.runCode('x += 1; x')).text, '21'))
await step('runCode (callbacks)', async () => {
  const got = []
  await s.runCode('import time\nfor i in range(3): print(i, flush=True); time.sleep(0.2)\n"end"', {
    onStdout: (m) => got.push(m.line), onResult: (r) => got.push(r.text) })
  assert.equal(got.join(''), '0\n1\n2\nend')
})
await step('runCode (error)', async () => {
  const r = await s.runCode('def f(): return 1 / 0\nf()')
  assert.equal(r.error.name, 'ZeroDivisionError')
  assert.match(r.error.traceback, /division by zero/)
  assert.equal((await s.runCode('x')).text, '21')
})
await step('runCode (envs)', async () => {
  const code = 'import os; os.environ.get("OF_ONE")'
  assert.equal((await s.runCode(code, { envs: { OF_ONE: 'this' } })).text, 'this')
  assert.equal((await s.runCode(code)).text, undefined)
})
await step('results: html, markdown, svg, latex, json, javascript, png, jpeg, extra', async () => {
  const r = await s.runCode(`from IPython.display import *
import base64
for o in (HTML('<b>h</b>'), Markdown('# m'), SVG('<svg xmlns="http://www.w3.org/2000/svg"/>'), Latex('$l$'), JSON({'a': [1]}), Javascript('1'),
          Image(data=b'\\x89PNG\\r\\n\\x1a\\n', format='png'), Image(data=b'\\xff\\xd8\\xff', format='jpeg')): display(o)
display({'text/plain': 'p', 'application/x-other': 'o'}, raw=True)`)
  assert.equal(r.error, undefined)
  const [html, markdown, svg, latex, json, javascript, png, jpeg, other] = r.results
  assert.deepEqual([html.html, markdown.markdown, latex.latex, json.json, javascript.javascript], ['<b>h</b>', '# m', '$l$', { a: [1] }, '1'])
  assert.match(svg.svg, /^<svg/)
  assert.deepEqual([png.png, jpeg.jpeg, other.extra], ['iVBORw0KGgo=', '/9j/', { 'application/x-other': 'o' }])
  assert(r.results.every((x) => !x.isMainResult))
})
const hasPlots = (await s.runCode('import matplotlib, pandas')).error === undefined
if (hasPlots) {
  await step('results: charts', async () => {
    const chart = async (code) => {
      const r = await s.runCode(`import matplotlib.pyplot as plt\n${code}\nplt.show()`)
      assert.equal(r.error, undefined, r.error?.traceback)
      const shown = r.results.find((x) => x.png)
      assert.match(shown.png, /^iVBOR/)
      return shown.chart
    }
    const line = await chart('plt.plot([1, 2, 3], [4, 5, 6], label="a"); plt.title("T"); plt.xlabel("time (s)")')
    assert.deepEqual([line.type, line.title, line.x_label, line.x_unit, line.elements], ['line', 'T', 'time (s)', 's', [{ label: 'a', points: [[1, 4], [2, 5], [3, 6]] }]])
    assert.deepEqual((await chart('plt.bar(["p", "q"], [3, 4])')).elements.map((e) => [e.label, e.value]), [['p', 3], ['q', 4]])
    assert.deepEqual((await chart('plt.barh(["p", "q"], [3, 4])')).elements.map((e) => [e.label, e.value]), [['p', 3], ['q', 4]])
    assert.deepEqual((await chart('plt.pie([1, 3], labels=["p", "q"])')).elements.map((e) => [e.label, e.angle]), [['p', 90], ['q', 270]])
    assert.deepEqual((await chart('plt.scatter([1, 2], [3, 4])')).elements[0].points, [[1, 3], [2, 4]])
    const box = (await chart('plt.boxplot([[1, 2, 3, 4, 10]])')).elements[0]
    assert.deepEqual([box.min, box.first_quartile, box.median, box.third_quartile, box.max, box.outliers], [1, 2, 3, 4, 4, [10]])
    const both = await chart('import datetime\nf, (a, b) = plt.subplots(1, 2); f.suptitle("S")\na.plot([datetime.date(2020, 1, 1)], [1]); b.semilogy([1, 2], [1, 10])')
    assert.deepEqual([both.type, both.title, both.elements[0].x_scale, both.elements[1].y_scale], ['superchart', 'S', 'datetime', 'log'])
  })
  await step('results: tables', async () => {
    const r = await s.runCode('import pandas\npandas.DataFrame({"a": [1, 2], "b": ["x", None]})')
    assert.deepEqual(r.results[0].data, { a: [1, 2], b: ['x', null] })
    assert.match(r.results[0].html, /<table/)
  })
} else {
  console.log('results: charts, tables\tnone')
}
await step('runCode (language)', () => refused(s.runCode('1', { language: 'javascript' }), /400/))
await step('contexts', async () => {
  const c = await s.createCodeContext({ cwd: '/workspace' })
  assert.deepEqual([c.language, c.cwd], ['python', '/workspace'])
  assert.equal((await s.runCode('import os; open("made", "w").write("x"); os.getcwd()', { context: c })).text, '/workspace')
  assert.equal((await s.runCode('"x" in globals()', { context: c })).text, 'False')
  assert((await s.listCodeContexts()).some((o) => o.id === c.id))
  await s.runCode('y = 1', { context: c })
  await s.restartCodeContext(c)
  assert.equal((await s.runCode('"y" in globals()', { context: c })).text, 'False')
  await s.removeCodeContext(c)
  await refused(s.runCode('1', { context: c }), /not found/)
  await refused(s.createCodeContext({ cwd: '/nowhere' }), /400/)
  assert.equal(await s.files.read('/workspace/made'), 'x')
})
await step('runCode (timeoutMs) interrupts', async () => {
  await refused(s.runCode('import time\nfor _ in range(600): time.sleep(0.1)', { timeoutMs: 1500 }), /[Tt]imeout/)
  assert.equal((await s.runCode('x', { timeoutMs: 60_000 })).text, '21')
})
await step('a dead kernel says so', async () => {
  const r = await s.runCode('import os; os._exit(1)')
  assert.equal(r.error.name, 'KernelDied')
  assert.equal((await s.runCode('"x" in globals()')).text, 'False')
})
await step('pause, connect', async () => {
  await s.runCode('z = 7')
  await s.pause()
  await s.connect()
  assert.equal((await s.runCode('z')).text, '7')
})
await step('the sandbox dies', async () => {
  const running = refused(s.runCode('import time; time.sleep(60)'), /./)
  await new Promise((r) => setTimeout(r, 500))
  await s.kill()
  await running
  await refused(s.runCode('1'), /not found|[Tt]imeout/)
})
const plain = await Sandbox.create('mini', { timeoutMs: 60_000 })
await step('a template without it', () => refused(plain.runCode('1'), /501/))
await plain.kill()
process.exit(bad ? 1 : 0)
