// SPDX-License-Identifier: Apache-2.0
// How the agent in charge of a node gives it to the one that comes next: it goes on enrolling and serving, and answers at its ports, until the
// successor says that it can, and from then on serves only what it has. So a successor that never can takes nothing from it. Should whoever has the node then end or fail, with nobody coming
// after it, the agent takes the node back.

import { createServer, type Server, type Socket } from 'node:net'
import { delay } from '../../mesh/async/backoff.ts'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { type GiveUpName, listenForRoot } from '../unix-socket.ts'
import { Channel, type Hello, type IdentifiedPod, type Message, PROTOCOL } from './channel.ts'
import { dial } from './predecessor.ts'

/** What the agent does about it. None of them may reject. */
export interface SuccessionHandlers {
  /** Those that are served. */
  readonly pods: () => readonly IdentifiedPod[]
  /** Whether it has a certificate for them. */
  readonly isCertified: (identity: SpiffeId) => boolean
  /** Frees the ports. */
  readonly makeRoom: () => Promise<void>
  /** The successor came to nothing, and had been given the ports: takes them again. */
  readonly stay: () => Promise<void>
  /** It came to nothing, and may have begun with the pods: takes back what it had taken. */
  readonly resume: () => Promise<void>
  /** Another has the node: serves what there is, and nothing new. */
  readonly standDown: () => Promise<void>
  /** Nobody has the node any more: takes it, and the ports. */
  readonly takeBack: () => Promise<void>
}

export interface SuccessionOptions {
  readonly socketPath: string
  readonly version: string
  readonly handlers: SuccessionHandlers
  readonly log: Logger
  /** How long nobody may have the node before it is taken back; tests pass their own. Milliseconds. */
  readonly patienceMs?: number
}

/** A successor that failed is started again within this time, and takes the node from nobody. */
const PATIENCE_MS = 10_000
const LOOK_EVERY_MS = 250

export class Succession {
  readonly #options: SuccessionOptions
  readonly #closing = new AbortController()
  readonly #channels = new Set<Channel>()
  readonly #followers = new Set<Channel>()
  #server: Server | undefined
  #giveUpName: GiveUpName | undefined
  #successor: Channel | undefined
  #isStoodDown = false

  constructor(options: SuccessionOptions) {
    this.#options = options
  }

  /** From now on this agent is the one in charge, also where it was before. Throws AMB_HANDOVER. */
  async listen(): Promise<void> {
    const { socketPath, log } = this.#options
    await this.#stopListening()
    const server = createServer((socket) => void this.#meet(socket))
    try {
      this.#giveUpName = await listenForRoot(server, socketPath)
    } catch (thrown) {
      server.close()
      throw new AmbitError(
        'AMB_HANDOVER',
        `Cannot listen on the agents' socket ${socketPath}: ${errorMessage(thrown)}`,
        { cause: thrown },
      )
    }
    server.on('error', (thrown) => log.error({ error: thrown }, "the agents' socket failed"))
    this.#server = server
    this.#isStoodDown = false
  }

  /** The agent ends. Whoever has handed the node to it takes it back. */
  async close(): Promise<void> {
    this.#closing.abort()
    for (const follower of this.#followers) follower.send({ kind: 'ending' })
    await this.#stopListening()
  }

  /** Those who followed this agent find the one that came after it. */
  async #stopListening(): Promise<void> {
    this.#server?.close()
    this.#server = undefined
    for (const channel of this.#channels) channel.end()
    await this.#giveUpName?.()
    this.#giveUpName = undefined
  }

  async #meet(socket: Socket): Promise<void> {
    const channel = new Channel(socket)
    this.#channels.add(channel)
    void channel.closed.then(() => {
      this.#channels.delete(channel)
      this.#followers.delete(channel)
    })
    const first = await channel.receive()
    if (first?.kind === 'follow') {
      this.#followers.add(channel)
      channel.send({ kind: 'following' })
      return
    }
    if (first?.kind === 'hello') await this.#answer(channel, first)
    channel.end()
  }

  async #answer(channel: Channel, hello: Hello): Promise<void> {
    const { protocol, version: theirs } = hello
    const { version, log } = this.#options
    const another = `it is of version ${version} and hands over by protocol ${PROTOCOL}, not ${protocol}: it has to end first`
    const refusal = protocol === PROTOCOL ? this.#refusal() : another
    if (refusal === undefined)
      return await this.#handOver(channel, theirs, hello.waitsForPorts === true)
    log.warn({ successor: theirs, refusal }, 'a successor is here, and gets nothing')
    channel.send({ kind: 'busy', reason: refusal })
  }

