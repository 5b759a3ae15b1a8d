// SPDX-License-Identifier: Apache-2.0
// What two agents of one node say to each other: a line of JSON each, over a Unix socket that root alone can open.

import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import type { PodUid, SpiffeId } from '../../mesh/model/types.ts'

/** Of these words. An agent that speaks another one starts as if there were none before it. */
export const PROTOCOL = 1

/** A pod that is served, and who it is. */
export interface IdentifiedPod {
  readonly uid: PodUid
  readonly identity: SpiffeId
}

export type Message =
  /** The successor: it begins. */
  | {
      readonly kind: 'hello'
      readonly protocol: number
      readonly version: string
      /** It takes the ports with the node. Earlier versions want them at once. */
      readonly waitsForPorts?: boolean
    }
  /** The predecessor: whose certificates will be wanted. */
  | {
      readonly kind: 'offer'
      readonly version: string
      /** It has the ports until the node is taken. Else they are free. */
      readonly keepsPorts?: boolean
      readonly identities: readonly SpiffeId[]
      /** Whose they are, for who asks for certificates by pods; earlier versions did not say it. */
      readonly pods?: readonly IdentifiedPod[]
    }
  /** The predecessor: not now. */
  | { readonly kind: 'busy'; readonly reason: string }
  /** The successor: what comes from now on is its own. */
  | { readonly kind: 'taken' }
  /** The predecessor: it only serves what it has, and the ports are free. */
  | { readonly kind: 'stoodDown' }
  /** A predecessor, to whoever is in charge: it wants to hear of its end. */
  | { readonly kind: 'follow' }
  | { readonly kind: 'following' }
  /** Whoever is in charge ends, and leaves the node to others. */
  | { readonly kind: 'ending' }

const KINDS: ReadonlySet<string> = new Set<Message['kind']>([
  'hello',
  'offer',
  'busy',
  'taken',
  'stoodDown',
  'follow',
  'following',
  'ending',
])

export class Channel {
  readonly #socket: Socket
  readonly #lines: AsyncIterator<string>
  /** Resolves when the other is gone, or closed it; rejects never. */
  readonly closed: Promise<void>

  constructor(socket: Socket) {
    this.#socket = socket
    const closed = Promise.withResolvers<void>()
    this.closed = closed.promise
    // A broken connection ends like any other: with 'close'.
    socket.on('error', () => undefined)
    socket.on('close', () => closed.resolve())
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]()
  }

  send(message: Message): void {
    if (!this.#socket.destroyed) this.#socket.write(`${JSON.stringify(message)}\n`)
  }

  /** The next message; undefined when there is none any more, or what came is none. */
  async receive(): Promise<Message | undefined> {
    const line = await this.#lines.next()
    return line.done === true ? undefined : parse(line.value)
  }

  /** Lets what was sent go out, and closes. */
  end(): void {
    this.#socket.destroySoon()
  }
}

function parse(line: string): Message | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  return isMessage(value) ? value : undefined
}

function isMessage(value: unknown): value is Message {
  if (typeof value !== 'object' || value === null) return false
  const {
    kind,
    identities,
    pods = [],
    keepsPorts = false,
  } = value as Readonly<Record<string, unknown>>
  if (typeof kind !== 'string' || !KINDS.has(kind)) return false
  if (kind !== 'offer') return true
  return (
    typeof keepsPorts === 'boolean' &&
    Array.isArray(identities) &&
    identities.every((each) => typeof each === 'string') &&
    Array.isArray(pods) &&
    pods.every(isIdentifiedPod)
  )
}

function isIdentifiedPod(value: unknown): value is IdentifiedPod {
  if (typeof value !== 'object' || value === null) return false
  const { uid, identity } = value as Readonly<Record<string, unknown>>
  return typeof uid === 'string' && typeof identity === 'string'
}
