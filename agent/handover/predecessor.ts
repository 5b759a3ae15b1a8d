// SPDX-License-Identifier: Apache-2.0
// The agent that ran on this node before, as its successor sees it: it goes on serving until the successor can take over.

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { AmbitError } from '../../mesh/errors.ts'
import { inTime, LATE } from '../../mesh/async/deadline.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { Channel, type IdentifiedPod, PROTOCOL } from './channel.ts'

/** An answer takes an agent milliseconds. One that hangs is not waited for. */
const ANSWER_MS = 5_000

/** What it has told of itself. */
export interface Offer {
  readonly identities: readonly SpiffeId[]
  readonly certified?: readonly SpiffeId[]
  readonly pods?: readonly IdentifiedPod[]
  readonly keepsPorts?: boolean
}

export class Predecessor {
  /** Identities of the pods that it serves. */
  readonly identities: readonly SpiffeId[]
  /** Of these, the ones that it has certificates for: whoever takes over without one serves worse than it does. */
  readonly certified: readonly SpiffeId[]
  /** Those pods; none where it is too old to say. */
  readonly pods: readonly IdentifiedPod[]
  /** Its ports are free when it has been told that the node is taken, or is gone, and not before. */
  readonly keepsPorts: boolean
  /** Aborts when it is there no longer. */
  readonly gone: AbortSignal
  readonly #channel: Channel

  constructor(
    channel: Channel,
    { identities, certified = identities, pods = [], keepsPorts = false }: Offer,
  ) {
    this.#channel = channel
    this.identities = identities
    this.certified = certified
    this.pods = pods
    this.keepsPorts = keepsPorts
    const gone = new AbortController()
    this.gone = gone.signal
    void channel.closed.then(() => gone.abort())
  }

  /** Tells it that the node is taken; resolves when it has let go of it, or is gone. */
  async taken(): Promise<void> {
    this.#channel.send({ kind: 'taken' })
    await this.#channel.receive()
    this.#channel.end()
  }

  /** Leaves the node to it. */
  leave(): void {
    this.#channel.end()
  }
}

export interface MeetOptions {
  readonly socketPath: string
  readonly version: string
  readonly log: Logger
}

/**
 * Tells the agent that is in charge of the node that this one is to follow it; undefined where none is, or it cannot be talked to. Throws AMB_HANDOVER
 * where it is handing over to another already.
 */
export async function meetPredecessor({
  socketPath,
  version,
  log,
}: MeetOptions): Promise<Predecessor | undefined> {
  const socket = await dial(socketPath)
  if (socket === undefined) return undefined
  const channel = new Channel(socket)
  channel.send({ kind: 'hello', protocol: PROTOCOL, version, waitsForPorts: true })
  const answer = await inTime(channel.receive(), ANSWER_MS)
  if (answer !== LATE && answer?.kind === 'offer') {
    log.info(
      { version: answer.version, identities: answer.identities.length },
      'another agent serves this node: it goes on until this one can take over',
    )
    return new Predecessor(channel, answer)
  }
  channel.end()
  if (answer !== LATE && answer?.kind === 'busy')
    throw new AmbitError(
      'AMB_HANDOVER',
      `The agent in charge of this node does not hand it over: ${answer.reason}`,
    )
  log.warn(
    { socketPath },
    'an agent is in charge of this node and does not answer: this one takes the node over without it',
  )
  return undefined
}

/** A connection to whoever is in charge; undefined when nobody is. */
export async function dial(socketPath: string): Promise<Socket | undefined> {
  const socket = connect({ path: socketPath })
  try {
    await once(socket, 'connect')
    return socket
  } catch {
    // No socket, or one that nobody listens on any more: either way there is nobody.
    return undefined
  }
}
