// SPDX-License-Identifier: Apache-2.0
// Streams of words for pods of a lab. `serve` gives every byte back while it comes: TCP, HTTP/1.1 and HTTP/2 at the ports of WORD_PORTS.
// `hold KIND HOST` opens one stream and says a word on it; for a line "say WORD" on stdin it says that, and "heard WORD" when it is back, "end" ends its
// direction. Prints "goaway" when the far side of HTTP/2 says so, and at last how the stream ended: `whole`, or by which error.

import { once } from 'node:events'
import {
  connect as connectHttp2,
  createServer as createHttp2,
  type ServerHttp2Stream,
} from 'node:http2'
import { createServer, request } from 'node:http'
import { connect, createServer as createTcp } from 'node:net'
import { createInterface } from 'node:readline'
import type { Duplex, Readable, Writable } from 'node:stream'
import { WORD_PORTS } from './ports.ts'

export type StreamKind = keyof typeof WORD_PORTS

/** What `hold` prints at the end. */
export interface StreamEnd {
  readonly end: string
}

function serve(): void {
  const dropped = (): void => undefined
  // An error of either stream is the client's to see.
  const echo = (from: Readable, to: Writable): void => {
    from.on('error', dropped)
    to.on('error', dropped)
    from.pipe(to)
  }
  const http = createServer((asked, answer) => {
    answer.flushHeaders()
    echo(asked, answer)
  })
  http.requestTimeout = 0
  http.listen(WORD_PORTS.http1, '::')
  const http2 = createHttp2()
  http2.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 })
    echo(stream, stream)
  })
  http2.listen(WORD_PORTS.http2, '::')
  createTcp({ allowHalfOpen: true }, (socket) => echo(socket, socket)).listen(WORD_PORTS.tcp, '::')
}

/** Where words are said, and where they are heard. */
interface Held {
  readonly say: Writable
  readonly hear: Promise<Readable>
}

function open(kind: StreamKind, host: string): Held {
  const port = WORD_PORTS[kind]
  switch (kind) {
    case 'tcp': {
      const socket = connect({ host, port, allowHalfOpen: true })
      return { say: socket, hear: Promise.resolve(socket) }
    }
    case 'http1': {
      const asked = request({ host, port, method: 'POST' })
      const answered = once(asked, 'response') as Promise<[Readable]>
      return { say: asked, hear: answered.then(([answer]) => answer) }
    }
    case 'http2': {
      const session = connectHttp2(`http://${host}:${port}`)
      session.on('goaway', () => console.log('goaway'))
      const stream = session.request({ ':method': 'POST', ':path': '/' })
      stream.on('close', () => session.close())
      return { say: stream, hear: Promise.resolve<Duplex>(stream) }
    }
  }
}

async function hold(kind: StreamKind, host: string): Promise<void> {
  const { say, hear } = open(kind, host)
  const awaited = new Set<string>()
  let last = ''
  let isEnded = false
  const over = (end: string): void => {
    if (isEnded) return
    isEnded = true
    const told: StreamEnd = { end }
    console.log(JSON.stringify(told))
    commands.close()
  }
  const failed = (error: NodeJS.ErrnoException): void => over(error.code ?? error.message)
  say.on('error', failed)
  const commands = createInterface({ input: process.stdin })
  commands.on('line', (line) => {
    const [command, word = ''] = line.split(' ')
    if (command === 'end') {
      say.end()
      return
    }
    awaited.add(word)
    say.write(`${word}\n`)
  })
  awaited.add('first')
  say.write('first\n')
  const heard = await hear
  heard.on('error', failed)
  heard.setEncoding('utf8').on('data', (text: string) => {
    const words = `${last}${text}`.split('\n')
    last = words.pop() ?? ''
    for (const word of words) if (awaited.delete(word)) console.log(`heard ${word}`)
  })
  heard.on('end', () => over(awaited.size === 0 ? 'whole' : 'too early'))
}

const [what, kind, host = ''] = process.argv.slice(2)
if (what === 'serve') serve()
else if (kind === 'tcp' || kind === 'http1' || kind === 'http2') await hold(kind, host)
else throw new Error('usage: words.ts serve | hold tcp|http1|http2 HOST')
