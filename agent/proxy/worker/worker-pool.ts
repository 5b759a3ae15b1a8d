// SPDX-License-Identifier: Apache-2.0
// The main thread's side of the data plane: gives each pod to the least loaded worker, keeps all workers supplied
// with mesh state, local pods and certificates, and survives the death of any of them.

import { closeSync, openSync } from 'node:fs'
import { errorMessage } from '../../../mesh/errors.ts'
import type { RevocationList } from '../../../mesh/identity/revocation-list.ts'
import type { CertificateSource, WorkloadCertificate } from '../../../mesh/identity/types.ts'
import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type { MeshChange, PodUid, SpiffeId, WorkloadUid } from '../../../mesh/model/types.ts'
import type { ProfileRequest } from '../../../mesh/program/profile.ts'
import type { Logger } from '../../../mesh/telemetry/log.ts'
import type { AccessSpec } from '../../../mesh/telemetry/access-spec.ts'
import type { LevelSpec } from '../../../mesh/telemetry/log-levels.ts'
import type { EncodedRequest } from '../../../mesh/telemetry/otlp/wire.ts'
import type { TrafficDelta } from '../../../mesh/telemetry/traffic.ts'
import { closeListeners } from '../../capture/listeners.ts'
import type { Enrolment, PodListeners } from '../../capture/types.ts'
import type { CallProbe, ProbedCall } from '../call-probe.ts'
import type { LocalPod } from '../local-pod.ts'
import { type CountTable, countTable, Seats, strikeOut } from '../connection-counts.ts'
import type { ConnectionDump } from '../open-connections.ts'
import type { LastSaid } from '../decision/pod-policies.ts'
import { cpuWaitMs } from './cpu-wait.ts'
import { Watchdog, type WatchdogOptions } from './watchdog.ts'
import { WorkerLink } from './worker-link.ts'
import type { EjectionChange } from '../ejection-lines.ts'
import type { PodAuditEvents } from '../pod-audit.ts'
import type { AuditedPod, WorkerStart } from './worker-protocol.ts'

/** Shorter than a connection waits, so that it can say why it did so in vain. While any waits, its worker asks again. */
const CERTIFICATE_WAIT_MS = 4_000

/** A worker that dies at once each time must not make the agent spin. */
const RESTART_DELAY_MS = { first: 50, longest: 10_000 }

/** A worker that lived this long was sound: its death does not count towards the delay of the next start. */
const SOUND_AFTER_MS = 60_000

export interface WorkerPoolOptions {
  readonly count: number
  readonly workerUrl: URL
  readonly start: Omit<WorkerStart, 'countTable' | 'worker'>
  /** The agent's mesh state; the pool sends each worker a snapshot and every change. */
  readonly mesh: MeshState
  /** What was said last of a workload, also if the mesh state does not know it any more. */
  readonly lastSaid: (uid: WorkloadUid) => LastSaid | undefined
  readonly certificates: CertificateSource
  readonly log: Logger
  /** What a worker has counted. */
  readonly onTraffic: (deltas: readonly TrafficDelta[], worker: number) => void
  /** Access lines of a worker to export, and how many there was no room for; only if `start` says whose they are. */
  readonly onAccessLines?: (request: EncodedRequest, leftOut: number) => void
  /** A worker died, and its connections with it. */
  readonly onWorkerLost?: (worker: number) => void
  /** An endpoint of a Service is ejected for a pod, or has recovered. */
  readonly onEjection: (change: EjectionChange) => void
  /** What goes on record of a pod's connections. */
  readonly onAudit: (pod: AuditedPod, events: PodAuditEvents) => void
  /** How long a worker may be silent; tests pass their own. */
  readonly watchdog?: Pick<WatchdogOptions, 'intervalMs' | 'silenceMs'>
}

const threadName = (index: number): string => `data-plane-${index}`

interface Slot {
  readonly index: number
  link: WorkerLink
  startedAt: number
  restartDelayMs: number
  restart: NodeJS.Timeout | undefined
  isUp: boolean
}

interface ServedPod {
  readonly pod: LocalPod
  /** The worker that serves it; undefined once that is dead. */
  slot: Slot | undefined
  /** Told when its worker is dead and another can take the pod. */
  readonly listenersLost: () => void
}

