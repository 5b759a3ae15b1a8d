// SPDX-License-Identifier: Apache-2.0
// Port forwarding by the channel protocol, which client libraries speak: one connection for each WebSocket, channel 0 for its bytes
// and 1 for what went wrong; the first message of each repeats the port, low byte first.

import type { Result } from '../../../../../mesh/result.ts'
import { relayCommand } from '../../../objects/relay-command.ts'
import type { ExecSession } from '../pod-runtime.ts'
import type { WebSocketConnection } from './websocket.ts'

export const FORWARD_CHANNELS_PROTOCOL = 'v4.channel.k8s.io'

const CHANNEL = { data: 0, error: 1 } as const

/** Serves one connection to the port of the pod; `run` starts a command in it. */
export async function forwardPort(
  connection: WebSocketConnection,
  port: number | undefined,
  run: (command: readonly string[]) => Promise<Result<ExecSession, string>>,
): Promise<void> {
  const send = (channel: number, payload: Buffer): boolean =>
    connection.send(Buffer.concat([Buffer.from([channel]), payload]))
  // What comes before the process is there.
  const early: Buffer[] = []
  connection.onMessage = (message) => early.push(message)
  if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65_535)
    return connection.close(1008)
  for (const channel of [CHANNEL.data, CHANNEL.error])
    send(channel, Buffer.from([port & 0xff, port >> 8]))
  const started = await run(relayCommand(port))
  if (!started.ok || started.value.stdin === undefined) {
    send(CHANNEL.error, Buffer.from(started.ok ? 'the process has no stdin' : started.error))
    return connection.close()
  }
  const { stdin, stdout, stderr, exit, kill } = started.value
  stdin.on('error', () => undefined) // it has ended: its exit says the rest
  stdin.on('drain', () => connection.pause(false))
  connection.onMessage = (message) => {
    if (message[0] === CHANNEL.data && stdin.writable && !stdin.write(message.subarray(1)))
      connection.pause(true)
  }
  for (const message of early) connection.onMessage(message)
  connection.onClose = kill
  let said = ''
  stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-1_000)
  })
  for await (const data of stdout as AsyncIterable<Buffer>)
    if (!send(CHANNEL.data, data)) await connection.drained()
  const ended = await exit
  if (ended.kind !== 'exited' || ended.code !== 0)
    send(
      CHANNEL.error,
      Buffer.from(`failed to connect to localhost:${port} inside the pod: ${said.trim()}`),
    )
  connection.close()
}
