// SPDX-License-Identifier: Apache-2.0
// What the main thread and the data-plane workers say to each other. All of it is plain, cloneable data; fds travel
// as numbers, because they belong to the process and not to a thread.

import type { AuditEvent } from '../../../mesh/audit/event.ts'
import type { RevocationList } from '../../../mesh/identity/revocation-list.ts'
import type { TrustDomains } from '../../../mesh/identity/trust-policy.ts'
import type { WorkloadCertificate } from '../../../mesh/identity/types.ts'
import type { FormerMemory } from '../../../mesh/model/former-addresses.ts'
import type { MeshChange, PodUid, SpiffeId } from '../../../mesh/model/types.ts'
import type { ProfileRequest } from '../../../mesh/program/profile.ts'
import type { AccessSpec } from '../../../mesh/telemetry/access-spec.ts'
import type { LogFormat } from '../../../mesh/telemetry/log.ts'
import type { LevelSpec } from '../../../mesh/telemetry/log-levels.ts'
import type { EncodedRequest, Resource } from '../../../mesh/telemetry/otlp/wire.ts'
import type { PlaceLimits } from '../places.ts'
import type { TrafficDelta } from '../../../mesh/telemetry/traffic.ts'
import type { DataPlaneHandles, PodListeners } from '../../capture/types.ts'
import type { CallProbe, ProbedCall } from '../call-probe.ts'
import type { EjectionChange } from '../ejection-lines.ts'
import type { LastSaid } from '../decision/pod-policies.ts'
import type { MissingPolicies } from '../decision/policy-judge.ts'
import type { LocalPod } from '../local-pod.ts'
import type { CountTable } from '../connection-counts.ts'
import type { ConnectionDump } from '../open-connections.ts'

/** Whom events of the audit are about. */
export type AuditedPod = Pick<LocalPod, 'uid' | 'namespace' | 'name'>

/** `direct`: one relay inside the node, no TLS. `encrypt`: HBONE, over the pods' own network. */
export type SameNode = 'direct' | 'encrypt'

/** A worker's start data. */
export interface WorkerStart {
  readonly handles: DataPlaneHandles
  readonly network: string
  readonly logLevels: LevelSpec
  readonly logFormat: LogFormat
  readonly accessSpec: AccessSpec
  /** Whose access lines they are where they are exported, too; undefined where they are not. */
  readonly exportAs?: Resource
  readonly sameNode: SameNode
  /** Metrics' word for the security of a call inside the node. */
  readonly sameNodeSecurityLabel: string
  /** What becomes of calls into pods of whose policies one is missing. */
  readonly missingPolicies: MissingPolicies
  /** Policies of this namespace may concern the whole mesh. */
  readonly rootNamespace: string
  /** Whom to take for one of the mesh's own; each pod's own trust domain alone when left out. */
  readonly trust?: TrustDomains
  readonly placeLimits: PlaceLimits
  /** Where all workers count the pods' connections, and which of them this one is. */
  readonly countTable: CountTable
  readonly worker: number
  /** Memory the worker's HBONE connections may hold. */
  readonly heldLimitBytes: number
}

/** Sent by the main thread; nothing is answered but `request`. Order is kept. */
export type ToWorker =
  | { readonly kind: 'mesh'; readonly changes: readonly MeshChange[] }
  /** What the mesh has just forgotten: to a worker that starts later. */
  | { readonly kind: 'formerly'; readonly memory: FormerMemory }
  | { readonly kind: 'meshSynced' }
  /** A pod of this agent, whoever serves it: other pods may call it on the same node. */
  | {
      readonly kind: 'localPod'
      readonly pod: LocalPod
      /** What was said last of its workload: discovery may have dropped it. */
      readonly lastSaid?: LastSaid | undefined
    }
  | { readonly kind: 'certificate'; readonly certificate: WorkloadCertificate }
  /** There is none yet, or, with `isFinal`, waiting for one is in vain. */
  | {
      readonly kind: 'certificateFailed'
      readonly identity: SpiffeId
      readonly message: string
      readonly isFinal: boolean
    }
  | { readonly kind: 'certificateForgotten'; readonly identity: SpiffeId }
  /** In place of those before; connections whose peers they name are cut. */
  | { readonly kind: 'revocations'; readonly lists: readonly RevocationList[] }
  | { readonly kind: 'logLevels'; readonly levels: LevelSpec }
  /** Which lines the access log has. */
  | { readonly kind: 'accessSpec'; readonly spec: AccessSpec }
  | { readonly kind: 'request'; readonly id: number; readonly request: WorkerRequest }

/** Asks for something to be done and answered. */
export type WorkerRequest =
  /** Serve this pod's listeners; the worker owns the fds from now on. */
  | { readonly kind: 'servePod'; readonly pod: LocalPod; readonly listeners: PodListeners }
  /** The pod is being deleted: GOAWAY to those who have HBONE connections into it; all else goes on. */
  | { readonly kind: 'drainPod'; readonly uid: PodUid }
  /** Stop serving the pod: let connections end until the deadline, then cut. 0 cuts at once. */
  | { readonly kind: 'stopPod'; readonly uid: PodUid; readonly deadlineMs: number }
  /**
   * No pod may reach this one through its namespace fd any more; answered when the connections that did have ended,
   * by themselves or at the deadline.
   */
  | { readonly kind: 'forgetLocalPod'; readonly uid: PodUid; readonly deadlineMs: number }
  | { readonly kind: 'dump' }
  /** Make a call of the pod's, as its app would. */
  | { readonly kind: 'probeCall'; readonly uid: PodUid; readonly probe: CallProbe }
  /** Watch this thread for a while. */
  | { readonly kind: 'profile'; readonly profile: ProfileRequest }
  | { readonly kind: 'ping' }
  | { readonly kind: 'drainAll'; readonly deadlineMs: number }

/** The answers, by request kind. */
export interface WorkerAnswers {
  readonly servePod: undefined
  readonly drainPod: undefined
  readonly stopPod: { readonly cut: number }
  readonly forgetLocalPod: undefined
  readonly dump: ReadonlyMap<PodUid, readonly ConnectionDump[]>
  readonly probeCall: ProbedCall
  /** The text of the profile. */
  readonly profile: string
  readonly ping: undefined
  readonly drainAll: { readonly cut: number }
}

/** Sent by a worker. */
export type FromWorker =
  | { readonly kind: 'traffic'; readonly deltas: readonly TrafficDelta[] }
  /** Of one pod: an endpoint of a Service is left alone for a while, or takes connections again. */
  | { readonly kind: 'ejection'; readonly change: EjectionChange }
  /** Of one pod's connections: what goes on record, and how much more there was. */
  | {
      readonly kind: 'audit'
      readonly pod: AuditedPod
      readonly events: readonly AuditEvent[]
      readonly leftOut: number
    }
  /** Access lines to export, and how many there was no room for. */
  | {
      readonly kind: 'accessLines'
      readonly request: EncodedRequest
      readonly leftOut: number
    }
  | { readonly kind: 'certificateWanted'; readonly identity: SpiffeId }
  | {
      readonly kind: 'answer'
      readonly id: number
      readonly value: WorkerAnswers[WorkerRequest['kind']]
    }
  | { readonly kind: 'failure'; readonly id: number; readonly message: string }
