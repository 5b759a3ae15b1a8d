// SPDX-License-Identifier: Apache-2.0
// What the server of the dashboard tells its page: plain data, by which both sides are checked. Times are milliseconds since the epoch,
// rates are per second.

/** What an edge's connections are authenticated by; `unused` when none was opened. */
export type Security = 'mutual_tls' | 'node_local' | 'plaintext' | 'unused'

export interface Rates {
  readonly connections: number
  readonly requestBytes: number
  readonly responseBytes: number
  readonly errors: number
  readonly denials: number
  /** Of HTTP, as waypoints count them: all, those that ended in 5xx or without an answer, those that a policy refused. */
  readonly requests: number
  readonly failedRequests: number
  readonly deniedRequests: number
}

/** Since the agents started. */
export interface Totals {
  readonly opened: number
  readonly closed: number
  readonly requestBytes: number
  readonly responseBytes: number
  readonly errors: number
  readonly denials: number
  readonly requests: number
  readonly failedRequests: number
  readonly deniedRequests: number
}

/** A workload: what one owner runs (a Deployment, say); or the peers that discovery does not know, as one. */
export interface GraphNode {
  /** `namespace/name`. */
  readonly id: string
  readonly namespace: string
  readonly name: string
  readonly isUnknown: boolean
  /** It is a waypoint: calls go into it, and requests from it. */
  readonly isWaypoint: boolean
  readonly services: readonly string[]
  readonly pods: number
  /** How many of them are in the mesh; undefined where it is not known. */
  readonly captured: number | undefined
  /** Something is wrong with a pod of it: cut off, could not be enrolled, not ready. */
  readonly troubles: number
}

export interface GraphEdge {
  readonly from: string
  readonly to: string
  readonly services: readonly string[]
  /** The weakest of its connections. */
  readonly security: Security
  readonly rates: Rates
  readonly totals: Totals
}

export interface AgentView {
  readonly node: string
  readonly pod: string
  readonly version: string
  readonly restarts: number
  /** One word or a few: `in step`, `not ready: ...`. */
  readonly state: string
  readonly isWell: boolean
  /** When it last answered; undefined when it never did. */
  readonly answeredAt: number | undefined
  /** Since when it cannot be asked, and why. */
  readonly silent: { readonly since: number; readonly reason: string } | undefined
}

/** A pod of a waypoint. Counts are since it started, rates are per second. */
export interface WaypointView {
  /** `namespace/name` of the Gateway. */
  readonly waypoint: string
  readonly pod: string
  readonly node: string
  readonly version: string
  readonly state: string
  readonly isWell: boolean
  readonly answeredAt: number | undefined
  readonly silent: { readonly since: number; readonly reason: string } | undefined
  /** Open now. */
  readonly calls: number
  readonly requestRate: number
  readonly requests: number
  readonly failed: number
  readonly denied: number
}

/** What stands on every page. */
export interface Standing {
  readonly at: number
  /** Over which time rates are counted, seconds. */
  readonly windowSeconds: number
  /** Why the cluster cannot be asked for its agents. */
  readonly problem: string | undefined
  readonly agents: readonly AgentView[]
  readonly waypoints: readonly WaypointView[]
}

export interface GraphView extends Standing {
  readonly nodes: readonly GraphNode[]
  readonly edges: readonly GraphEdge[]
}

export interface PodView {
  readonly namespace: string
  readonly name: string
  readonly node: string
  readonly addresses: readonly string[]
  readonly isHealthy: boolean
  /** captured, waiting, failed, cutOff, outside; `unknown` where its agent has not told. */
  readonly capture: string
  readonly captureReason: string | undefined
  /** By which it is reached. */
  readonly protocol: string
}

export interface CertificateView {
  readonly node: string
  readonly identity: string
  readonly state: string
  readonly serialNumber: string | undefined
  readonly notBefore: number | undefined
  readonly notAfter: number | undefined
}

export interface PolicyView {
  /** `AuthorizationPolicy shop/frontend-only`. */
  readonly object: string
  readonly action: string
  readonly scope: string
  readonly isDryRun: boolean
  readonly rules: readonly string[]
  /** Why it closes the workload: it has not arrived, or cannot be read. */
  readonly problem: string | undefined
}

export interface ConnectionView {
  readonly pod: string
  readonly direction: 'inbound' | 'outbound'
  /** The other end, by its name in the mesh where it has one. */
  readonly peer: string
  readonly peerAddress: string
  readonly target: string
  readonly protocol: string
  readonly allowedBy: string | undefined
}

export interface AuditView {
  readonly time: string
  readonly kind: string
  readonly who: string
  readonly what: string
  readonly object: string | undefined
  readonly rule: number | undefined
  readonly why: string
  readonly leftOut: number | undefined
}

export interface WorkloadView extends Standing {
  readonly workload: GraphNode
  readonly identities: readonly string[]
  readonly pods: readonly PodView[]
  readonly certificates: readonly CertificateView[]
  readonly policies: readonly PolicyView[]
  readonly denials: readonly AuditView[]
  readonly connections: readonly ConnectionView[]
  /** How many connections there are beyond those listed. */
  readonly moreConnections: number
  readonly edges: readonly GraphEdge[]
}

export interface NodesView extends Standing {
  readonly pods: readonly PodView[]
  /** Soonest end first; those that have none before all. */
  readonly certificates: readonly CertificateView[]
}

export interface AuditPage extends Standing {
  /** Newest first. */
  readonly events: readonly AuditView[]
}
