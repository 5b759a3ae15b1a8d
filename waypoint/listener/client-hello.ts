// SPDX-License-Identifier: Apache-2.0
// The name that a client of TLS asks for (SNI), read from its first message without taking part in the handshake. Pure.

export type FirstOfTls =
  | { readonly kind: 'notTls' }
  /** In lower case; undefined: it asks for none, or `isOdd`: for one that is no host name, of which nobody knows what a server makes. */
  | { readonly kind: 'tls'; readonly serverName: string | undefined; readonly isOdd: boolean }

/** A ClientHello with post-quantum key shares has some 2 KiB; one that is longer than this is none that an app would send. */
export const LONGEST_HELLO = 16 * 1024

/** RFC 8446 5.1 and 4. */
const HANDSHAKE = 22
const CLIENT_HELLO = 1
const RECORD_HEADER = 5
const LONGEST_RECORD = 16_384
const MESSAGE_HEADER = 4
const RANDOM = 2 + 32
/** RFC 6066 3. */
const SERVER_NAME = 0
const HOST_NAME = 0
const NAME = /^[a-z0-9_](?:[a-z0-9_.-]{0,253}[a-z0-9_])?$/
/** No name of a host. */
const SEVERAL = ''
const NOT_TLS: FirstOfTls = { kind: 'notTls' }

/** Whether a client's first bytes can be those of TLS: a handshake, of whatever version there has been. */
export function beginsTls(bytes: Buffer): boolean {
  return bytes[0] === HANDSHAKE && bytes[1] === 3
}

/**
 * What policies may believe of the name: empty where the client certainly opens no TLS, or asks for none; undefined where nobody can tell, as
 * while it has said nothing, or too little.
 */
export function certainName(bytes: Buffer): string | undefined {
  const first = readClientHello(bytes, false)
  switch (first?.kind) {
    case undefined:
      return undefined
    case 'notTls':
      return ''
    case 'tls':
      return first.isOdd ? undefined : (first.serverName ?? '')
  }
}

/** Reads the beginning of a client's bytes; undefined when more of them are needed to say. `isAll`: no more will be seen. */
export function readClientHello(bytes: Buffer, isAll: boolean): FirstOfTls | undefined {
  const message = handshakeOf(bytes)
  if (message === undefined) return NOT_TLS
  const unfinished = isAll ? NOT_TLS : undefined
  if (message.length < MESSAGE_HEADER) return unfinished
  const length = message.readUIntBE(1, 3)
  if (message[0] !== CLIENT_HELLO || length > LONGEST_HELLO) return NOT_TLS
  if (message.length < MESSAGE_HEADER + length) return unfinished
  const reader = new Reader(message.subarray(MESSAGE_HEADER, MESSAGE_HEADER + length))
  const name = serverNameOf(reader)
  const isOdd = name !== undefined && !NAME.test(name)
  return { kind: 'tls', serverName: isOdd ? undefined : name, isOdd }
}

/** What there is of the first handshake message, out of its records; undefined where these are no records of a handshake. */
function handshakeOf(bytes: Buffer): Buffer | undefined {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] !== HANDSHAKE || (bytes[at + 1] ?? 3) !== 3) return undefined
    if (bytes.length < at + RECORD_HEADER) break
    const length = bytes.readUInt16BE(at + 3)
    // RFC 8446 5.1: none is empty.
    if (length === 0 || length > LONGEST_RECORD) return undefined
    const start = at + RECORD_HEADER
    parts.push(bytes.subarray(start, start + length))
    at = start + length
    // What follows the message is no concern of ours, and need not be a handshake.
    const message = Buffer.concat(parts)
    if (
      message.length >= MESSAGE_HEADER &&
      message.length >= MESSAGE_HEADER + message.readUIntBE(1, 3)
    )
      return message
  }
  return Buffer.concat(parts)
}

/** RFC 8446 4.1.2. */
function serverNameOf(hello: Reader): string | undefined {
  hello.skip(RANDOM)
  hello.block(1) // legacy_session_id
  hello.block(2) // cipher_suites
  hello.block(1) // legacy_compression_methods
  const extensions = hello.block(2)
  let found: string | undefined
  while (!extensions.isEmpty) {
    const type = extensions.number(2)
    const body = extensions.block(2)
    if (type !== SERVER_NAME) continue
    const names = body.block(2)
    while (!names.isEmpty) {
      const kind = names.number(1)
      const name = names.block(2).text().toLowerCase()
      // RFC 6066 3, RFC 8446 4.2: there is one, in one extension. Of several nobody knows which counts.
      if (kind === HOST_NAME) found = found === undefined ? name : SEVERAL
    }
  }
  return found
}

/** Never reads beyond its end: what is not there is zero, or empty. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isEmpty(): boolean {
    return this.#at >= this.#bytes.length
  }

  skip(length: number): void {
    this.#at += length
  }

  number(length: number): number {
    const from = this.#at
    this.#at += length
    return this.#at > this.#bytes.length ? 0 : this.#bytes.readUIntBE(from, length)
  }

  /** What a length of so many bytes stands before. */
  block(lengthBytes: number): Reader {
    const length = this.number(lengthBytes)
    const from = this.#at
    this.#at += length
    return new Reader(this.#bytes.subarray(from, this.#at))
  }

  text(): string {
    return this.#bytes.toString('latin1')
  }
}
