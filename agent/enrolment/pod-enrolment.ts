// SPDX-License-Identifier: Apache-2.0
// One pod's way into and out of the mesh: takes facts in, and runs the steps that follow from them (next-step.ts) in
// one queue, never two at once. Nobody else changes what is known of a pod, or what it is.

import type { Capture, CapturePod, Enrolment } from '../capture/types.ts'
import { closeListeners } from '../capture/listeners.ts'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { Backoff } from '../../mesh/async/backoff.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { EligibilityOptions } from './eligibility.ts'
import {
  desiredOf,
  isOver,
  learn,
  NOTHING_KNOWN,
  type Desired,
  type Fact,
  type Knowledge,
  type PodNetwork,
} from './facts.ts'
import { isSameNetns, netnsOfFd, type NetnsIdentity } from './netns-identity.ts'
import { nextStep, type Actual, type Step } from './next-step.ts'
import type { LocatePod } from './locate-pod.ts'
import type { Ownership } from './ownership.ts'
import type { PodStateFiles } from './state-files.ts'
import type { EnrolmentOutcome, PodName, PodServer, ServedPod } from './types.ts'

/** What a pod needs of the world. */
export interface PodEnrolmentContext {
  readonly capture: Capture
  readonly server: PodServer
  readonly states: Pick<PodStateFiles, 'save' | 'remove'>
  readonly locate: LocatePod
  readonly ownership: Pick<Ownership, 'holds'>
  readonly rules: EligibilityOptions
  readonly failOpen: boolean
  readonly peersForgetMs: number
  readonly logger: Logger
  /** Called after every look, with how the pod stands. */
  readonly settled: (pod: PodEnrolment, outcome: EnrolmentOutcome) => void
}

/** An app that holds a port may hold it for long; a namespace that is not there yet comes soon. */
const FIRST_RETRY_MS = 50
/**
 * How often a pod is looked for that only its namespace keeps. As a rule the runtime says that the sandbox goes (CNI DEL)
 * before there is a second look; nothing says so of a pod that is older than the agent.
 */
const LOOK_FOR_END = { firstMs: 250, longestMs: 30_000 } as const

