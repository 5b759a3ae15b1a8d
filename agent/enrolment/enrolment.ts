// SPDX-License-Identifier: Apache-2.0
// Keeps the right pods of this node enrolled: listens to CNI, to the node's pods and to the namespaces' labels,
// and asks each pod concerned to look again (pod-enrolment.ts). Starts from what an earlier agent remembered.

import type { CniHandlers, CniPod } from '../cni/index.ts'
import type { Capture } from '../capture/types.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { inTime } from '../../mesh/async/deadline.ts'
import {
  NAMESPACES,
  objectKey,
  PODS,
  watchResource,
  type KubeApi,
  type Namespace,
  type Pod,
  type ResourceWatch,
} from '../../mesh/kube/index.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import {
  DEFAULT_ELIGIBILITY,
  eligibility,
  type EligibilityOptions,
  type IneligibleReason,
} from './eligibility.ts'
import { findPodNetns, PodNetnsFinder } from './find-pod-netns.ts'
import { isSameNetns, netnsAt, ownNetns } from './netns-identity.ts'
import { PodEnrolment, type PodEnrolmentContext, type PodName, type Wish } from './pod-enrolment.ts'
import { PodLookup } from './pod-lookup.ts'
import { postEnrolmentFailure } from './pod-events.ts'
import { RedirectionAnnotations } from './redirection-annotation.ts'
import { seenNamespace, seenPod } from './seen-objects.ts'
import { PodStateFiles } from './state-files.ts'
import type { EnrolmentListener, EnrolmentOutcome } from './types.ts'

export interface EnrolmentOptions {
  readonly api: KubeApi
  readonly nodeName: string
  readonly capture: Capture
  readonly listener: EnrolmentListener
  /** Where to remember pods, 0700. */
  readonly stateDirectory: string
  readonly logger: Logger
  readonly eligibility?: EligibilityOptions
  /** What becomes of a pod's connections while the agent is down; default false: they are refused. */
  readonly failOpen?: boolean
  /** The host's /proc as seen from here. */
  readonly procRoot?: string
}

export interface CloseOptions {
  /** Takes every pod out of the mesh first (uninstall); otherwise capture stays live for the next agent. */
  readonly withdraw: boolean
}

/** How long an uninstall waits for annotations to be taken off. */
const ANNOTATION_DEADLINE_MS = 10_000

/** Starts enrolment: first what was remembered, without the API; then the informers, in the background. */
export async function startEnrolment(options: EnrolmentOptions): Promise<NodeEnrolment> {
  const enrolment = new NodeEnrolment(options)
  await enrolment.restore()
  enrolment.watch()
  return enrolment
}

export class NodeEnrolment implements CniHandlers {
  readonly #options: EnrolmentOptions
  readonly #eligibility: EligibilityOptions
  readonly #logger: Logger
  readonly #closing = new AbortController()
  readonly #pods = new Map<string, PodEnrolment>()
  readonly #context: PodEnrolmentContext
  readonly #states: PodStateFiles
  readonly #annotations: RedirectionAnnotations
  readonly #lookup: PodLookup
  /** Pods enrolled from state files that the API has not confirmed yet. */
  readonly #restored = new Set<string>()
  /** The failure last posted as an event, by pod. */
  readonly #posted = new Map<string, string>()
  #podWatch: ResourceWatch<Pod> | undefined
  #namespaceWatch: ResourceWatch<Namespace> | undefined
  #isWithdrawingAll = false
  readonly #synced = Promise.withResolvers<void>()
  /** Resolves once the API's view has been applied to every pod that was there, and leftovers are swept. */
  readonly synced: Promise<void> = this.#synced.promise

