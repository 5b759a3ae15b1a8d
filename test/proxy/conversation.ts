// SPDX-License-Identifier: Apache-2.0
// What apps say to one another in the stories of the data plane.

import { once } from 'node:events'
import type { Socket } from 'node:net'

/** An app that answers with its caller's address and ends. */
export const tellCaller = (socket: Socket): void => {
  socket.once('data', () => socket.end(`you are ${socket.remoteAddress}`))
}

/** Says something, ends, and gives what is answered. */
export async function talk(socket: Socket, text: string): Promise<string> {
  let answer = ''
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString()
  })
  socket.end(text)
  await once(socket, 'end')
  return answer
}

/** The error that a connection is ended with. */
export async function resetOf(socket: Socket): Promise<string | undefined> {
  if (socket.errored !== null) return (socket.errored as NodeJS.ErrnoException).code
  let sawEnd = false
  socket.on('end', () => {
    sawEnd = true
  })
  socket.resume()
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  return sawEnd ? 'ended first' : error.code
}
