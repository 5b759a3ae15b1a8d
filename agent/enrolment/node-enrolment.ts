// SPDX-License-Identifier: Apache-2.0
// Keeps the right pods of this node enrolled: hears CNI, the node's pods and the namespaces' labels, and tells each pod
// concerned the fact (pod-enrolment.ts). Starts from what an earlier agent remembered.

import type { CniHandlers, CniPod } from '../cni/index.ts'
import type { Capture, NetworkReport } from '../capture/types.ts'
import { AmbitError, type ErrorCode } from '../../mesh/errors.ts'
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
import { DATAPLANE_MODE_LABEL } from '../../mesh/model/names.ts'
import type { Workload } from '../../mesh/model/types.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { DEFAULT_ELIGIBILITY, type EligibilityOptions } from './eligibility.ts'
import { findPodProcesses, PodFinder } from './find-pod-netns.ts'
import { locator } from './locate-pod.ts'
import { meshNamespaces } from './membership.ts'
import { isSameNetns, netnsAt, ownNetns, type NetnsIdentity } from './netns-identity.ts'
import { takeOwnership, type Ownership } from './ownership.ts'
import { PodEnrolment, type PodEnrolmentContext } from './pod-enrolment.ts'
import { PodEvents } from './pod-events.ts'
import { PodLookup } from './pod-lookup.ts'
import { PodReports } from './pod-reports.ts'
import { type PodStanding, podStanding } from './pod-standing.ts'
import type { ProveNetns } from './prove-netns.ts'
import { RedirectionAnnotations } from './redirection-annotation.ts'
import { seenNamespace, seenPod } from './seen-objects.ts'
import { PodStateFiles } from './state-files.ts'
import type { EnrolmentOutcome, PodName, PodServer } from './types.ts'

export interface EnrolmentOptions {
  readonly api: KubeApi
  readonly nodeName: string
  readonly capture: Capture
  readonly server: PodServer
  /** Where to remember pods, 0700. */
  readonly stateDirectory: string
  readonly logger: Logger
  readonly eligibility?: EligibilityOptions
  /** What becomes of a pod's connections while the agent is down; default false: they are refused. */
  readonly failOpen?: boolean
  /** How long after a pod has left the mesh a peer may not have heard of it. */
  readonly peersForgetMs: number
  /** Where the node's cgroups begin: the root of cgroup v2, on a node that has its machine to itself. */
  readonly nodeCgroup: string
  /** Chooses a pod's network namespace among those of its processes. */
  readonly prove: ProveNetns
  /** The host's /proc as seen from here. */
  readonly procRoot?: string
  /** Called when meshNamespaces() may answer otherwise than before. */
  readonly onMembership?: () => void
  /** Told of each pod that is not served, once for each reason. */
  readonly onRefused?: (pod: PodName, error: Error) => void
}

export interface CloseOptions {
  /** Takes every pod out of the mesh first (uninstall); otherwise capture stays live for the next agent. */
  readonly withdraw: boolean
}

const SUPERSEDED = 'another agent has taken this node over'

/** How long a new sandbox waits for the API server to say whose it is; the plugin waits a little longer (native/cni/). */
const LOOKUP_DEADLINE_MS = 6_000

/** How long an uninstall waits for annotations to be taken off. */
const ANNOTATION_DEADLINE_MS = 10_000

/** Starts enrolment: first what was remembered, without the API; then the informers, in the background. */
export async function startEnrolment(options: EnrolmentOptions): Promise<NodeEnrolment> {
  const logger = options.logger.child({ part: 'enrolment' })
  const ownership = await takeOwnership(options.stateDirectory, logger)
  const enrolment = new NodeEnrolment(options, ownership)
  await enrolment.restore()
  enrolment.watch()
  return enrolment
}

export class NodeEnrolment implements CniHandlers {
  readonly #options: EnrolmentOptions
  readonly #ownership: Ownership
  readonly #logger: Logger
  readonly #closing = new AbortController()
  readonly #pods = new Map<string, PodEnrolment>()
  readonly #context: PodEnrolmentContext
  readonly #states: PodStateFiles
  readonly #annotations: RedirectionAnnotations
  readonly #reports: PodReports
  readonly #lookup: PodLookup
  #podWatch: ResourceWatch<Pod> | undefined
  #namespaceWatch: ResourceWatch<Namespace> | undefined
  #isWithdrawingAll = false
  readonly #synced = Promise.withResolvers<void>()
  /** Resolves once the API's view has been applied to every pod that was there, and leftovers are swept. */
  readonly synced: Promise<void> = this.#synced.promise