export class WorkerPool {
  readonly #options: WorkerPoolOptions
  readonly #slots: Slot[] = []
  readonly #pods = new Map<string, ServedPod>()
  readonly #countTable: CountTable
  readonly #seats = new Seats()
  readonly #unsubscribe: (() => void)[] = []
  readonly #watchdog: Watchdog
  /** What a worker that starts later is told. */
  #logLevels: LevelSpec
  #accessSpec: AccessSpec
  #isSynced = false
  #revocations: readonly RevocationList[] = []
  #isClosing = false

  constructor(options: WorkerPoolOptions) {
    this.#options = options
    this.#logLevels = options.start.logLevels
    this.#accessSpec = options.start.accessSpec
    this.#countTable = countTable(options.count)
    for (let index = 0; index < options.count; index += 1) {
      const slot: Slot = {
        index,
        link: this.#spawn(index),
        startedAt: performance.now(),
        restartDelayMs: RESTART_DELAY_MS.first,
        restart: undefined,
        isUp: true,
      }
      this.#slots.push(slot)
      this.#tellMesh(slot)
    }
    this.#watchdog = new Watchdog({
      ...options.watchdog,
      workers: () =>
        this.#slots
          .filter(({ link }) => link.hasAnswered && !link.isUnkillable)
          .map(({ index, link }) => ({
            index,
            ping: () => link.ask({ kind: 'ping' }),
            cpuWaitMs: () => cpuWaitMs(threadName(index)),
            end: () => link.kill(),
          })),
      onHung: ({ index }, silentMs) =>
        options.log.error(
          { worker: index, silentMs: Math.round(silentMs) },
          'a data-plane worker hangs; it is ended, and its pods are served anew',
        ),
    })
    this.#unsubscribe.push(
      () => this.#watchdog.close(),
      options.mesh.subscribe((changes) => this.#broadcastMesh(changes)),
      options.certificates.onCertificate((certificate) => this.#spreadCertificate(certificate)),
    )
  }

  /** Resolves when every worker answers: the data plane runs. */
  async ready(): Promise<void> {
    await Promise.all(this.#slots.map(({ link }) => link.ask({ kind: 'ping' })))
  }

  /** The workers that do not answer within the time; empty when all is well. */
  async unresponsive(timeoutMs: number): Promise<readonly number[]> {
    const answers = await Promise.all(
      this.#slots.map(async ({ link, index }) =>
        (await link.isAlive(timeoutMs)) ? undefined : index,
      ),
    )
    return answers.filter((index) => index !== undefined)
  }

  /** The workers that hang and cannot be ended: the process must be. */
  get unkillable(): readonly number[] {
    return this.#slots.filter(({ link }) => link.isUnkillable).map(({ index }) => index)
  }

  /** The first full picture of the mesh is there. */
  meshSynced(): void {
    this.#isSynced = true
    for (const { link } of this.#slots) link.send({ kind: 'meshSynced' })
  }

  /**
   * Serves a pod, or goes on serving it with fresh listeners; resolves when its captured traffic is served. The pool
   * owns the listeners' fds from now on. `listenersLost` is called when the pod's worker is dead and another is up: it
   * wants to be added again, with listeners made anew. When a first addPod rejects, nothing of the pod is left here.
   */
  async addPod(
    pod: Omit<LocalPod, 'netnsFd' | 'seat'>,
    enrolment: Enrolment,
    listenersLost: () => void,
  ): Promise<void> {
    const { listeners } = enrolment
    if (this.#isClosing) {
      closeListeners(listeners)
      throw new Error('the data plane is closing')
    }
    const known = this.#pods.get(pod.uid)
    // An fd of our own: capture may close its own at withdrawal, while a worker is about to use the number.
    const netnsFd = known?.pod.netnsFd ?? openSync(`/proc/self/fd/${enrolment.netnsFd}`, 'r')
    const seat = known?.pod.seat ?? this.#seats.take()
    const served: ServedPod = { pod: { ...pod, netnsFd, seat }, slot: undefined, listenersLost }
    this.#pods.set(pod.uid, served)
    if (known === undefined) this.#options.certificates.retain(pod.identity)
    for (const slot of this.#slots) this.#tellPod(slot, served.pod)
    const slot = known?.slot?.isUp === true ? known.slot : this.#leastLoaded()
    try {
      await this.#serve(served, slot, listeners)
    } catch (thrown) {
      if (served.slot === slot) served.slot = undefined
      if (known === undefined) await this.removePod(pod.uid, 0)
      throw thrown
    }
  }

  /** The pod is being deleted: its peers are told to send nothing new over the connections they have into it. */
  async drainPod(uid: string): Promise<void> {
    const served = this.#pods.get(uid)
    await served?.slot?.link.ask({ kind: 'drainPod', uid: served.pod.uid })
  }

  /** Stops serving a pod and forgets it everywhere. Idempotent. */
  async removePod(podUid: string, deadlineMs: number): Promise<void> {
    const served = this.#pods.get(podUid)
    if (served === undefined) return
    this.#pods.delete(podUid)
    const { uid, identity, netnsFd, seat } = served.pod
    await Promise.allSettled([
      served.slot?.link.ask({ kind: 'stopPod', uid, deadlineMs }),
      ...this.#slots.map(({ link }) => link.ask({ kind: 'forgetLocalPod', uid, deadlineMs })),
    ])
    closeSync(netnsFd)
    this.#seats.giveBack(seat)
    this.#options.certificates.release(identity)
    if (![...this.#pods.values()].some(({ pod }) => pod.identity === identity))
      for (const { link } of this.#slots) link.send({ kind: 'certificateForgotten', identity })
  }

  pods(): readonly LocalPod[] {
    return [...this.#pods.values()].map(({ pod }) => pod)
  }

  /** Every open connection, by pod. */
  async connections(): Promise<ReadonlyMap<string, readonly ConnectionDump[]>> {
    const dumps = await Promise.allSettled(
      this.#slots.map(({ link }) => link.ask({ kind: 'dump' })),
    )
    const all = new Map<string, readonly ConnectionDump[]>()
    for (const dump of dumps)
      if (dump.status === 'fulfilled')
        // A pod's calls inside the node are carried by their callers' workers.
        for (const [uid, open] of dump.value) all.set(uid, [...(all.get(uid) ?? []), ...open])
    return all
  }

  /** Makes a call of the pod's, as its app would; undefined when the pod is not served. Rejects where it cannot be made. */
  probeCall(uid: PodUid, probe: CallProbe): Promise<ProbedCall> | undefined {
    return this.#pods.get(uid)?.slot?.link.ask({ kind: 'probeCall', uid, probe })
  }

  /** How loud the workers' parts are, `data-plane` and `access`. */
  setLogLevels(levels: LevelSpec): void {
    this.#logLevels = levels
    for (const { link } of this.#slots) link.send({ kind: 'logLevels', levels })
  }

  /** Which lines the access log has, from now on. */
  setAccessSpec(spec: AccessSpec): void {
    this.#accessSpec = spec
    for (const { link } of this.#slots) link.send({ kind: 'accessSpec', spec })
  }

  /** Which certificates are revoked, from now on: in place of what was said before. */
  setRevocations(lists: readonly RevocationList[]): void {
    this.#revocations = lists
    for (const { link } of this.#slots) link.send({ kind: 'revocations', lists })
  }

  /** Watches the thread `data-plane-N` for a while; undefined when there is none of that name. */
  profile(thread: string, profile: ProfileRequest): Promise<string> | undefined {
    const slot = this.#slots.find(({ index }) => threadName(index) === thread)
    return slot?.link.ask({ kind: 'profile', profile })
  }

  /** Lets connections end until the deadline, cuts the rest, stops the workers. Says how many were cut. */
  async close(deadlineMs: number): Promise<{ readonly cut: number }> {
    this.#isClosing = true
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe()
    let cut = 0
    await Promise.all(
      this.#slots.map(async (slot) => {
        clearTimeout(slot.restart)
        const drained = await slot.link
          .ask({ kind: 'drainAll', deadlineMs })
          .catch(() => ({ cut: 0 })) // a dead worker has nothing left to drain
        cut += drained.cut
        await slot.link.terminate()
      }),
    )
    for (const { pod } of this.#pods.values()) {
      closeSync(pod.netnsFd)
      this.#options.certificates.release(pod.identity)
    }
    this.#pods.clear()
    return { cut }
  }

  #spawn(index: number): WorkerLink {
    const start: WorkerStart = {
      ...this.#options.start,
      logLevels: this.#logLevels,
      accessSpec: this.#accessSpec,
      countTable: this.#countTable,
      worker: index,
    }
    return new WorkerLink(this.#options.workerUrl, start, threadName(index), {
      onTraffic: (deltas) => this.#options.onTraffic(deltas, index),
      onAccessLines: (request, leftOut) => this.#options.onAccessLines?.(request, leftOut),
      onEjection: this.#options.onEjection,
      onAudit: this.#options.onAudit,
      onCertificateWanted: (link, identity) => void this.#supplyCertificate(link, identity),
      onExit: (error) => this.#workerDied(index, error),
    })
  }

  async #serve(served: ServedPod, slot: Slot, listeners: PodListeners): Promise<void> {
    served.slot = slot
    const { pod } = served
    // Serving a pod does not wait for the CA.
    const certificate = this.#options.certificates.current(pod.identity)
    if (certificate !== undefined) slot.link.send({ kind: 'certificate', certificate })
    await slot.link.servePod(pod, listeners)
  }

  async #supplyCertificate(link: WorkerLink, identity: SpiffeId): Promise<void> {
    const result = await this.#options.certificates.get(
      identity,
      AbortSignal.timeout(CERTIFICATE_WAIT_MS),
    )
    if (result.ok) link.send({ kind: 'certificate', certificate: result.value })
    else {
      const { kind, message } = result.error
      const isFinal = kind !== 'unavailable'
      link.send({ kind: 'certificateFailed', identity, message, isFinal })
    }
  }

  #spreadCertificate(certificate: WorkloadCertificate): void {
    const slots = new Set<Slot>()
    for (const { pod, slot } of this.#pods.values())
      if (slot !== undefined && pod.identity === certificate.identity) slots.add(slot)
    for (const { link } of slots) link.send({ kind: 'certificate', certificate })
  }

  /** What is known before a worker starts: to the first ones, the policies that an earlier agent kept. */
  #tellMesh({ link }: Slot): void {
    const { mesh } = this.#options
    link.send({ kind: 'formerly', memory: mesh.formerly })
    const changes = mesh.snapshot()
    if (changes.length > 0) link.send({ kind: 'mesh', changes })
  }

  #tellPod({ link }: Slot, pod: LocalPod): void {
    link.send({ kind: 'localPod', pod, lastSaid: this.#options.lastSaid(pod.workloadUid) })
  }

  #broadcastMesh(changes: readonly MeshChange[]): void {
    for (const { link } of this.#slots) link.send({ kind: 'mesh', changes })
  }

  #leastLoaded(): Slot {
    const load = new Map<Slot, number>()
    for (const { slot } of this.#pods.values())
      if (slot !== undefined) load.set(slot, (load.get(slot) ?? 0) + 1)
    const up = this.#slots.filter(({ isUp }) => isUp)
    const [first, ...others] = up.length > 0 ? up : this.#slots
    if (first === undefined) throw new Error('a worker pool has at least one worker')
    return others.reduce(
      (best, slot) => ((load.get(slot) ?? 0) < (load.get(best) ?? 0) ? slot : best),
      first,
    )
  }

  #workerDied(index: number, error: Error | undefined): void {
    const slot = this.#slots[index]
    if (slot === undefined || this.#isClosing) return
    // Its connections died with it.
    strikeOut(this.#countTable, index)
    this.#options.onWorkerLost?.(index)
    const orphans = [...this.#pods.values()].filter((served) => served.slot === slot)
    slot.isUp = false
    const livedMs = performance.now() - slot.startedAt
    if (livedMs > SOUND_AFTER_MS) slot.restartDelayMs = RESTART_DELAY_MS.first
    this.#options.log.error(
      {
        worker: index,
        pods: orphans.map(({ pod }) => pod.uid),
        error: error === undefined ? 'exited' : errorMessage(error),
        restartInMs: slot.restartDelayMs,
      },
      'a data-plane worker died; its pods get fresh listeners on another',
    )
    slot.restart = setTimeout(() => this.#restart(slot), slot.restartDelayMs)
    slot.restartDelayMs = Math.min(slot.restartDelayMs * 2, RESTART_DELAY_MS.longest)
    for (const orphan of orphans) orphan.slot = undefined
    // With another worker up the pods move at once; alone, they wait for the replacement.
    if (this.#slots.some(({ isUp }) => isUp))
      for (const { listenersLost } of orphans) listenersLost()
  }

  #restart(slot: Slot): void {
    slot.link = this.#spawn(slot.index)
    slot.startedAt = performance.now()
    slot.isUp = true
    // Before anything that makes connections.
    slot.link.send({ kind: 'revocations', lists: this.#revocations })
    this.#tellMesh(slot)
    if (this.#isSynced) slot.link.send({ kind: 'meshSynced' })
    for (const { pod } of this.#pods.values()) this.#tellPod(slot, pod)
    for (const { slot: home, listenersLost } of this.#pods.values())
      if (home === undefined) listenersLost()
  }
}
