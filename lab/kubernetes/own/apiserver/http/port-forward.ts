// SPDX-License-Identifier: Apache-2.0
// kubectl port-forward: for each connection to the user's port two streams, one for its bytes and one for what goes wrong, joined to a
// process in the pod that connects to the pod's own loopback.

import type { Result } from '../../../../../mesh/result.ts'
import { relayCommand } from '../../../objects/relay-command.ts'
import type { ExecSession } from '../pod-runtime.ts'
import { SpdySession, type SpdyStream } from './spdy.ts'
import type { WebSocketConnection } from './websocket.ts'

/** What kubectl offers (since 1.31) and takes: SPDY inside of the WebSocket. */
export const PORT_FORWARD_PROTOCOL = 'SPDY/3.1+portforward.k8s.io'

const MAX_PORT = 65_535

/** Serves one port forwarding; `run` starts a command in the pod. */
export function forwardPorts(
  connection: WebSocketConnection,
  run: (command: readonly string[]) => Promise<Result<ExecSession, string>>,
): void {
  const session = new SpdySession((bytes) => connection.send(bytes))
  /** By request, until the stream for the bytes comes, too. */
  const errors = new Map<string, SpdyStream>()
  connection.onMessage = (message) => session.receive(message)
  const running = new Set<() => void>()
  connection.onClose = () => {
    session.close()
    for (const kill of running) kill()
  }
  session.onInvalid = () => connection.close(1002)
  session.onStream = (stream) => {
    const request = stream.headers.get('requestid') ?? ''
    if (stream.headers.get('streamtype') === 'error') {
      errors.set(request, stream)
      return
    }
    const error = errors.get(request)
    errors.delete(request)
    void forward(connection, stream, run, running).then((failure) => {
      if (failure !== undefined) error?.write(Buffer.from(failure))
      stream.end()
      error?.end()
    })
  }
}

/** Carries one connection to its end; why it could not be, else undefined. */
async function forward(
  connection: WebSocketConnection,
  stream: SpdyStream,
  run: (command: readonly string[]) => Promise<Result<ExecSession, string>>,
  running: Set<() => void>,
): Promise<string | undefined> {
  const port = Number(stream.headers.get('port'))
  if (!Number.isInteger(port) || port < 1 || port > MAX_PORT)
    return `"${stream.headers.get('port') ?? ''}" is not a port`
  // What comes before the process is there; it need not be much.
  const early: Buffer[] = []
  let hasEnded = false
  stream.onData = (data) => {
    early.push(data)
    connection.pause(true)
  }
  stream.onEnd = () => {
    hasEnded = true
  }
  const started = await run(relayCommand(port))
  connection.pause(false)
  if (!started.ok) return started.error
  const { stdin, stdout, stderr, exit, kill } = started.value
  if (stdin === undefined) return 'the process in the pod has no stdin'
  stdin.on('error', () => undefined) // it has ended: its exit says the rest
  stdin.on('drain', () => connection.pause(false))
  stream.onData = (data) => {
    if (stdin.writable && !stdin.write(data)) connection.pause(true)
  }
  stream.onEnd = () => stdin.end()
  for (const data of early) stream.onData(data)
  if (hasEnded) stream.onEnd()
  running.add(kill)
  let said = ''
  stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-1_000)
  })
  for await (const data of stdout as AsyncIterable<Buffer>)
    if (!stream.write(data)) await connection.drained()
  const ended = await exit
  running.delete(kill)
  connection.pause(false)
  if (ended.kind === 'exited' && ended.code === 0) return undefined
  return `error forwarding port ${port}: failed to connect to localhost:${port} inside the pod: ${said.trim()}`
}
