// SPDX-License-Identifier: Apache-2.0
// The agent that ran on this node before, as its successor sees it: it goes on serving until the successor can take over.

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { AmbitError } from '../../mesh/errors.ts'
import { inTime, LATE } from '../../mesh/async/deadline.ts'
import { parseSpiffeId, spiffeId } from '../../mesh/identity/spiffe.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { Channel, type IdentifiedPod, PROTOCOL } from './channel.ts'

/**
 * An answer takes an agent milliseconds, and longer on a node that is starved, where its workers serve all the same. One that hangs has been
 * ended by then by the kubelet, whose probes of its life give it 35 s (daemonset/chart).
 */
const ANSWER_MS = 40_000

/** Enrolling a node's pods anew takes it less; an earlier version only hears that the channel is closed. */
const TAKE_BACK_MS = 2_000

/** What it has told of itself. */
export interface Offer {
  readonly identities: readonly SpiffeId[]
  readonly certified?: readonly SpiffeId[]
  readonly pods?: readonly IdentifiedPod[]
  readonly keepsPorts?: boolean
  readonly tellsAgain?: boolean
}

export class Predecessor {
  readonly #trustDomain: string
  #offer: Offer
  /** Its ports are free when it has been told that the node is taken, or is gone, and not before. */
  readonly keepsPorts: boolean
  /** Aborts when it is there no longer. */
  readonly gone: AbortSignal
  readonly #channel: Channel

  /** `trustDomain`: of the agent that comes after it. */
  constructor(channel: Channel, offer: Offer, trustDomain: string) {
    this.#channel = channel
    this.#trustDomain = trustDomain
    this.#offer = offer
    this.keepsPorts = offer.keepsPorts === true
    const gone = new AbortController()
    this.gone = gone.signal
    void channel.closed.then(() => gone.abort())
  }

  /** Identities that the pods which it serves have with this agent, as it told last. */
  get identities(): readonly SpiffeId[] {
    return this.#offer.identities.map((identity) => this.#here(identity))
  }

  /** Of these, the ones that it has certificates for: whoever takes over without one serves worse than it does. */
  get certified(): readonly SpiffeId[] {
    const { identities, certified = identities } = this.#offer
    return certified.map((identity) => this.#here(identity))
  }

  /** Those pods; none where it is too old to say. */
  get pods(): readonly IdentifiedPod[] {
    const { pods = [] } = this.#offer
    return pods.map(({ uid, identity }) => ({ uid, identity: this.#here(identity) }))
  }

  /** The mesh may have got another name. */
  #here(identity: SpiffeId): SpiffeId {
    const parts = parseSpiffeId(identity)
    return parts === undefined ? identity : spiffeId({ ...parts, trustDomain: this.#trustDomain })
  }

  /** Has it tell anew what it serves. False where it is too old for that, or gone. */
  async tellAgain(): Promise<boolean> {
    if (this.#offer.tellsAgain !== true) return false
    this.#channel.send({ kind: 'again' })
    const answer = await this.#channel.receive()
    if (answer?.kind !== 'offer') return false
    this.#offer = answer
    return true
  }

  /** Tells it that the node is taken; resolves when it has let go of it, or is gone. */
  async taken(): Promise<void> {
    this.#channel.send({ kind: 'taken' })
    await this.#channel.receive()
    this.#channel.end()
  }

  /** Leaves the pods to it, which this agent may have begun with; resolves when it has them, or is gone, or does not say so. */
  async takesBack(): Promise<void> {
    this.#channel.send({ kind: 'failed' })
    await inTime(this.#channel.closed, TAKE_BACK_MS)
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
  readonly trustDomain: string
  readonly log: Logger
}

/**
 * Tells the agent that is in charge of the node that this one is to follow it; undefined where none is, or it cannot be talked to. Throws AMB_HANDOVER
 * where it is handing over to another already.
 */
export async function meetPredecessor({
  socketPath,
  version,
  trustDomain,
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
    return new Predecessor(channel, answer, trustDomain)
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
