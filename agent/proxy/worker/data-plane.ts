// SPDX-License-Identifier: Apache-2.0
// The inside of a data-plane worker: takes the main thread's messages, keeps a read-only copy of the mesh, and runs a
// PodProxy for each pod it serves. Free of worker_threads, so that it can be tested in one thread.

import { inTime, LATE } from '../../../mesh/async/deadline.ts'
import { errorMessage } from '../../../mesh/errors.ts'
import type { HeldMemory } from '../../../mesh/http2/held-memory.ts'
import { sourceKey } from '../../../mesh/hbone/knocking.ts'
import { handshakeBounds } from '../../../mesh/hbone/limits.ts'
import { HboneSources } from '../../../mesh/hbone/sources.ts'
import { Revocations } from '../../../mesh/identity/revocations.ts'
import {
  ownDomainOnly,
  type TrustDomains,
  type TrustPolicy,
  trustPolicy,
} from '../../../mesh/identity/trust-policy.ts'
import { HalfClosed } from '../../../mesh/relay/half-closed.ts'
import { MeshState, type MeshStateOptions } from '../../../mesh/model/mesh-state.ts'
import type { PodUid } from '../../../mesh/model/types.ts'
import { profileThread } from '../../../mesh/program/profile.ts'
import type { Logger } from '../../../mesh/telemetry/log.ts'
import type { LogLevels } from '../../../mesh/telemetry/log-levels.ts'
import type { DataPlaneSockets, PodListeners } from '../../capture/types.ts'
import type { AccessLog } from '../access-log.ts'
import { probeCall } from '../call-probe.ts'
import { CertificateCache } from '../certificate-cache.ts'
import { type Gate, type Judge, judge } from '../admission.ts'
import type { ConnectionCounts } from '../connection-counts.ts'
import type { MissingPolicies } from '../decision/policy-judge.ts'
import { type LocalPod, LocalPods } from '../local-pod.ts'
import { type ConnectionDump, OpenConnections } from '../open-connections.ts'
import { type PlaceLimits, Places } from '../places.ts'
import type { WorkerMesh } from '../pod-context.ts'
import { PolicyGate } from '../policy-gate.ts'
import { PolicyReview } from '../policy-review.ts'
import { podsBoundBy, skippedWaypoint } from '../skipped-waypoint.ts'
import { peerProbe } from '../peer-probe.ts'
import { PodProxy } from '../pod-proxy.ts'
import type { SocketEngine } from '../../../mesh/relay/socket-engine.ts'
import { TrafficCounters } from '../traffic-counters.ts'
import type {
  FromWorker,
  SameNode,
  ToWorker,
  WorkerAnswers,
  WorkerRequest,
} from './worker-protocol.ts'

export interface DataPlaneOptions {
  readonly sockets: DataPlaneSockets
  /** Serves apps' sockets; without it Node does. */
  readonly engine?: SocketEngine | undefined
  readonly network: string
  /** Whether pods of this node reach one another through one relay, or by HBONE as those of other nodes do. */
  readonly sameNode: SameNode
  /** Metrics' word for the security of a call inside the node. */
  readonly sameNodeSecurityLabel: string
  readonly missingPolicies: MissingPolicies
  readonly rootNamespace: string
  readonly trust?: TrustDomains
  readonly placeLimits: PlaceLimits
  readonly counts: ConnectionCounts
  /** The worker's account of what its HBONE connections hold. */
  readonly memory: HeldMemory
  readonly log: Logger
  /** Of all loggers of the thread. */
  readonly levels?: Pick<LogLevels, 'set'>
  readonly accessLog: AccessLog
  /** Writes the access lines that wait. */
  readonly flushAccessLog?: () => void
  readonly post: (message: FromWorker) => void
  /** For tests. */
  readonly reportTrafficMs?: number
  readonly certificateWaitMs?: number | undefined
  readonly judge?: Judge
  readonly now?: () => number
}

/** How often open connections report their bytes; well below the interval of a scrape. */
const REPORT_TRAFFIC_MS = 5_000

/** A profile is over when its time is: whoever asked may have gone. */
const NEVER_ABORTED = new AbortController().signal

/** The worker's copy of the mesh; waiters are released by the first complete picture. */
class SyncedMesh implements WorkerMesh {
  readonly state: MeshState
  isSynced = false
  readonly #synced = Promise.withResolvers<true>()

  constructor(options: MeshStateOptions) {
    this.state = new MeshState(options)
  }

  synced(): void {
    this.isSynced = true
    this.#synced.resolve(true)
  }

