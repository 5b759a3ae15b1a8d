// SPDX-License-Identifier: Apache-2.0
// A waypoint as its own dump has it: what the functions that serve requests are asked about.

import { err, ok, type Result } from '../../mesh/result.ts'
import type { WireState } from '../../mesh/xds/wire-state.ts'
import type { CopiedWaypoint } from '../../waypoint/explain-request.ts'
import { copiedMesh } from './copied-mesh.ts'

/** Makes it of GET /config_dump?resources; the error says what the dump lacks. */
export function waypointView(dump: unknown): Result<CopiedWaypoint, string> {
  const { config, resources } = recordOf(dump)
  if (resources === undefined)
    return err('its dump has no resources: it is of another version than this command')
  const settings = recordOf(config)
  const setting = (name: string): string => {
    const value = settings[name]
    return typeof value === 'string' ? value : ''
  }
  const gatewayName = setting('gatewayName')
  if (gatewayName === '') return err('config.gatewayName is missing')
  const network = setting('network')
  const mesh = copiedMesh(resources as WireState, {
    network,
    rootNamespace: setting('rootNamespace'),
  })
  if (!mesh.ok) return mesh
  const own = {
    gatewayName,
    network,
    namespace: setting('namespace'),
    clusterDomain: setting('clusterDomain'),
  }
  return ok({ own, mesh: mesh.value })
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
