// SPDX-License-Identifier: Apache-2.0
// An agent's config dump as the commands read it: the parts they need, by the names of Istio's ztunnel, whose dumps can be read as well.
// Whatever else is in it stays in it, and is printed as it came.

import { err, ok, type Result } from '../../mesh/result.ts'
import type { WireState } from '../../mesh/xds/wire-state.ts'

export interface DumpedGateway {
  readonly destination: string
}

export interface DumpedWorkload {
  readonly uid: string
  readonly name: string
  readonly namespace: string
  readonly workloadIps: readonly string[]
  readonly hostname?: string
  readonly node: string
  readonly protocol: string
  readonly status: string
  readonly waypoint?: DumpedGateway
}

export interface DumpedService {
  readonly name: string
  readonly namespace: string
  readonly hostname: string
  readonly vips: readonly string[]
  readonly waypoint?: DumpedGateway
  readonly endpoints: Readonly<Record<string, { readonly workloadUid: string }>>
}

export interface DumpedPolicy {
  readonly name: string
  readonly namespace: string
  readonly action: string
  readonly scope: string
  readonly audit?: boolean
  readonly dryRun?: boolean
  /** The object it was made of, where that has another name. */
  readonly madeOf?: string
}

export interface DumpedNetworkPolicy {
  readonly name: string
  readonly namespace: string
  readonly ingress?: object
  readonly egress?: object
}

export interface DumpedCertificate {
  readonly serialNumber?: string
  readonly validFrom?: string
  readonly expirationTime?: string
}

export interface DumpedIdentity {
  readonly identity: string
  readonly state: string
  readonly certChain: readonly DumpedCertificate[]
  readonly rootCerts?: readonly DumpedCertificate[]
}

export interface DumpedConnection {
  readonly src?: string
  readonly originalDst?: string
  readonly actualDst?: string
  readonly protocol?: string
}

export interface DumpedPod {
  readonly state?: string
  readonly connections?: {
    readonly inbound: readonly DumpedConnection[]
    readonly outbound: readonly DumpedConnection[]
  }
  readonly info: {
    readonly name: string
    readonly namespace: string
    readonly serviceAccount: string
    readonly identity?: string
    readonly workloadUid?: string
    readonly addresses?: readonly string[]
  }
}

export interface DumpedStanding {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly state: string
  readonly reason?: string
}

export interface DumpedDiscovery {
  readonly address: string
  readonly state: string
  readonly since: string
  readonly reason?: string
  readonly isSynced: boolean
  readonly resources: Readonly<Record<string, { readonly count: number; readonly digest: string }>>
}

export interface ConfigDump {
  readonly workloads: readonly DumpedWorkload[]
  readonly services: readonly DumpedService[]
  readonly policies: readonly DumpedPolicy[]
  readonly certificates: readonly DumpedIdentity[]
  readonly workloadState: Readonly<Record<string, DumpedPod>>
  // Ours alone.
  readonly unreadablePolicies?: readonly { readonly key: string; readonly reason: string }[]
  readonly networkPolicies?: readonly DumpedNetworkPolicy[]
  readonly unreadableNetworkPolicies?: readonly { readonly key: string; readonly reason: string }[]
  readonly capture?: readonly DumpedStanding[]
  readonly discovery?: DumpedDiscovery
  readonly pending?: readonly string[]
  readonly version?: { readonly version?: string }
  readonly config?: Readonly<Record<string, unknown>>
  readonly resources?: WireState
}

/** What of each entry the commands rely on. */
const LISTS = {
  workloads: ['uid', 'name', 'namespace', 'workloadIps', 'node', 'protocol', 'status'],
  services: ['name', 'namespace', 'hostname', 'vips', 'endpoints'],
  policies: ['name', 'namespace', 'action', 'scope'],
  certificates: ['identity', 'state', 'certChain'],
} as const

/** Reads a dump; the error names the field that is not as it must be. */
export function readConfigDump(value: unknown): Result<ConfigDump, string> {
  if (!isRecord(value)) return err('it is not an object')
  for (const [list, fields] of Object.entries(LISTS)) {
    const entries = value[list]
    if (!Array.isArray(entries)) return err(`${list} is not a list`)
    for (const [at, entry] of entries.entries()) {
      if (!isRecord(entry)) return err(`${list}[${at}] is not an object`)
      const absent = fields.find((field) => entry[field] === undefined)
      if (absent !== undefined) return err(`${list}[${at}].${absent} is missing`)
    }
  }
  const states: unknown = value['workloadState'] ?? {}
  if (!isRecord(states)) return err('workloadState is not an object')
  for (const [uid, state] of Object.entries(states))
    if (!isRecord(state) || !isRecord(state['info']))
      return err(`workloadState.${uid}.info is missing`)
  // Checked as far as anything here relies on it.
  return ok({ ...value, workloadState: states } as unknown as ConfigDump)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
