// SPDX-License-Identifier: Apache-2.0
// One pod's way into and out of the mesh. It looks at what is wanted now and brings the pod there, one step at a
// time and never two at once; whoever learns something new asks for another look.

import type { Capture, Enrolment } from '../capture/types.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { parseIpAddress } from '../../mesh/model/address.ts'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { Backoff } from '../../mesh/async/backoff.ts'
import type { Pod } from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { PodNetnsFinder } from './find-pod-netns.ts'
import { isSameNetns, netnsAt, netnsOfFd, type NetnsIdentity } from './netns-identity.ts'
import type { PodState, PodStateFiles } from './state-files.ts'
import type { EnrolmentListener, EnrolmentOutcome } from './types.ts'

/** Where a pod's network is. */
export interface PodNetwork {
  readonly netnsPath: string
  readonly identity: NetnsIdentity
  readonly addresses: readonly IpAddress[]
  /** Of the sandbox, when CNI told us of it. */
  readonly containerId: string | undefined
  /** From a state file: what the namespace's cookie must turn out to be. */
  readonly expectedCookie?: bigint | undefined
}

export interface PodName {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly serviceAccount: string
}

/** Whether a pod is to be captured; `unknown` leaves it as it is. */
export type Wish =
  | { readonly kind: 'enrol' }
  | { readonly kind: 'plain'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/** What a pod needs of the world. */
export interface PodEnrolmentContext {
  readonly capture: Capture
  readonly listener: EnrolmentListener
  readonly states: PodStateFiles
  readonly netnsFinder: PodNetnsFinder
  readonly failOpen: boolean
  readonly logger: Logger
  /** Asked afresh at every look. */
  readonly wish: (pod: PodEnrolment) => Wish
  /** Takes the pod's annotation off. */
  readonly announceLeaving: (pod: PodEnrolment) => void
  /** Called after every look, with how the pod stands. */
  readonly settled: (pod: PodEnrolment, outcome: EnrolmentOutcome) => void
}

/** An app that holds a port may hold it for long; a namespace that is not there yet comes soon. */
const FIRST_RETRY_MS = 50
/** The kubelet's hash of a static pod's file; a UID has dashes. */
const STATIC_POD_HASH = /^[0-9a-f]{32}$/

export class PodEnrolment {
  readonly name: PodName
  /** The latest object from the API; undefined for a pod known only from its state file. */
  object: Pod | undefined
  /** The pod's network; undefined when it has to be looked for. */
  network: PodNetwork | undefined
  /** CNI DEL came, or ADD failed: there is no sandbox, and none is to be looked for. */
  isSandboxGone = false
  /** The API says that the pod is gone. */
  isDeleted = false
  readonly #context: PodEnrolmentContext
  readonly #logger: Logger
  readonly #backoff = new Backoff({ firstMs: FIRST_RETRY_MS })
  #enrolled: { readonly enrolment: Enrolment; readonly identity: NetnsIdentity } | undefined
  /** The last attempt failed: what an earlier agent had captured of the pod may still be so. */
  #hasFailed = false
  #isDrainingTold = false
  #queue: Promise<unknown> = Promise.resolve()
  #queued: Promise<EnrolmentOutcome> | undefined
  #retryTimer: NodeJS.Timeout | undefined
  #closed = false

  constructor(name: PodName, context: PodEnrolmentContext) {
    this.name = name
    this.#context = context
    this.#logger = context.logger.child({ pod: `${name.namespace}/${name.name}`, uid: name.uid })
  }

  get isEnrolled(): boolean {
    return this.#enrolled !== undefined
  }

  /** Asks for a look at the pod; those who ask while one is due share it. */
  reconcile(): Promise<EnrolmentOutcome> {
    if (this.#queued !== undefined) return this.#queued
    const queued = this.#queue.then(() => {
      this.#queued = undefined
      return this.#look()
    })
    this.#queued = queued
    this.#queue = queued
    return queued
  }

  /** No further retries; resolves when the look under way is over. What is enrolled stays so. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retryTimer)
    await this.#queue
  }

  async #look(): Promise<EnrolmentOutcome> {
    clearTimeout(this.#retryTimer)
    let outcome: EnrolmentOutcome
    try {
      outcome = await this.#step()
    } catch (thrown) {
      this.#logger.error({ error: thrown }, 'enrolment met an error of its own')
      const error = thrown instanceof Error ? thrown : new Error(errorMessage(thrown))
      outcome = { kind: 'failed', error }
    }
    const retries = outcome.kind === 'failed' || outcome.kind === 'waiting'
    if (!retries) this.#backoff.reset()
    else if (!this.#closed && !this.isDeleted && !this.isSandboxGone) {
      this.#retryTimer = setTimeout(() => void this.reconcile(), this.#backoff.next())
      this.#retryTimer.unref()
    }
    this.#logger.debug({ outcome }, 'looked')
    try {
      this.#tellDraining()
      this.#context.settled(this, outcome)
    } catch (thrown) {
      // The queue must go on whatever a listener does.
      this.#logger.error({ error: thrown }, 'telling how a pod stands failed')
    }
    return outcome
  }

  async #step(): Promise<EnrolmentOutcome> {
    const wish = this.#context.wish(this)
    if (wish.kind === 'unknown') return { kind: 'waiting', reason: wish.reason }
    if (wish.kind === 'plain') {
      if (await this.#takeLeave()) await this.#withdraw(wish.reason)
      return this.isEnrolled ? { kind: 'enrolled' } : wish
    }
    if (this.#enrolled !== undefined) {
      const moved =
        this.network !== undefined && !isSameNetns(this.network.identity, this.#enrolled.identity)
      if (!moved) return { kind: 'enrolled' }
      await this.#withdraw('the pod has a new sandbox')
    }
    const network = await this.#findNetwork()
    if (typeof network === 'string') return { kind: 'waiting', reason: network }
    return this.#enrol(network)
  }

  async #findNetwork(): Promise<PodNetwork | string> {
    if (this.network !== undefined) {
      const current = await netnsAt(this.network.netnsPath)
      if (!isSameNetns(current, this.network.identity)) this.network = undefined
    }
    if (this.network !== undefined && this.network.addresses.length > 0) return this.network
    const addresses = statusAddresses(this.object)
    if (addresses.length === 0) return 'the pod has no address yet'
    if (this.network !== undefined) {
      this.network = { ...this.network, addresses }
      return this.network
    }
    const found = await this.#context.netnsFinder.find()
    // The processes of a static pod carry the hash of its file, not the UID of its mirror.
    const hash = this.object?.metadata?.annotations?.['kubernetes.io/config.hash'] ?? ''
    // Anybody may write the annotation on a pod of theirs: it must not name another pod by its UID.
    const netns =
      found.get(this.name.uid) ?? (STATIC_POD_HASH.test(hash) ? found.get(hash) : undefined)
    if (netns === undefined) return 'none of its processes is running'
    // CNI may have told us meanwhile, and knows better.
    this.network ??= { ...netns, addresses, containerId: undefined }
    return this.network
  }

  async #enrol(network: PodNetwork): Promise<EnrolmentOutcome> {
    const { capture, listener, failOpen } = this.#context
    const { uid, namespace, name, serviceAccount } = this.name
    const startedAt = performance.now()
    // Before, not after: an agent killed in between finds a captured pod that nobody serves, and must know of it.
    await this.saveState(true)
    const result = await capture.enrol({
      uid,
      namespace,
      name,
      netnsPath: network.netnsPath,
      addresses: network.addresses,
      failOpen,
      // CNI says where a pod is; whatever is found in /proc has to be proved.
      mustHaveAddress: network.containerId === undefined,
    })
    this.#hasFailed = !result.ok
    if (!result.ok) {
      await this.saveState()
      return { kind: 'failed', error: result.error }
    }
    const enrolment = result.value
    const problem =
      (await this.#mismatch(enrolment, network)) ??
      (await tell(() => listener.onEnrolled({ enrolment, uid, namespace, name, serviceAccount })))
    if (problem !== undefined) {
      await capture.withdraw(uid)
      this.network = undefined
      await this.#context.states.remove(uid)
      return {
        kind: 'failed',
        error: new AmbitError('AMB_ENROLMENT', `Cannot enrol pod ${namespace}/${name}: ${problem}`),
      }
    }
    this.#enrolled = { enrolment, identity: network.identity }
    await this.saveState()
    const tookMs = Math.round(performance.now() - startedAt)
    this.#logger.info({ addresses: network.addresses, tookMs }, 'enrolled')
    return { kind: 'enrolled' }
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

  /**
   * Tells the peers first that the pod leaves: until they know, they open tunnels to it, and withdrawing at once
   * would refuse those. False when the pod is wanted in the mesh again meanwhile.
   */
  async #takeLeave(): Promise<boolean> {
    if (this.#enrolled === undefined || this.isDeleted || this.isSandboxGone) return true
    const { listener, announceLeaving, wish } = this.#context
    announceLeaving(this)
    const problem = await tell(() => listener.onLeaving?.(this.name))
    if (problem !== undefined) this.#logger.error({ problem }, 'taking leave failed')
    return wish(this).kind !== 'enrol'
  }

  async #withdraw(reason: string): Promise<void> {
    if (this.#enrolled === undefined) {
      if (this.#hasFailed) await this.#context.capture.withdraw(this.name.uid)
      this.#hasFailed = false
      return
    }
    const { capture, listener } = this.#context
    const livesOn = !this.isDeleted && !this.isSandboxGone
    const carried = Promise.withResolvers<undefined>()
    // Capture first: from here on no new connection arrives, while the data plane still carries the old ones.
    await capture.withdraw(this.name.uid, carried.promise)
    this.#enrolled = undefined
    this.#isDrainingTold = false
    // Not awaited: the old connections may take their time, and the pod may be wanted in the mesh again meanwhile.
    void tell(() => listener.onWithdrawn(this.name.uid, { livesOn })).then((problem) => {
      carried.resolve(undefined)
      if (problem !== undefined)
        this.#logger.error({ problem }, 'the data plane refused a withdrawal')
    })
    if (!this.isDeleted && !this.isSandboxGone) await this.saveState()
    this.#logger.info({ reason }, 'withdrawn')
  }

  /** Remembers what is known of the pod's network for the agent's next life. */
  async saveState(isEnrolled = this.isEnrolled): Promise<void> {
    const network = this.network
    if (network === undefined) return
    const { expectedCookie: _, ...known } = network
    const state: PodState = {
      ...this.name,
      ...known,
      netnsCookie: this.#enrolled?.enrolment.netnsCookie ?? network.expectedCookie,
      isEnrolled,
    }
    await this.#context.states.save(state)
  }

  #tellDraining(): void {
    if (this.#enrolled === undefined || this.#isDrainingTold) return
    if (this.object?.metadata?.deletionTimestamp === undefined) return
    this.#isDrainingTold = true
    this.#context.listener.onDraining(this.name.uid)
  }
}

/** The addresses the pod's status lists; CNI's are better, but not there for pods older than the agent. */
function statusAddresses(pod: Pod | undefined): readonly IpAddress[] {
  const listed = pod?.status?.podIPs?.map(({ ip }) => ip) ?? [pod?.status?.podIP]
  return listed.flatMap((text) => {
    const address = text === undefined ? undefined : parseIpAddress(text)
    return address === undefined ? [] : [address]
  })
}

/** Calls a listener that may throw or reject; the text of what it threw. */
async function tell(call: () => undefined | void | Promise<void>): Promise<string | undefined> {
  try {
    await call()
    return undefined
  } catch (thrown) {
    return `the data plane refused it: ${errorMessage(thrown)}`
  }
}