  constructor(options: EnrolmentOptions, ownership: Ownership) {
    const { api, nodeName, capture, server, procRoot, nodeCgroup } = options
    this.#options = options
    this.#ownership = ownership
    const logger = options.logger.child({ part: 'enrolment' })
    this.#logger = logger
    const { signal } = this.#closing
    const rules = options.eligibility ?? DEFAULT_ELIGIBILITY
    this.#annotations = new RedirectionAnnotations({
      api,
      ownership,
      logger,
      signal,
      sharesCluster: rules.selectsNamespace !== undefined,
    })
    const events = new PodEvents({ api, nodeName, logger, signal })
    const { onRefused } = options
    this.#reports = new PodReports({ events, annotations: this.#annotations, logger, onRefused })
    this.#lookup = new PodLookup(api)
    this.#states = new PodStateFiles(options.stateDirectory, ownership, logger, procRoot)
    this.#context = {
      capture,
      server,
      states: this.#states,
      locate: locator(new PodFinder(() => findPodProcesses(nodeCgroup, procRoot)), options.prove),
      ownership,
      rules,
      failOpen: options.failOpen ?? false,
      peersForgetMs: options.peersForgetMs,
      logger,
      settled: (pod, outcome) => this.#settled(pod, outcome),
    }
    capture.onNetworkReport((uid, report) => this.#onNetworkReport(uid, report))
    // Closing before the first list is no one's error.
    this.synced.catch(() => undefined)
  }

  /** The pods captured now. */
  enrolledPods(): readonly PodName[] {
    return [...this.#pods.values()].filter((pod) => pod.isEnrolled).map((pod) => pod.name)
  }

  /** How every pod of the node stands, for the admin API. */
  standings(): readonly PodStanding[] {
    return [...this.#pods.values()].map(podStanding)
  }

  /** Enrols again what an earlier agent of this boot had enrolled. */
  async restore(): Promise<void> {
    const states = await this.#states.load()
    await Promise.all(
      states.map((state) => {
        const { uid, namespace, name, serviceAccount, netnsCookie, ...rest } = state
        const { isEnrolled, leftAt, ...place } = rest
        const network = { ...place, expectedCookie: netnsCookie }
        const pod = this.#pod({ uid, namespace, name, serviceAccount })
        return pod.observe({ kind: 'remembered', network, isEnrolled, leftAt })
      }),
    )
    if (states.length > 0)
      this.#logger.info(
        { known: states.length, enrolled: this.enrolledPods().length },
        'restored the pods of an earlier agent',
      )
  }

  /** The node's pods as the API server told of them. */
  pods(): Iterable<Pod> {
    return this.#podWatch?.values() ?? []
  }

  /** The namespaces with pods in the mesh; undefined until the API server has told of namespaces and pods. */
  meshNamespaces(workloads: Iterable<Workload>, clusterId: string): readonly string[] | undefined {
    const namespaces = this.#namespaceWatch
    const pods = this.#podWatch
    if (namespaces?.isSynced !== true || pods?.isSynced !== true) return undefined
    return meshNamespaces({
      namespaces: namespaces.values(),
      pods: pods.values(),
      workloads,
      clusterId,
      excludeNamespaces: this.#context.rules.excludeNamespaces,
      selectsNamespace: this.#context.rules.selectsNamespace,
    })
  }

  /** Which agent of this node it is; later ones have greater numbers. */
  get epoch(): number {
    return this.#ownership.epoch
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
      deleted: () => this.#options.onMembership?.(),
      listed: () => this.#options.onMembership?.(),
    })
    this.#podWatch = watchResource(api, PODS, {
      logger,
      keep: seenPod,
      fieldSelector: `spec.nodeName=${nodeName}`,
      added: (pod) => this.#onPod(pod),
      updated: (_, pod) => this.#onPod(pod),
      deleted: (pod) => {
        this.#tellMembership(pod)
        void this.#pods.get(pod.metadata?.uid ?? '')?.observe({ kind: 'deleted' })
      },
      listed: () => this.#options.onMembership?.(),
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

  /** Whether this agent is still the one that changes things on the node. */
  isInCharge(): Promise<boolean> {
    return this.#ownership.holds()
  }

  isReady(): Result<void, string> {
    if (this.#ownership.isLost) return err(SUPERSEDED)
    return this.#podWatch?.isSynced === true && this.#namespaceWatch?.isSynced === true
      ? ok(undefined)
      : err('the Kubernetes API has not been listed yet')
  }

  async onAdd(cni: CniPod, signal: AbortSignal): Promise<Result<void, AmbitError>> {
    if (this.#context.rules.excludeNamespaces.includes(cni.namespace)) return ok(undefined)
    const refuse = (code: ErrorCode, reason: string, cause?: unknown): Result<void, AmbitError> => {
      const message = `Cannot enrol pod ${cni.namespace}/${cni.name}: ${reason}`
      return err(new AmbitError(code, message, { cause }))
    }
    const fail = refuse.bind(undefined, 'AMB_ENROLMENT')
    if (!(await this.#ownership.holds())) return refuse('AMB_POD_UNKNOWN', SUPERSEDED)
    const { netnsPath, containerId, addresses } = cni
    const identity = await netnsAt(netnsPath)
    if (identity === undefined) return fail(`there is no network namespace at ${netnsPath}`)
    if (isSameNetns(identity, await ownNetns()))
      return fail(`${netnsPath} is the network namespace of the node`)
    const patience = AbortSignal.any([signal, AbortSignal.timeout(LOOKUP_DEADLINE_MS)])
    const found = await this.#lookup.forSandbox(cni, patience)
    if (!found.ok) return refuse('AMB_POD_UNKNOWN', found.error)

    const object = found.value
    const pod = this.#pod(nameOf(object))
    void this.#tellLabels(pod)
    const network = { netnsPath, identity, addresses, containerId }
    const outcome = await pod.observe({ kind: 'sandbox', object, network })
    if ((outcome.kind === 'enrolled' || outcome.kind === 'plain') && !signal.aborted)
      return ok(undefined)
    // The runtime tears the sandbox down and tries again with another: there is nothing left to enrol here.
    await this.#dropSandbox(pod, { containerId, identity })
    if (outcome.kind === 'failed')
      return outcome.error instanceof AmbitError
        ? err(outcome.error)
        : fail(outcome.error.message, outcome.error)
    return fail(outcome.kind === 'waiting' ? outcome.reason : 'the call was given up')
  }

  async onDel(cni: CniPod): Promise<void> {
    const pod = this.#findByCni(cni)
    if (pod === undefined) return
    const { netnsPath, containerId } = cni
    const named = netnsPath === '' ? undefined : await netnsAt(netnsPath)
    await this.#dropSandbox(pod, { containerId, identity: named ?? (await lostNetns(pod)) })
  }

  onCheck(cni: CniPod): Promise<Result<void, AmbitError>> {
    const pod = this.#findByCni(cni)
    const isWanted = pod?.desired.kind === 'captured'
    if (!isWanted || pod.isEnrolled) return Promise.resolve(ok(undefined))
    const message = `Cannot confirm pod ${cni.namespace}/${cni.name}: it belongs to the mesh and is not enrolled`
    return Promise.resolve(err(new AmbitError('AMB_ENROLMENT', message)))
  }

  /** Stops. Enrolments stay in place for the next agent, unless all are to be withdrawn. */
  async close({ withdraw }: CloseOptions): Promise<void> {
    if (withdraw) {
      this.#isWithdrawingAll = true
      this.#annotations.giveUpWhenRefused()
      await Promise.all([...this.#pods.values()].map((pod) => pod.observe({ kind: 'uninstalled' })))
      // The API server may be away; the mesh can be uninstalled all the same.
      await inTime(this.#annotations.settled(), ANNOTATION_DEADLINE_MS)
    }
    this.#closing.abort()
    await Promise.all([this.#podWatch?.close(), this.#namespaceWatch?.close()])
    await Promise.all([...this.#pods.values()].map((pod) => pod.close()))
    await this.#annotations.settled()
    this.#synced.reject(new Error('enrolment was closed'))
  }

  #settled(pod: PodEnrolment, outcome: EnrolmentOutcome): void {
    if (!pod.known.isDeleted) this.#reports.settled(pod, outcome)
    else if (pod.isPlain) this.#forget(pod)
  }

  #onNetworkReport(uid: string, report: NetworkReport): void {
    const pod = this.#pods.get(uid)
    if (pod === undefined) return
    // Fresh listeners are all that is needed.
    if (report.kind === 'familyCame') void pod.observe({ kind: 'listenersLost' })
    else this.#reports.network(pod.name, report)
  }

  #onPod(object: Pod): void {
    this.#tellMembership(object)
    const pod = this.#pod(nameOf(object))
    if (pod.known.namespaceLabels === undefined) void this.#tellLabels(pod)
    void pod.observe({ kind: 'object', object })
  }

  /** Only pods with the label change it, and pods change all the time. */
  #tellMembership({ metadata }: Pod): void {
    if (metadata?.labels?.[DATAPLANE_MODE_LABEL] !== undefined) this.#options.onMembership?.()
  }

  #onNamespace(namespace: Namespace): void {
    this.#options.onMembership?.()
    const labels = namespace.metadata?.labels ?? {}
    for (const pod of this.#pods.values())
      if (pod.name.namespace === namespace.metadata?.name)
        void pod.observe({ kind: 'namespaceLabels', labels })
  }

  /** As far as they are known; what changes of them later, #onNamespace tells. */
  #tellLabels(pod: PodEnrolment): Promise<unknown> {
    const labels = this.#lookup.namespaceLabels(pod.name.namespace)
    if (labels === undefined) return Promise.resolve()
    return pod.observe({ kind: 'namespaceLabels', labels })
  }

  /** The pod stays known: it may get another sandbox. */
  async #dropSandbox(
    pod: PodEnrolment,
    sandbox: { readonly containerId: string; readonly identity: NetnsIdentity | undefined },
  ): Promise<void> {
    await pod.observe({ kind: 'sandboxGone', ...sandbox })
    // Never seen by the informer: deleted before it could be, or about to be told to us.
    const isKnown = this.#podWatch?.get(objectKey({ metadata: pod.name })) !== undefined
    if (!isKnown && pod.known.isSandboxGone && pod.isPlain) this.#forget(pod)
  }

  #forget(pod: PodEnrolment): void {
    const { uid } = pod.name
    if (this.#pods.get(uid) !== pod) return
    this.#pods.delete(uid)
    this.#reports.forget(uid)
    void pod.close()
  }

  /** Applies the API's first answer to what was restored, then lets capture forget everything else. */
  async #afterFirstLists(
    pods: ResourceWatch<Pod>,
    namespaces: ResourceWatch<Namespace>,
  ): Promise<void> {
    await Promise.all([pods.synced, namespaces.synced])
    const unconfirmed = [...this.#pods.values()].filter((pod) => pod.known.object === undefined)
    await Promise.all(unconfirmed.map((pod) => pod.observe({ kind: 'deleted' })))
    await Promise.all([...this.#pods.values()].map((pod) => this.#tellLabels(pod)))
    // Also those that cannot be enrolled now: what an earlier agent had captured must not come out of the mesh by that.
    const keep = [...this.#pods.values()].filter(
      (pod) => pod.isEnrolled || pod.desired.kind !== 'plain',
    )
    if (!(await this.#ownership.holds())) return
    await this.#options.capture.sweep(new Set(keep.map((pod) => pod.name.uid)))
    this.#logger.info({ enrolled: this.enrolledPods().length, pods: pods.size }, 'in step')
    const late = [...this.#pods.values()].filter((pod) => pod.isLate)
    if (late.length > 0)
      this.#logger.warn(
        { pods: late.map(({ name }) => `${name.namespace}/${name.name}`) },
        'these pods had started before this agent and are captured now: connections that they have open stay outside the mesh',
      )
  }

  #pod(name: PodName): PodEnrolment {
    const known = this.#pods.get(name.uid)
    if (known !== undefined) return known
    const pod = new PodEnrolment(name, this.#context)
    this.#pods.set(name.uid, pod)
    if (this.#isWithdrawingAll) void pod.observe({ kind: 'uninstalled' })
    return pod
  }

  #findByCni(cni: CniPod): PodEnrolment | undefined {
    if (cni.uid !== undefined && this.#pods.has(cni.uid)) return this.#pods.get(cni.uid)
    const all = [...this.#pods.values()]
    return (
      all.find((pod) => pod.known.containerId === cni.containerId) ??
      all.find(
        ({ name }) =>
          cni.uid === undefined && name.namespace === cni.namespace && name.name === cni.name,
      )
    )
  }
}

/** The namespace in which a pod is known to be, when no process of it leads there any more. */
async function lostNetns({ known }: PodEnrolment): Promise<NetnsIdentity | undefined> {
  const { network } = known
  if (network === undefined) return undefined
  const present = await netnsAt(network.netnsPath)
  return isSameNetns(present, network.identity) ? undefined : network.identity
}

function nameOf(pod: Pod): PodName {
  return {
    uid: pod.metadata?.uid ?? '',
    namespace: pod.metadata?.namespace ?? '',
    name: pod.metadata?.name ?? '',
    serviceAccount: pod.spec?.serviceAccountName ?? 'default',
  }
}
