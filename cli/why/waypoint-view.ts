// SPDX-License-Identifier: Apache-2.0
// A waypoint as its own dump has it: what the functions that serve requests are asked about.

import { MeshState } from '../../mesh/model/mesh-state.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { decodeMeshState, type WireState } from '../../mesh/xds/wire-state.ts'
import type { CopiedWaypoint } from '../../waypoint/explain-request.ts'

/** Makes it of GET /config_dump?resources; the error says what the dump lacks. */
export function waypointView(dump: unknown): Result<CopiedWaypoint, string> {
  const { config, resources } = recordOf(dump)
  if (resources === undefined)
    return err('its dump has no resources: it is of another version than this command')
  const read = decodeMeshState(resources as WireState)
  if (!read.ok) return read
  const settings = recordOf(config)
  const setting = (name: string): string => {
    const value = settings[name]
    return typeof value === 'string' ? value : ''
  }
  const gatewayName = setting('gatewayName')
  if (gatewayName === '') return err('config.gatewayName is missing')
  const network = setting('network')
  const mesh = new MeshState({ network, rootNamespace: setting('rootNamespace') })
  mesh.apply(read.value)
  const own = {
    gatewayName,
    network,
    namespace: setting('namespace'),
    clusterDomain: setting('clusterDomain'),
  }
  return ok({ own, mesh })
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