  constructor(options: EnrolmentOptions) {
    const { api, capture, listener, procRoot } = options
    this.#options = options
    this.#eligibility = options.eligibility ?? DEFAULT_ELIGIBILITY
    this.#logger = options.logger.child({ part: 'enrolment' })
    this.#states = new PodStateFiles(options.stateDirectory, this.#logger, procRoot)
    this.#annotations = new RedirectionAnnotations(api, this.#logger, this.#closing.signal)
    this.#lookup = new PodLookup(api)
    this.#context = {
      capture,
      listener,
      states: this.#states,
      netnsFinder: new PodNetnsFinder(() => findPodNetns(procRoot)),
      failOpen: options.failOpen ?? false,
      logger: this.#logger,
      wish: (pod) => this.#wish(pod),
      announceLeaving: (pod) => this.#annotations.set(pod.name, false),
      settled: (pod, outcome) => this.#settled(pod, outcome),
    }
    // Closing before the first list is no one's error.
    this.synced.catch(() => undefined)
  }

  /** The pods captured now. */
  enrolledPods(): readonly PodName[] {
    return [...this.#pods.values()].filter((pod) => pod.isEnrolled).map((pod) => pod.name)
  }

  /** Enrols again what an earlier agent of this boot had enrolled. */
  async restore(): Promise<void> {
    const states = await this.#states.load()
    const looks = states.flatMap((state) => {
      const { uid, namespace, name, serviceAccount, netnsCookie, isEnrolled, ...network } = state
      const pod = this.#pod({ uid, namespace, name, serviceAccount })
      pod.network = { ...network, expectedCookie: netnsCookie }
      if (!isEnrolled) return []
      this.#restored.add(uid)
      return [pod.reconcile()]
    })
    await Promise.all(looks)
    if (states.length > 0)
      this.#logger.info(
        { known: states.length, enrolled: this.enrolledPods().length },
        'restored the pods of an earlier agent',
      )
  }

  /** Starts the informers. */
  watch(): void {
    const { api, nodeName } = this.#options
    const logger = this.#logger
    this.#namespaceWatch = watchResource(api, NAMESPACES, {
      logger,
      keep: seenNamespace,
      added: (namespace) => this.#onNamespace(namespace),
      updated: (_, namespace) => this.#onNamespace(namespace),
    })
    this.#podWatch = watchResource(api, PODS, {
      logger,
      keep: seenPod,
      fieldSelector: `spec.nodeName=${nodeName}`,
      added: (pod) => this.#onPod(pod),
      updated: (_, pod) => this.#onPod(pod),
      deleted: (pod) => this.#onPodDeleted(pod),
    })
    this.#lookup.use(this.#podWatch, this.#namespaceWatch)
    this.#afterFirstLists(this.#podWatch, this.#namespaceWatch).then(
      () => this.#synced.resolve(),
      (thrown: unknown) => {
        if (!this.#closing.signal.aborted)
          this.#logger.error({ error: thrown }, 'the first look at the node failed')
        this.#synced.reject(thrown instanceof Error ? thrown : new Error(String(thrown)))
      },
    )
  }

  isReady(): Result<void, string> {
    return this.#podWatch?.isSynced === true && this.#namespaceWatch?.isSynced === true
      ? ok(undefined)
      : err('the Kubernetes API has not been listed yet')
  }

  async onAdd(cni: CniPod, signal: AbortSignal): Promise<Result<void, AmbitError>> {
    if (this.#eligibility.excludeNamespaces.includes(cni.namespace)) return ok(undefined)
    const fail = (reason: string, cause?: unknown): Result<void, AmbitError> =>
      err(
        new AmbitError(
          'AMB_ENROLMENT',
          `Cannot enrol pod ${cni.namespace}/${cni.name}: ${reason}`,
          {
            cause,
          },
        ),
      )
    const identity = await netnsAt(cni.netnsPath)
    if (identity === undefined) return fail(`there is no network namespace at ${cni.netnsPath}`)
    if (isSameNetns(identity, await ownNetns()))
      return fail(`${cni.netnsPath} is the network namespace of the node`)
    const found = await this.#lookup.forSandbox(cni, signal)
    if (!found.ok) return fail(found.error)

    const pod = this.#pod(nameOf(found.value))
    pod.object = newerOf(pod.object, found.value)
    pod.isSandboxGone = false
    const { netnsPath, containerId, addresses } = cni
    pod.network = { netnsPath, identity, addresses, containerId }
    this.#restored.delete(pod.name.uid)
    await pod.saveState()
    const outcome = await pod.reconcile()
    if ((outcome.kind === 'enrolled' || outcome.kind === 'plain') && !signal.aborted)
      return ok(undefined)
    // The runtime tears the sandbox down and tries again with another: there is nothing left to enrol here.
    if (pod.network?.containerId === containerId || pod.network === undefined)
      await this.#dropSandbox(pod)
    if (outcome.kind === 'failed')
      return outcome.error instanceof AmbitError
        ? err(outcome.error)
        : fail(outcome.error.message, outcome.error)
    return fail(outcome.kind === 'waiting' ? outcome.reason : 'the call was given up')
  }

  async onDel(cni: CniPod): Promise<void> {
    const pod = this.#findByCni(cni)
    if (pod === undefined) return
    const known = pod.network?.containerId
    // Runtimes delete old sandboxes of a pod late, when the pod is long in its next one.
    if (known !== undefined && known !== cni.containerId) return
    await this.#dropSandbox(pod)
  }

  onCheck(cni: CniPod): Promise<Result<void, AmbitError>> {
    const pod = this.#findByCni(cni)
    const isWanted = pod !== undefined && this.#wish(pod).kind === 'enrol'
    if (!isWanted || pod.isEnrolled) return Promise.resolve(ok(undefined))
    const message = `Cannot confirm pod ${cni.namespace}/${cni.name}: it belongs to the mesh and is not enrolled`
    return Promise.resolve(err(new AmbitError('AMB_ENROLMENT', message)))
  }

  /** Stops. Enrolments stay in place for the next agent, unless all are to be withdrawn. */
  async close({ withdraw }: CloseOptions): Promise<void> {
    if (withdraw) {
      this.#isWithdrawingAll = true
      await Promise.all([...this.#pods.values()].map((pod) => pod.reconcile()))
      // The API server may be away; the mesh can be uninstalled all the same.
      await inTime(this.#annotations.settled(), ANNOTATION_DEADLINE_MS)
    }
    this.#closing.abort()
    await Promise.all([this.#podWatch?.close(), this.#namespaceWatch?.close()])
    await Promise.all([...this.#pods.values()].map((pod) => pod.close()))
    await this.#annotations.settled()
    this.#synced.reject(new Error('enrolment was closed'))
  }

  #wish(pod: PodEnrolment): Wish {
    if (this.#isWithdrawingAll) return plain('the mesh is being uninstalled')
    if (pod.isDeleted) return plain('the pod is deleted')
    if (pod.isSandboxGone) return plain('the sandbox is gone')
    if (pod.object === undefined)
      return this.#restored.has(pod.name.uid)
        ? { kind: 'enrol' }
        : { kind: 'unknown', reason: 'the Kubernetes API has not been listed yet' }
    const labels = this.#lookup.namespaceLabels(pod.name.namespace)
    if (labels === undefined)
      return { kind: 'unknown', reason: `namespace ${pod.name.namespace} is not known yet` }
    const decision = eligibility(pod.object, labels, this.#eligibility)
    return decision.enrol ? { kind: 'enrol' } : plain(decision.reason)
  }

  #settled(pod: PodEnrolment, outcome: EnrolmentOutcome): void {
    const { uid } = pod.name
    if (pod.isDeleted) {
      this.#annotations.forget(uid)
      this.#posted.delete(uid)
      return
    }
    if (outcome.kind === 'failed') this.#report(pod, outcome.error)
    else if (outcome.kind === 'enrolled') this.#posted.delete(uid)
    else if (outcome.kind === 'plain' && outcome.reason === GUEST_KERNEL)
      this.#report(pod, guestKernel(pod.name))
    // What was restored is annotated already; the informer will tell if not.
    if (outcome.kind === 'waiting' || pod.object === undefined) return
    if (!this.#annotations.isRight(pod.object, pod.isEnrolled))
      this.#annotations.set(pod.name, pod.isEnrolled)
  }

  #report(pod: PodEnrolment, error: Error): void {
    if (this.#posted.get(pod.name.uid) === error.message) return
    this.#posted.set(pod.name.uid, error.message)
    const { api, nodeName } = this.#options
    const { uid, namespace, name } = pod.name
    this.#logger.warn({ uid, pod: `${namespace}/${name}`, error }, 'the pod is not served')
    const signal = this.#closing.signal
    postEnrolmentFailure(
      api,
      this.#logger,
      nodeName,
      { uid, namespace, name },
      error,
      signal,
    ).catch((thrown: unknown) => this.#logger.error({ error: thrown }, 'posting an event failed'))
  }

  #onPod(object: Pod): void {
    const pod = this.#pod(nameOf(object))
    pod.object = object
    this.#restored.delete(pod.name.uid)
    void pod.reconcile()
  }

  #onPodDeleted(object: Pod): void {
    const pod = this.#pods.get(object.metadata?.uid ?? '')
    if (pod !== undefined) void this.#delete(pod)
  }

  #onNamespace(namespace: Namespace): void {
    for (const pod of this.#pods.values())
      if (pod.name.namespace === namespace.metadata?.name) void pod.reconcile()
  }

  async #delete(pod: PodEnrolment): Promise<void> {
    pod.isDeleted = true
    await pod.reconcile()
    await pod.close()
    if (this.#pods.get(pod.name.uid) === pod) this.#pods.delete(pod.name.uid)
    await this.#states.remove(pod.name.uid)
  }

  /** The pod stays known: it may get another sandbox. */
  async #dropSandbox(pod: PodEnrolment): Promise<void> {
    pod.isSandboxGone = true
    pod.network = undefined
    await pod.reconcile()
    // Meanwhile the next sandbox may have come.
    if (pod.isSandboxGone) await this.#states.remove(pod.name.uid)
    // Never seen by the informer: deleted before it could be, or about to be told to us.
    if (this.#podWatch?.get(objectKey({ metadata: pod.name })) === undefined) {
      await pod.close()
      if (pod.isSandboxGone && this.#pods.get(pod.name.uid) === pod) this.#pods.delete(pod.name.uid)
    }
  }

  /** Applies the API's first answer to what was restored, then lets capture forget everything else. */
  async #afterFirstLists(
    pods: ResourceWatch<Pod>,
    namespaces: ResourceWatch<Namespace>,
  ): Promise<void> {
    await Promise.all([pods.synced, namespaces.synced])
    const unconfirmed = [...this.#pods.values()].filter((pod) => pod.object === undefined)
    await Promise.all(unconfirmed.map((pod) => this.#delete(pod)))
    await Promise.all([...this.#pods.values()].map((pod) => pod.reconcile()))
    // Those being enrolled by CNI just now count as ours, too.
    const keep = [...this.#pods.values()].filter(
      (pod) => pod.isEnrolled || pod.network !== undefined,
    )
    await this.#options.capture.sweep(new Set(keep.map((pod) => pod.name.uid)))
    this.#logger.info({ enrolled: this.enrolledPods().length, pods: pods.size }, 'in step')
  }

  #pod(name: PodName): PodEnrolment {
    const known = this.#pods.get(name.uid)
    if (known !== undefined) return known
    const pod = new PodEnrolment(name, this.#context)
    this.#pods.set(name.uid, pod)
    return pod
  }

  #findByCni(cni: CniPod): PodEnrolment | undefined {
    if (cni.uid !== undefined && this.#pods.has(cni.uid)) return this.#pods.get(cni.uid)
    const all = [...this.#pods.values()]
    return (
      all.find((pod) => pod.network?.containerId === cni.containerId) ??
      all.find(
        ({ name }) =>
          cni.uid === undefined && name.namespace === cni.namespace && name.name === cni.name,
      )
    )
  }
}

function guestKernel({ namespace, name }: PodName): AmbitError {
  return new AmbitError(
    'AMB_ENROLMENT',
    `Cannot enrol pod ${namespace}/${name}: its containers run on a kernel of their own (Kata, gVisor, KubeVirt), whose sockets this node cannot see`,
  )
}

/** The one reason against enrolling that the pod's owner has to be told: it was asked for. */
const GUEST_KERNEL: IneligibleReason = 'guestKernel'

const plain = (reason: string): Wish => ({ kind: 'plain', reason })

function nameOf(pod: Pod): PodName {
  return {
    uid: pod.metadata?.uid ?? '',
    namespace: pod.metadata?.namespace ?? '',
    name: pod.metadata?.name ?? '',
    serviceAccount: pod.spec?.serviceAccountName ?? 'default',
  }
}

/** Versions may not be compared for order, but an object that the informer told us outdoes one that was read. */
const newerOf = (known: Pod | undefined, read: Pod): Pod => known ?? read
