// SPDX-License-Identifier: Apache-2.0
// What two agents of one node say to each other: a line of JSON each, over a Unix socket that root alone can open. They are of one version, or
// of two that follow one another, either of which may be the successor: whatever is new here has to do without an answer from the other one.

import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { parseJson } from '../../mesh/json.ts'
import type { PodUid, SpiffeId } from '../../mesh/model/types.ts'

/** Of these words: another one where they mean something else. Then neither hands the node to the other, and its predecessor has to end first. */
export const PROTOCOL = 1

/** A pod that is served, and who it is. */
export interface IdentifiedPod {
  readonly uid: PodUid
  readonly identity: SpiffeId
}

/** The successor: it begins. */
export interface Hello {
  readonly kind: 'hello'
  readonly protocol: number
  readonly version: string
  /** It takes the ports with the node. Earlier versions want them at once. */
  readonly waitsForPorts?: boolean
}

export type Message =
  | Hello
  /** The predecessor: whose certificates will be wanted. */
  | {
      readonly kind: 'offer'
      readonly version: string
      /** It has the ports until the node is taken. Else they are free. */
      readonly keepsPorts?: boolean
      readonly identities: readonly SpiffeId[]
      /** Of these, the ones that it has certificates for; earlier versions did not say it. */
      readonly certified?: readonly SpiffeId[]
      /** Whose they are, for who asks for certificates by pods; earlier versions did not say it. */
      readonly pods?: readonly IdentifiedPod[]
      /** It can be asked again; earlier versions do not answer to that. */
      readonly tellsAgain?: boolean
    }
  /** The predecessor: not now. */
  | { readonly kind: 'busy'; readonly reason: string }
  /** The successor: what would be offered now? It may have taken a while to get ready. */
  | { readonly kind: 'again' }
  /** The successor: what comes from now on is its own. */
  | { readonly kind: 'taken' }
  /** The successor: it comes to nothing, and may have begun with the pods. */
  | { readonly kind: 'failed' }
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
  'again',
  'taken',
  'failed',
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

  /** The next message; undefined when there is none any more, or what came is none. Kinds that only a later version knows are passed over. */
  async receive(): Promise<Message | undefined> {
    for (;;) {
      const line = await this.#lines.next()
      if (line.done === true) return undefined
      const value = parse(line.value)
      if (!isOfUnknownKind(value)) return isMessage(value) ? value : undefined
    }
  }

  /** Lets what was sent go out, and closes. */
  end(): void {
    this.#socket.destroySoon()
  }
}

function parse(line: string): unknown {
  const parsed = parseJson(line)
  return parsed.ok ? parsed.value : undefined
}

function isOfUnknownKind(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return false
  return typeof value.kind === 'string' && !KINDS.has(value.kind)
}

function isMessage(value: unknown): value is Message {
  if (typeof value !== 'object' || value === null) return false
  const {
    kind,
    identities,
    certified = [],
    pods = [],
    keepsPorts = false,
    tellsAgain = false,
  } = value as Readonly<Record<string, unknown>>
  if (typeof kind !== 'string' || !KINDS.has(kind)) return false
  if (kind !== 'offer') return true
  return (
    typeof keepsPorts === 'boolean' &&
    typeof tellsAgain === 'boolean' &&
    isListOfStrings(identities) &&
    isListOfStrings(certified) &&
    Array.isArray(pods) &&
    pods.every(isIdentifiedPod)
  )
}

function isListOfStrings(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === 'string')
}

function isIdentifiedPod(value: unknown): value is IdentifiedPod {
  if (typeof value !== 'object' || value === null) return false
  const { uid, identity } = value as Readonly<Record<string, unknown>>
  return typeof uid === 'string' && typeof identity === 'string'
}
