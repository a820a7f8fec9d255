// SPDX-License-Identifier: Apache-2.0
// Five reviewers at a time, each in a sandbox of its own with the same files and a question of its own; each leaves its words in
// /workspace/review.md, which stays on the mount when its sandbox is gone.
//
//   node code-review.js DIRECTORY 'COMMAND'        the command finds the files in /workspace/src and its question in $QUESTION
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { Sandbox } from 'e2b'

export const QUESTIONS = ['correctness', 'security', 'performance', 'tests', 'names']

export interface Review {
  question: string
  sandboxId: string
  words: string
  failed?: string
}

function filesBelow(dir: string, at = dir): { path: string; data: string }[] {
  return readdirSync(at, { withFileTypes: true }).flatMap((e) => {
    const path = join(at, e.name)
    if (e.isDirectory()) return e.name === '.git' || e.name === 'node_modules' ? [] : filesBelow(dir, path)
    return e.isFile() ? [{ path: `/workspace/src/${relative(dir, path)}`, data: readFileSync(path, 'utf8') }] : []
  })
}

async function reviewOne(question: string, files: { path: string; data: string }[], command: string, template: string): Promise<Review> {
  const sandbox = await Sandbox.create(template, { timeoutMs: 600_000, metadata: { job: 'code-review', question }, envs: { QUESTION: question } })
  try {
    await sandbox.files.write(files)
    const { stdout } = await sandbox.commands.run(command, { cwd: '/workspace/src', timeoutMs: 500_000 })
    await sandbox.files.write('/workspace/review.md', `# ${question}\n\n${stdout}`)
    return { question, sandboxId: sandbox.sandboxId, words: stdout }
  } catch (e) {
    return { question, sandboxId: sandbox.sandboxId, words: '', failed: String(e) }
  } finally {
    await sandbox.kill()
  }
}

export async function codeReview(dir: string, command: string, template = 'base'): Promise<Review[]> {
  const files = filesBelow(dir)
  return Promise.all(QUESTIONS.map((question) => reviewOne(question, files, command, template)))
}

if (process.argv[1]?.endsWith('code-review.js')) {
  const [dir, command] = process.argv.slice(2)
  if (!dir || !command) {
    console.error("usage: node code-review.js DIRECTORY 'COMMAND'")
    process.exit(2)
  }
  const reviews = await codeReview(dir, command)
  console.log(JSON.stringify(reviews, null, 2))
  process.exitCode = reviews.some((r) => r.failed) ? 1 : 0
}