  async whenSynced(timeoutMs: number): Promise<boolean> {
    return this.isSynced || (await inTime(this.#synced.promise, timeoutMs)) !== LATE
  }
}

export class DataPlane {
  readonly #options: DataPlaneOptions
  readonly #mesh: SyncedMesh
  readonly #localPods = new LocalPods()
  readonly #proxies = new Map<PodUid, PodProxy>()
  readonly #open: OpenConnections
  readonly #gate: Gate
  readonly #policies: PolicyGate
  readonly #review: PolicyReview
  /** Of pods that have left and still have connections. */
  readonly #leaving = new Set<PodProxy>()
  readonly #certificates: CertificateCache
  readonly #counters: TrafficCounters
  readonly #places: Places
  readonly #halfClosed = new HalfClosed(peerProbe)
  readonly #sources: HboneSources
  readonly #report: NodeJS.Timeout
  readonly #revocations = new Revocations()
  readonly #trust: TrustPolicy | undefined

  constructor(options: DataPlaneOptions) {
    this.#options = options
    this.#trust = options.trust && trustPolicy(options.trust, this.#revocations)
    this.#mesh = new SyncedMesh(options)
    this.#certificates = new CertificateCache(
      (identity) => options.post({ kind: 'certificateWanted', identity }),
      options.certificateWaitMs,
    )
    this.#counters = new TrafficCounters(
      (deltas) => options.post({ kind: 'traffic', deltas }),
      options.sameNodeSecurityLabel,
    )
    this.#open = new OpenConnections({
      accessLog: options.accessLog,
      counters: this.#counters,
      postAudit: ({ uid, namespace, name }, { events, leftOut }) =>
        options.post({ kind: 'audit', pod: { uid, namespace, name }, events, leftOut }),
    })
    this.#places = new Places(options.counts, options.placeLimits)
    this.#sources = new HboneSources(
      handshakeBounds(options.placeLimits.handshakes / options.counts.workers),
      this.#places,
    )
    this.#policies = new PolicyGate({
      mesh: this.#mesh.state,
      mode: options.missingPolicies,
      onChange: ({ pods, peers }) => {
        this.#review.schedule(pods)
        this.#review.schedulePeers(peers)
      },
      ...(options.now && { now: options.now }),
    })
    this.#gate = {
      places: this.#places,
      callerOf: (address) =>
        sourceKey(address, this.#mesh.state.findWorkload(address) !== undefined),
      judge: options.judge ?? ((call, pod) => judge(call, pod) ?? this.#policies.judge(call, pod)),
      policies: this.#policies,
      judgeOutbound: (call, pod) => this.#policies.judgeOutbound(call, pod),
    }
    this.#review = new PolicyReview(this.#open, {
      judge: this.#gate.judge,
      judgeOutbound: this.#gate.judgeOutbound,
      judgeWay: (connection, pod) =>
        skippedWaypoint(connection, pod, this.#mesh.state, this.#trustOf(pod)),
    })
    this.#mesh.state.subscribe((changes) => {
      this.#review.schedule(podsBoundBy(changes, this.#open))
    })
    this.#report = setInterval(() => {
      for (const { drain, audit } of this.#open) {
        for (const connection of drain) connection.reportTraffic()
        audit.flush()
      }
    }, options.reportTrafficMs ?? REPORT_TRAFFIC_MS).unref()
  }

  /** Takes one message of the main thread. Never throws; failed requests are answered as failures. */
  receive(message: ToWorker): void {
    switch (message.kind) {
      case 'mesh':
        this.#mesh.state.apply(message.changes)
        return
      case 'formerly':
        this.#mesh.state.recall(message.memory)
        return
      case 'meshSynced':
        this.#mesh.synced()
        return
      case 'localPod':
        this.#policies.follow(message.pod, message.lastSaid)
        // Unknown as a neighbour, a pod is reached by HBONE like any other.
        if (this.#options.sameNode === 'direct') this.#localPods.add(message.pod)
        return
      case 'certificate':
        if (!this.#certificates.set(message.certificate)) return
        for (const proxy of [...this.#proxies.values(), ...this.#leaving])
          if (proxy.identity === message.certificate.identity)
            proxy.setCertificate(message.certificate).catch((thrown: unknown) => {
              this.#options.log.error(
                { error: errorMessage(thrown), pod: proxy.pod.uid },
                'HBONE listener failed',
              )
            })
        return
      case 'certificateFailed':
        this.#certificates.fail(message)
        return
      case 'certificateForgotten':
        this.#certificates.forget(message.identity)
        return
      case 'revocations':
        this.#revocations.replace(message.lists)
        for (const proxy of [...this.#proxies.values(), ...this.#leaving]) proxy.reviewRevoked()
        return
      case 'logLevels':
        this.#options.levels?.set(message.levels)
        return
      case 'accessSpec':
        this.#options.accessLog.set(message.spec)
        return
      case 'request':
        this.#answer(message.request).then(
          (value) => this.#options.post({ kind: 'answer', id: message.id, value }),
          (thrown: unknown) =>
            this.#options.post({ kind: 'failure', id: message.id, message: errorMessage(thrown) }),
        )
        return
    }
  }

  /**
   * Asks the rules again, soon, about every open connection into the pod, or into all, and cuts those that may not be there any more: to
   * be called when something has changed that they go by, beside policies, which do so by themselves.
   */
  review(uid?: PodUid): void {
    this.#review.schedule(uid === undefined ? [...this.#open].map(({ pod }) => pod.uid) : [uid])
  }

  async #answer(request: WorkerRequest): Promise<WorkerAnswers[WorkerRequest['kind']]> {
    switch (request.kind) {
      case 'servePod':
        return this.#servePod(request.pod, request.listeners)
      case 'drainPod':
        this.#proxies.get(request.uid)?.turnPeersAway()
        return undefined
      case 'stopPod':
        return this.#stopPod(request.uid, request.deadlineMs)
      case 'forgetLocalPod':
        return this.#forgetLocalPod(request.uid, request.deadlineMs)
      case 'dump':
        return this.#dump()
      case 'probeCall': {
        const proxy = this.#proxies.get(request.uid)
        if (proxy === undefined) throw new Error('the pod is not served')
        return probeCall(this.#options.sockets, proxy.pod, proxy.connections, request.probe)
      }
      case 'profile':
        return profileThread(request.profile, NEVER_ABORTED)
      case 'ping':
        return undefined
      case 'drainAll': {
        // Before stopPod adds the others, whose connections would be counted twice.
        const leaving = [...this.#leaving]
        const drained = await Promise.all([
          ...[...this.#proxies.keys()].map((uid) =>
            this.#stopPod(uid, request.deadlineMs, { isCaptured: true }),
          ),
          // Again, with less time than they were given when their pods left.
          ...leaving.map((proxy) => proxy.drain(request.deadlineMs)),
        ])
        clearInterval(this.#report)
        this.#review.close()
        this.#policies.close()
        this.#counters.flush()
        for (const { audit } of this.#open) audit.flush()
        // Whoever asked for this may end the thread next.
        this.#options.flushAccessLog?.()
        return { cut: drained.reduce((sum, { cut }) => sum + cut, 0) }
      }
    }
  }

  async #servePod(pod: LocalPod, listeners: PodListeners): Promise<undefined> {
    const served = this.#proxies.get(pod.uid)
    const proxy = served ?? this.#newProxy(pod)
    this.#proxies.set(pod.uid, proxy)
    try {
      await proxy.serve(listeners)
    } catch (thrown) {
      // The main thread takes back the listeners that are still open: nothing may be left that uses them.
      if (this.#proxies.get(pod.uid) === proxy) this.#proxies.delete(pod.uid)
      await proxy.remove()
      throw thrown
    }
    return undefined
  }

  #newProxy(pod: LocalPod): PodProxy {
    return new PodProxy({
      pod,
      sockets: this.#options.sockets,
      mesh: this.#mesh,
      localPods: this.#localPods,
      certificates: this.#certificates,
      memory: this.#options.memory,
      sources: this.#sources,
      gate: this.#gate,
      halfClosed: this.#halfClosed,
      engine: this.#options.engine,
      open: this.#open,
      onEjection: (change) => this.#options.post({ kind: 'ejection', change }),
      log: this.#options.log,
      trust: this.#trustOf(pod),
    })
  }

  #trustOf({ identity }: LocalPod): TrustPolicy {
    return this.#trust ?? ownDomainOnly(identity, this.#revocations)
  }

  async #stopPod(
    uid: PodUid,
    deadlineMs: number,
    still: { readonly isCaptured?: boolean } = {},
  ): Promise<{ readonly cut: number }> {
    const proxy = this.#proxies.get(uid)
    if (proxy === undefined) return { cut: 0 }
    this.#proxies.delete(uid)
    this.#open.leave(uid)
    this.#leaving.add(proxy)
    const drained = deadlineMs > 0 ? await proxy.drain(deadlineMs, still) : { cut: 0 }
    const removed = await proxy.remove()
    this.#leaving.delete(proxy)
    this.#open.forget(proxy.connections)
    this.#forgetPolicies(uid)
    return { cut: drained.cut + removed.cut }
  }

  /** No pod finds it any more; what pods of this worker have open into a pod that another worker serves may end. */
  async #forgetLocalPod(uid: PodUid, deadlineMs: number): Promise<undefined> {
    this.#localPods.remove(uid)
    // Its own proxy, if it is this worker's, sees to its connections itself.
    if (this.#proxies.has(uid)) return undefined
    const visited = this.#open.leave(uid)
    if (visited === undefined) {
      this.#forgetPolicies(uid)
      return undefined
    }
    await visited.end(deadlineMs)
    this.#open.forget(visited)
    this.#forgetPolicies(uid)
    return undefined
  }

  /** What was heard of them is worth something as long as a connection of the pod's is left. */
  #forgetPolicies(uid: PodUid): void {
    // It is served again, in another sandbox.
    if (this.#proxies.has(uid)) return
    for (const { pod } of this.#open) if (pod.uid === uid) return
    this.#policies.forget(uid)
  }

  #dump(): ReadonlyMap<PodUid, readonly ConnectionDump[]> {
    const dumps = new Map<PodUid, readonly ConnectionDump[]>()
    for (const uid of this.#proxies.keys()) dumps.set(uid, [])
    // Also of pods that another worker serves: calls to them are carried here.
    for (const connections of this.#open) {
      const { uid } = connections.pod
      const open = connections.dump((call, pod) => this.#policies.allowedBy(call, pod))
      if (open.length > 0) dumps.set(uid, [...(dumps.get(uid) ?? []), ...open])
    }
    return dumps
  }
}