/** Node's timers count no further. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

const NOT_LOOKED: EnrolmentOutcome = { kind: 'waiting', reason: 'it has not been looked at yet' }
const CLOSED: EnrolmentOutcome = { kind: 'waiting', reason: 'enrolment has ended here' }

export class PodEnrolment {
  readonly name: PodName
  readonly #context: PodEnrolmentContext
  readonly #logger: Logger
  readonly #backoff = new Backoff({ firstMs: FIRST_RETRY_MS })
  readonly #endBackoff = new Backoff(LOOK_FOR_END)
  #known: Knowledge = NOTHING_KNOWN
  #actual: Actual = { kind: 'plain' }
  /** What the data plane gave us; kept while the pod is captured or has left, also while it is not served. */
  #served: ServedPod | undefined
  /** Settles when that has carried its last connection. */
  #carried = Promise.withResolvers<undefined>()
  #netnsCookie: bigint | undefined
  /** An earlier agent had captured it. */
  #isRestored = false
  /** How often the pod has lost its listeners: a loss while a step is under way is not to be overlooked. */
  #losses = 0
  /** What the state file says; undefined when there is none. */
  #remembered: Remembered | undefined
  #queue: Promise<unknown> = Promise.resolve()
  #queued: Promise<EnrolmentOutcome> | undefined
  #retryTimer: NodeJS.Timeout | undefined
  /** When the pod left the mesh; undefined as long as it has not, or nobody remembers it in the mesh. */
  #leftAt: number | undefined
  #forgetTimer: NodeJS.Timeout | undefined
  #isClosed = false
  #outcome: EnrolmentOutcome = NOT_LOOKED

  constructor(name: PodName, context: PodEnrolmentContext) {
    this.name = name
    this.#context = context
    this.#logger = context.logger.child({ pod: `${name.namespace}/${name.name}`, uid: name.uid })
  }

  /** Captured, served or not. */
  get isEnrolled(): boolean {
    return this.#actual.kind === 'captured'
  }

  /** Captured, or not known not to be: an agent that comes now has to see to it. */
  get #mayBeCaptured(): boolean {
    return !(this.#actual.kind === 'plain' || this.#actual.kind === 'left')
  }

  /** Nothing of it is captured, nor served for peers that have not heard of it. */
  get isPlain(): boolean {
    return this.#actual.kind === 'plain'
  }

  /** What became of the last look at it. */
  get outcome(): EnrolmentOutcome {
    return this.#outcome
  }

  /** Captured by programs, and nobody serves its listeners: its connections are refused. */
  get isCutOff(): boolean {
    return this.#actual.kind === 'captured' && !this.#actual.isServed
  }

  /** Captured, and no CNI call nor an earlier agent had told of it: it had begun without the mesh, and what it had open then stays outside. */
  get isLate(): boolean {
    return this.isEnrolled && !this.#isRestored && this.#known.network?.containerId === undefined
  }

  get known(): Knowledge {
    return this.#known
  }

  get desired(): Desired {
    return desiredOf(this.#known, this.#context.rules)
  }

  /**
   * Takes a fact in and looks what follows from it. Resolves with how the pod stands when nothing more can be done;
   * those who tell something while a look is due share it.
   */
  observe(fact: Fact): Promise<EnrolmentOutcome> {
    this.#known = learn(this.#known, fact)
    if (fact.kind === 'listenersLost') {
      this.#losses += 1
      if (this.#actual.kind === 'captured' || this.#actual.kind === 'left')
        this.#actual = { ...this.#actual, isServed: false }
    }
    // Its file is there already, and it may be captured still.
    if (fact.kind === 'remembered') {
      const { network, isEnrolled, leftAt } = fact
      this.#remembered = { network, isEnrolled, leftAt }
      if (!isEnrolled && leftAt === undefined)
        return Promise.resolve({ kind: 'waiting', reason: 'it was not enrolled' })
      this.#isRestored = true
      if (isEnrolled) this.#actual = { kind: 'uncertain' }
      else this.#becomeLeft(network.identity, leftAt)
    }
    return this.#lookSoon()
  }

  /** No further steps; resolves when the one under way is over. What is enrolled stays so. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#retryTimer)
    clearTimeout(this.#forgetTimer)
    await this.#queue
  }

  #lookSoon(): Promise<EnrolmentOutcome> {
    if (this.#queued !== undefined) return this.#queued
    const queued = this.#queue.then(() => {
      this.#queued = undefined
      return this.#look()
    })
    this.#queued = queued
    this.#queue = queued
    return queued
  }

  async #look(): Promise<EnrolmentOutcome> {
    clearTimeout(this.#retryTimer)
    if (this.#isClosed) return CLOSED
    let outcome: EnrolmentOutcome
    try {
      // Also of steps that were broken off: the next agent starts from what they had done.
      outcome = await this.#steps().finally(() => this.#remember(this.#mayBeCaptured))
    } catch (thrown) {
      this.#logger.error({ error: thrown }, 'enrolment met an error of its own')
      const error = thrown instanceof Error ? thrown : new Error(errorMessage(thrown))
      outcome = { kind: 'failed', error }
    }
    this.#outcome = outcome
    this.#lookAgain(outcome)
    this.#logger.debug({ outcome }, 'looked')
    try {
      this.#context.settled(this, outcome)
    } catch (thrown) {
      // The queue must go on whatever a listener does.
      this.#logger.error({ error: thrown }, 'telling how a pod stands failed')
    }
    return outcome
  }

  #lookAgain({ kind }: EnrolmentOutcome): void {
    const retries = kind === 'failed' || kind === 'waiting'
    if (!retries) this.#backoff.reset()
    if (this.#isClosed || !(retries || this.#isWatched())) return
    const delayMs = (retries ? this.#backoff : this.#endBackoff).next()
    this.#retryTimer = setTimeout(() => void this.#lookSoon(), delayMs).unref()
  }

  /** Whether nobody but its namespace says that the pod is still there. */
  #isWatched(): boolean {
    return !this.isPlain && isOver(this.#known) && this.#known.network !== undefined
  }

  /** Looks where its namespace is; false, and it is known to be nowhere, when nothing leads there any more. */
  async #isThere(): Promise<boolean> {
    const located = await this.#context.locate(this.name, this.#known)
    for (const fact of located.facts) this.#known = learn(this.#known, fact)
    if (located.ok) return true
    const { network } = this.#known
    if (network !== undefined)
      this.#known = learn(this.#known, { kind: 'networkGone', identity: network.identity })
    return false
  }

  /** One step after the other until there is nothing to do, or one fails. */
  async #steps(): Promise<EnrolmentOutcome> {
    await this.#remember(this.#mayBeCaptured)
    while (!this.#isClosed) {
      const desired = this.desired
      const step = nextStep(desired, this.#actual)
      if (step.kind === 'wait') return { kind: 'waiting', reason: step.reason }
      if (step.kind === 'rest') {
        if (this.#isWatched() && !(await this.#isThere())) continue
        return desired.kind === 'plain'
          ? { kind: 'plain', reason: desired.reason }
          : { kind: 'enrolled' }
      }
      if (!(await this.#context.ownership.holds())) {
        // For good: the next agent does what there is to do.
        this.#isClosed = true
        break
      }
      const ended = await this.#run(step)
      if (ended !== undefined) return ended
    }
    return CLOSED
  }

  /** Runs a step; gives an outcome when no other can follow it now. */
  async #run(
    step: Exclude<Step, { readonly kind: 'wait' | 'rest' }>,
  ): Promise<EnrolmentOutcome | undefined> {
    switch (step.kind) {
      case 'enrol':
        return this.#enrol()
      case 'drain':
        this.#served?.drain()
        this.#become({ isDraining: true })
        return undefined
      case 'leave':
        return this.#leave(step.reason)
      case 'withdraw':
        return this.#withdraw(step)
    }
  }

  async #enrol(): Promise<EnrolmentOutcome | undefined> {
    const located = await this.#context.locate(this.name, this.#known)
    for (const fact of located.facts) this.#known = learn(this.#known, fact)
    if (!located.ok) return located.outcome
    const { network } = located
    // It was found elsewhere than where it is captured, or a sandbox came meanwhile: that wants another step.
    if (this.#isElsewhere(network)) return undefined
    if (!isSameNetns(this.#known.network?.identity, network.identity)) return undefined

    const { capture, failOpen } = this.#context
    const startedAt = performance.now()
    // Before, not after: an agent killed in between finds a captured pod that nobody serves, and must know of it.
    await this.#remember(true)
    const result = await capture.enrol(this.#capturePod(network))
    if (!result.ok) {
      if (this.#actual.kind === 'plain') this.#actual = { kind: 'uncertain' }
      return { kind: 'failed', error: result.error }
    }
    const enrolment = result.value
    const { netnsCookie } = enrolment
    const captured = {
      kind: 'captured',
      netns: network.identity,
      isServed: false,
      isDraining: false,
    } as const
    const wasPlain = this.#actual.kind === 'plain' || this.#actual.kind === 'left'
    // At once: whatever fails from here on, it is captured until it is withdrawn.
    this.#actual = captured
    this.#forgetLeaving()
    const mismatch = await this.#mismatch(enrolment, network)
    if (mismatch !== undefined) {
      closeListeners(enrolment.listeners)
      this.#actual = { kind: 'astray' }
      this.#known = learn(this.#known, { kind: 'networkGone', identity: network.identity })
      await this.#endCapture({ livesOn: false })
      return this.#failed(mismatch)
    }
    this.#netnsCookie = netnsCookie
    const losses = this.#losses
    const isAgain = this.#served !== undefined
    const refusal = await this.#serve(enrolment)
    if (refusal !== undefined) {
      // Was it in plaintext until now, it is better so than cut off; what was in the mesh does not leave it by a failure.
      if ((!isAgain || wasPlain) && (failOpen || !enrolment.wasCaptured))
        await this.#endCapture({ livesOn: true })
      return this.#failed(refusal)
    }
    this.#actual = { ...captured, isServed: losses === this.#losses }
    const tookMs = Math.round(performance.now() - startedAt)
    this.#logger.info({ addresses: network.addresses, tookMs, isAgain }, 'enrolled')
    return undefined
  }

  /** Hands the listeners to the data plane; the text of its refusal. */
  async #serve(enrolment: Enrolment): Promise<string | undefined> {
    try {
      if (this.#served === undefined) {
        const pod = { ...this.name, enrolment }
        this.#served = await this.#context.server.serve(pod, () => {
          void this.observe({ kind: 'listenersLost' })
        })
      } else await this.#served.serveAgain(enrolment)
      return undefined
    } catch (thrown) {
      return `the data plane refused it: ${errorMessage(thrown)}`
    }
  }

  /** Capture opened the path by itself: was it still the namespace we had looked at? */
  async #mismatch(enrolment: Enrolment, network: PodNetwork): Promise<string | undefined> {
    if (!isSameNetns(await netnsOfFd(enrolment.netnsFd), network.identity))
      return 'its network namespace was replaced meanwhile'
    const expected = network.expectedCookie
    if (expected !== undefined && expected !== enrolment.netnsCookie)
      return 'its network namespace is not the one it had before'
    return undefined
  }

  /** Whether what is captured or served of it is in another namespace. */
  #isElsewhere({ identity }: PodNetwork): boolean {
    const actual = this.#actual
    return 'netns' in actual && !isSameNetns(actual.netns, identity)
  }

  #capturePod({ netnsPath, addresses, containerId }: PodNetwork): CapturePod {
    const { uid, namespace, name } = this.name
    const { failOpen } = this.#context
    // CNI says where a pod is; whatever is found in /proc has to be proved.
    const mustHaveAddress = containerId === undefined
    return { uid, namespace, name, netnsPath, addresses, failOpen, mustHaveAddress }
  }

  /** Whatever fails here, the pod leaves: it has its owner's word for that. */
  async #leave(reason: string): Promise<undefined> {
    const located = await this.#context.locate(this.name, this.#known)
    for (const fact of located.facts) this.#known = learn(this.#known, fact)
    const failure = located.ok
      ? await this.#serveLeft(located.network)
      : 'nothing leads to its network namespace'
    if (failure === undefined) {
      this.#logger.info({ reason }, 'withdrawn; peers that have not heard of it are served')
      return undefined
    }
    this.#logger.warn({ reason: failure }, 'a pod that leaves the mesh is not served any more')
    await this.#endCapture({ livesOn: true })
    return undefined
  }

  /** Ends capture and has the data plane go on with HBONE alone; the text of what stands against it. */
  async #serveLeft(network: PodNetwork): Promise<string | undefined> {
    const { capture } = this.#context
    // What is served are connections of another namespace, which is left for good.
    if (this.#isElsewhere(network)) return 'it has a new sandbox'
    const result = await capture.leave(this.#capturePod(network), this.#carried.promise)
    if (!result.ok) return result.error.message
    const enrolment = result.value
    this.#netnsCookie = enrolment.netnsCookie
    this.#becomeLeft(network.identity, this.#leftAt)
    const mismatch = await this.#mismatch(enrolment, network)
    if (mismatch !== undefined) {
      closeListeners(enrolment.listeners)
      this.#actual = { kind: 'astray' }
      return mismatch
    }
    const losses = this.#losses
    const refusal = await this.#serve(enrolment)
    if (refusal !== undefined) return refusal
    if (this.#actual.kind === 'left')
      this.#actual = { ...this.#actual, isServed: losses === this.#losses }
    return undefined
  }

  /** Until no peer can remember it any more: who has not heard from the control plane for so long has no certificate. */
  #becomeLeft(netns: NetnsIdentity, leftAt = Date.now()): void {
    this.#leftAt = leftAt
    this.#actual = { kind: 'left', netns, isServed: false, isForgotten: false }
    clearTimeout(this.#forgetTimer)
    // The clock may have been set meanwhile; longer than it has to wait it never waits.
    const leftMs = Math.min(leftAt - Date.now(), 0) + this.#context.peersForgetMs
    const onForgotten = (): void => {
      if (this.#actual.kind !== 'left') return
      this.#actual = { ...this.#actual, isForgotten: true }
      void this.#lookSoon()
    }
    this.#forgetTimer = setTimeout(onForgotten, Math.min(leftMs, LONGEST_TIMER_MS)).unref()
  }

  #forgetLeaving(): void {
    this.#leftAt = undefined
    clearTimeout(this.#forgetTimer)
  }

  async #withdraw(step: Extract<Step, { readonly kind: 'withdraw' }>): Promise<undefined> {
    const wasCaptured = this.#actual.kind === 'captured'
    await this.#endCapture(step)
    await this.#remember(false)
    if (wasCaptured) this.#logger.info({ reason: step.reason }, 'withdrawn')
    return undefined
  }

  /** Capture first: from there on no new connection arrives, while the data plane still carries the old ones. */
  async #endCapture(how: { readonly livesOn: boolean }): Promise<void> {
    const served = this.#served
    const carried = this.#carried
    // Should this fail, all is still to be done.
    await this.#context.capture.withdraw(
      this.name.uid,
      served === undefined ? undefined : carried.promise,
    )
    this.#actual = { kind: 'plain' }
    this.#served = undefined
    this.#netnsCookie = undefined
    this.#carried = Promise.withResolvers()
    this.#forgetLeaving()
    if (served === undefined) return carried.resolve(undefined)
    // Not awaited: the old connections may take their time, and the pod may be wanted in the mesh again meanwhile.
    served
      .end(how)
      .catch((thrown: unknown) =>
        this.#logger.error({ error: thrown }, 'the data plane refused a withdrawal'),
      )
      .finally(() => carried.resolve(undefined))
  }

  /** Keeps what is known of the pod's network for the agent's next life; nothing of a pod that has none. */
  async #remember(isEnrolled: boolean): Promise<void> {
    const { states } = this.#context
    const { network, isDeleted, isSandboxGone } = this.#known
    const leftAt = isEnrolled ? undefined : this.#leftAt
    const isHere = isEnrolled || leftAt !== undefined
    const wanted =
      network === undefined || ((isDeleted || isSandboxGone) && !isHere)
        ? undefined
        : { network, isEnrolled, leftAt, netnsCookie: this.#netnsCookie ?? network.expectedCookie }
    if (isSameMemory(wanted, this.#remembered)) return
    if (wanted === undefined) {
      // A pod that is or may be captured, and whose namespace is not known any more, is still ours to serve or to withdraw.
      if (isEnrolled || this.#actual.kind !== 'plain') return
      if (await states.remove(this.name.uid)) this.#remembered = undefined
      return
    }
    const { expectedCookie: _, isProven: __, ...place } = wanted.network
    const { netnsCookie } = wanted
    if (await states.save({ ...this.name, ...place, netnsCookie, isEnrolled, leftAt }))
      this.#remembered = wanted
  }

  #become(change: Partial<Extract<Actual, { readonly kind: 'captured' }>>): void {
    if (this.#actual.kind === 'captured') this.#actual = { ...this.#actual, ...change }
  }

  #failed(reason: string): EnrolmentOutcome {
    const { namespace, name } = this.name
    const message = `Cannot enrol pod ${namespace}/${name}: ${reason}`
    return { kind: 'failed', error: new AmbitError('AMB_ENROLMENT', message) }
  }
}

interface Remembered {
  readonly network: PodNetwork
  readonly isEnrolled: boolean
  readonly leftAt: number | undefined
  readonly netnsCookie?: bigint | undefined
}

const isSameMemory = (a: Remembered | undefined, b: Remembered | undefined): boolean =>
  a?.network === b?.network &&
  a?.isEnrolled === b?.isEnrolled &&
  a?.leftAt === b?.leftAt &&
  a?.netnsCookie === b?.netnsCookie
