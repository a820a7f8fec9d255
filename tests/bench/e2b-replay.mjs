// SPDX-License-Identifier: Apache-2.0
// A server that knows one answer, for tests/bench/e2b.py: the first answer of a path goes through to BENCH_TO and is kept, each later
// one is sent at once. A program that asks it the same again waits for its own client and for nothing else. Prints its port.
import { createServer, request } from 'node:http'

const to = new URL(process.env.BENCH_TO)
const kept = new Map()
const server = createServer((ask, reply) => {
  const parts = []
  ask.on('data', (part) => parts.push(part))
  ask.on('end', () => {
    const answer = kept.get(ask.url)
    if (answer) return reply.writeHead(answer.status, answer.headers).end(answer.body)
    const { host, ...headers } = ask.headers
    const through = request({ host: to.hostname, port: to.port, method: ask.method, path: ask.url, headers }, (got) => {
      const body = []
      got.on('data', (part) => body.push(part))
      got.on('end', () => {
        const { 'transfer-encoding': chunked, connection, ...rest } = got.headers
        kept.set(ask.url, { status: got.statusCode, headers: rest, body: Buffer.concat(body) })
        reply.writeHead(got.statusCode, rest).end(Buffer.concat(body))
      })
    })
    through.end(Buffer.concat(parts))
  })
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
