// SPDX-License-Identifier: Apache-2.0
// The open connections of a worker, filed under the pods they belong to. A call between two pods of this node is filed under
// both: as an outbound connection of the one, as an inbound connection of the other, whoever serves that one.

import { Drain } from '../../mesh/async/drain.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { PodUid, SocketAddress } from '../../mesh/model/types.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import type { DecidedBy } from '../../mesh/telemetry/connection-record.ts'
import type { Door, InboundCall } from './admission.ts'
import type { Connection, Folder, RecordSinks, Witness } from './connection.ts'
import type { LocalPod } from './local-pod.ts'
import { PodAudit } from './pod-audit.ts'

/**
 * Access lines one pod may cause: its connections are counted by the metrics in any case, and a port scan or a retry
 * loop must neither fill the node's log nor hide the other pods in it.
 */
const ACCESS_LINES = { burst: 5_000, perSecond: 500 }

/** A connection as the admin dump shows it. */
export interface ConnectionDump {
  readonly direction: 'inbound' | 'outbound'
  readonly src: string | undefined
  readonly actualDst: string | undefined
  readonly originalDst: string | undefined
  readonly protocol: 'HBONE' | 'TCP'
  /** The rule by which it was let in; left out where it took none. */
  readonly allowedBy?: DecidedBy
}

/** The connections of one stay of a pod: when it leaves and comes back, it begins anew. */
export class PodConnections implements Folder, Door {
  readonly pod: LocalPod
  readonly sinks: RecordSinks
  readonly accessBudget = new LogBudget(ACCESS_LINES)
  readonly audit: PodAudit
  readonly drain = new Drain<Connection>()
  witness: Witness | undefined
  #closedBy: EndReason | undefined

  constructor(pod: LocalPod, sinks: RecordSinks) {
    this.pod = pod
    this.sinks = sinks
    this.audit = new PodAudit((events) => sinks.postAudit(pod, events))
  }

  get closedBy(): EndReason | undefined {
    return this.#closedBy
  }

  /** Lets none begin any more, and cuts those that are left; says how many that were. */
  close(reason: EndReason): number {
    this.#closedBy ??= reason
    let cut = 0
    for (const connection of this.drain) if (connection.cut(reason)) cut += 1
    return cut
  }

  /** Lets them end until the deadline, then closes; without any time the pod's leaving is the reason. */
  async end(deadlineMs: number): Promise<{ readonly cut: number }> {
    if (deadlineMs <= 0) return { cut: this.close('podRemoved') }
    const drained = await this.drain.drain(deadlineMs, (connection) =>
      connection.cut('drained') ? 1 : 0,
    )
    this.close('drained')
    return drained
  }

  dump(
    allowedBy: (call: InboundCall, pod: LocalPod) => DecidedBy | undefined = () => undefined,
  ): ConnectionDump[] {
    return [...this.drain].map(({ about, call, called }) => ({
      direction: about.direction,
      src: show(about.sourceAddress),
      actualDst: show(about.destinationAddress),
      originalDst: show(called),
      protocol: about.security === 'mutual_tls' ? 'HBONE' : 'TCP',
      ...asAllowedBy(call && allowedBy(call, this.pod)),
    }))
  }
}

export class OpenConnections implements Iterable<PodConnections> {
  readonly #sinks: RecordSinks
  readonly #staying = new Map<PodUid, PodConnections>()
  /** Of pods that have left, until they are forgotten. */
  readonly #leaving = new Set<PodConnections>()

  constructor(sinks: RecordSinks) {
    this.#sinks = sinks
  }

  /** The pod's connections, those to come included. */
  of(pod: LocalPod): PodConnections {
    let connections = this.#staying.get(pod.uid)
    if (connections === undefined) {
      connections = new PodConnections(pod, this.#sinks)
      this.#staying.set(pod.uid, connections)
    }
    return connections
  }

  /** The pod leaves: what is filed under it from now on is of its next stay. Whoever ends what it left forgets it then. */
  leave(uid: PodUid): PodConnections | undefined {
    const connections = this.#staying.get(uid)
    if (connections === undefined) return undefined
    this.#staying.delete(uid)
    this.#leaving.add(connections)
    return connections
  }

  forget(connections: PodConnections): void {
    this.#leaving.delete(connections)
  }

  *[Symbol.iterator](): Generator<PodConnections> {
    yield* this.#staying.values()
    yield* this.#leaving
  }
}

function asAllowedBy(allowedBy: DecidedBy | undefined): Pick<ConnectionDump, 'allowedBy'> {
  return allowedBy === undefined ? {} : { allowedBy }
}

function show(address: SocketAddress | undefined): string | undefined {
  return address === undefined ? undefined : formatSocketAddress(address)
}
