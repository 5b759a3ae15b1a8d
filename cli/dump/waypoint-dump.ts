// SPDX-License-Identifier: Apache-2.0
// A waypoint's config dump as the commands read it: the parts they need. Whatever else is in it stays in it.

import { err, ok, type Result } from '../../mesh/result.ts'
import type { DumpedDiscovery, DumpedIdentity } from './config-dump.ts'

export interface DumpedTarget {
  readonly kind: 'waypoint' | 'service' | 'namespace' | 'mesh'
  readonly namespace: string
  readonly name: string
}

export interface DumpedWaypointPolicy {
  readonly key: string
  readonly namespace: string
  readonly name: string
  readonly action: string
  readonly isDryRun: boolean
  readonly isAudit: boolean
  readonly targets: readonly DumpedTarget[]
}

interface DumpedCall {
  readonly src: string
  readonly srcIdentity?: string
  readonly dst: string
  readonly service?: string
  readonly servedAs: 'requests' | 'bytes' | 'undecided'
  readonly endpoint?: string
  readonly seconds: number
}

export interface WaypointDump {
  readonly policies: readonly DumpedWaypointPolicy[]
  readonly unreadablePolicies: readonly { readonly key: string; readonly reason: string }[]
  readonly certificates: readonly DumpedIdentity[]
  readonly discovery: DumpedDiscovery
  readonly pending: readonly string[]
  readonly tunnels: number
  readonly openCalls: readonly DumpedCall[]
  readonly moreCalls: number
  readonly traffic: {
    readonly requests: number
    readonly failed: number
    readonly denied: number
  }
  readonly version: { readonly version: string }
}

const LISTS = ['policies', 'unreadablePolicies', 'certificates', 'pending', 'openCalls'] as const
const MAPS = ['discovery', 'traffic', 'version'] as const

/** Reads a dump; the error names the field that is not as it must be. */
export function readWaypointDump(value: unknown): Result<WaypointDump, string> {
  if (typeof value !== 'object' || value === null) return err('its dump is not an object')
  const dump = value as Readonly<Record<string, unknown>>
  for (const field of LISTS)
    if (!Array.isArray(dump[field])) return err(`its dump has no list "${field}"`)
  for (const field of MAPS)
    if (typeof dump[field] !== 'object' || dump[field] === null)
      return err(`its dump has no "${field}"`)
  // The shape is that of our own waypoints (waypoint/config-dump.ts).
  return ok(value as WaypointDump)
}