  async #handOver(channel: Channel, theirs: string, keepsPorts: boolean): Promise<void> {
    const { handlers, log } = this.#options
    this.#successor = channel
    log.info({ successor: theirs }, 'a successor is here: this agent serves until it is ready')
    if (!keepsPorts) await handlers.makeRoom()
    let answer: Message | undefined
    do {
      this.#offer(channel, keepsPorts)
      answer = await channel.receive()
    } while (answer?.kind === 'again')
    if (this.#closing.signal.aborted) return
    if (answer?.kind !== 'taken') {
      log.warn({ successor: theirs }, 'the successor is gone: this agent goes on')
      if (!keepsPorts) await handlers.stay()
      await handlers.resume()
      // Not before: the next one is to find all as it was.
      this.#successor = undefined
      return
    }
    this.#successor = undefined
    this.#isStoodDown = true
    await handlers.standDown()
    if (keepsPorts) await handlers.makeRoom()
    channel.send({ kind: 'stoodDown' })
    log.info({ successor: theirs }, 'the successor has the node: this agent serves what it has')
    await this.#stopListening()
    void this.#outlive()
  }

  #offer(channel: Channel, keepsPorts: boolean): void {
    const { handlers, version } = this.#options
    const pods = handlers.pods().map(({ uid, identity }) => ({ uid, identity }))
    const identities = [...new Set(pods.map(({ identity }) => identity))]
    const certified = identities.filter((identity) => handlers.isCertified(identity))
    const tellsAgain = true
    channel.send({ kind: 'offer', version, keepsPorts, identities, certified, pods, tellsAgain })
  }

  #refusal(): string | undefined {
    if (this.#closing.signal.aborted) return 'it is ending'
    if (this.#isStoodDown) return 'it has handed the node over'
    return this.#successor && 'another successor is getting ready'
  }

  /** Waits for the end of whoever has the node, and takes it back where nobody else does. */
  async #outlive(): Promise<void> {
    const { handlers, log, patienceMs = PATIENCE_MS } = this.#options
    const { signal } = this.#closing
    let alone = performance.now()
    while (!signal.aborted) {
      const end = await this.#follow()
      if (end !== 'nobody') alone = performance.now()
      if (signal.aborted) return
      if (end === 'ending' || performance.now() - alone >= patienceMs) {
        log.warn('no agent has this node any more: this one takes it back')
        return await handlers.takeBack()
      }
      await delay(LOOK_EVERY_MS, signal)
    }
  }

  /** Follows whoever is in charge until it is so no more, and says how it went. */
  async #follow(): Promise<'ending' | 'gone' | 'nobody'> {
    const socket = await dial(this.#options.socketPath)
    if (socket === undefined) return 'nobody'
    const channel = new Channel(socket)
    const { signal } = this.#closing
    const stop = (): void => channel.end()
    signal.addEventListener('abort', stop)
    try {
      channel.send({ kind: 'follow' })
      const answer = await channel.receive()
      if (answer?.kind !== 'following') return 'nobody'
      const last = await channel.receive()
      return last?.kind === 'ending' ? 'ending' : 'gone'
    } finally {
      signal.removeEventListener('abort', stop)
      channel.end()
    }
  }
}
