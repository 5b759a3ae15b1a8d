// SPDX-License-Identifier: Apache-2.0
// Paced requests over keep-alive connections, to see latency below saturation.
// Usage: latency-client.ts HOST PORT CONNECTIONS REQUESTS_PER_SECOND SECONDS; prints {p50, p99, sent} in microseconds.
// Requests are sent by schedule, and latency counts from the scheduled time, so that a stall is not hidden.

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { quantile } from './statistics.ts'

const [host = '', port = '', connectionCount = '', requestRate = '', seconds = ''] =
  process.argv.slice(2)
const REQUEST = `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`
const END_OF_HEAD = '\r\n\r\n'
/** How often the schedule is looked at. Milliseconds. */
const TICK_MS = 1
/** Latencies of the first part warm caches and pools and are left out. */
const WARM_UP_SHARE = 0.2

const latencies: number[] = []

/** Runs one connection: a request is due every `intervalUs`; answers come in order. */
async function runConnection(socket: Socket, intervalUs: number, endAt: number): Promise<void> {
  const due: number[] = []
  let pending = ''
  let next = performance.now() * 1000 + Math.random() * intervalUs
  socket.setNoDelay(true)
  socket.setEncoding('latin1')
  socket.on('data', (chunk: string) => {
    pending += chunk
    for (;;) {
      const head = pending.indexOf(END_OF_HEAD)
      if (head < 0) return
      const length = Number(/content-length: (\d+)/i.exec(pending.slice(0, head))?.[1] ?? '0')
      const end = head + END_OF_HEAD.length + length
      if (pending.length < end) return
      pending = pending.slice(end)
      const sentAt = due.shift()
      if (sentAt !== undefined) latencies.push(performance.now() * 1000 - sentAt)
    }
  })
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const now = performance.now() * 1000
      while (next <= now) {
        due.push(next)
        socket.write(REQUEST)
        next += intervalUs
      }
      if (now >= endAt) {
        clearInterval(timer)
        resolve()
      }
    }, TICK_MS)
  })
  socket.destroy()
}

const count = Number(connectionCount)
const intervalUs = (1e6 * count) / Number(requestRate)
const endAt = performance.now() * 1000 + Number(seconds) * 1e6
const sockets = await Promise.all(
  Array.from({ length: count }, async () => {
    const socket = connect({ host, port: Number(port) })
    await once(socket, 'connect')
    return socket
  }),
)
await Promise.all(sockets.map((socket) => runConnection(socket, intervalUs, endAt)))
const steady = latencies.slice(Math.floor(latencies.length * WARM_UP_SHARE))
console.log(
  JSON.stringify({
    p50: Math.round(quantile(steady, 0.5)),
    p99: Math.round(quantile(steady, 0.99)),
    sent: latencies.length,
  }),
)
