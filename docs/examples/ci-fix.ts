// SPDX-License-Identifier: Apache-2.0
// A spawner that has a failed CI run mended: a sandbox with the repository in /workspace/repo, an agent's command in it, and what that said.
// Nothing here knows berth; the SDK is E2B's. What the agent made is on the mount afterwards, below the sandbox's id.
//
//   REPO_URL=… GITHUB_TOKEN=… CI_RUN_ID=… node ci-fix.js 'agent fix --run "$CI_RUN_ID"'
//
// REPO_URL may be a directory of this machine: then the repository is sent in one piece. The token is given to the clone and to the
// agent's command alone, not to the sandbox.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CommandExitError, Sandbox } from 'e2b'

export interface Job {
  repoUrl: string
  token?: string
  runId: string
  command: string
  template?: string
  timeoutMs?: number
}

export interface Outcome {
  sandboxId: string
  stdout: string
  stderr: string
  exitCode: number
}

const REPO = '/workspace/repo'

async function run(sandbox: Sandbox, command: string, envs: Record<string, string>, cwd?: string, timeoutMs?: number) {
  try {
    return await sandbox.commands.run(command, { envs, cwd, timeoutMs })
  } catch (e) {
    if (e instanceof CommandExitError) return e
    throw e
  }
}

async function clone(sandbox: Sandbox, job: Job) {
  let from = job.repoUrl
  if (existsSync(from)) {
    const bundle = join(tmpdir(), `ci-fix-${process.pid}-${sandbox.sandboxId}.bundle`)
    try {
      execFileSync('git', ['-C', from, 'bundle', 'create', '--quiet', bundle, '--all', 'HEAD'])
      const bytes = readFileSync(bundle)
      from = '/tmp/repo.bundle'
      await sandbox.files.write(from, new Blob([new Uint8Array(bytes)]))
    } finally {
      rmSync(bundle, { force: true })
    }
  }
  // The token is an environment variable of this one command: in the address it would stay in .git/config.
  const helper = '!f() { echo username=x-access-token; echo "password=$GITHUB_TOKEN"; }; f'
  const how = job.token ? `-c credential.helper='${helper}'` : ''
  const done = await run(sandbox, `git ${how} clone --quiet "$REPO_URL" ${REPO}`,
    { REPO_URL: from, GIT_TERMINAL_PROMPT: '0', ...(job.token ? { GITHUB_TOKEN: job.token } : {}) }, '/workspace', job.timeoutMs)
  if (done.exitCode !== 0) throw new Error(`the clone failed: ${done.stderr}`)
}

export async function ciFix(job: Job): Promise<Outcome> {
  const timeoutMs = job.timeoutMs ?? 600_000
  const sandbox = await Sandbox.create(job.template ?? 'base', {
    timeoutMs: timeoutMs + 60_000,
    metadata: { job: 'ci-fix', run: job.runId },
    envs: { REPO_URL: job.repoUrl, CI_RUN_ID: job.runId },
  })
  try {
    await clone(sandbox, job)
    const { stdout, stderr, exitCode } = await run(sandbox, job.command, job.token ? { GITHUB_TOKEN: job.token } : {}, REPO, timeoutMs)
    return { sandboxId: sandbox.sandboxId, stdout, stderr, exitCode }
  } finally {
    await sandbox.kill()
  }
}

if (process.argv[1]?.endsWith('ci-fix.js')) {
  const { REPO_URL, GITHUB_TOKEN, CI_RUN_ID } = process.env
  const command = process.argv[2]
  if (!REPO_URL || !CI_RUN_ID || !command) {
    console.error("usage: REPO_URL=… CI_RUN_ID=… [GITHUB_TOKEN=…] node ci-fix.js 'COMMAND'")
    process.exit(2)
  }
  const outcome = await ciFix({ repoUrl: REPO_URL, token: GITHUB_TOKEN, runId: CI_RUN_ID, command })
  console.log(JSON.stringify(outcome, null, 2))
  process.exitCode = outcome.exitCode
}
