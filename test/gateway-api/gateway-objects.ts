// SPDX-License-Identifier: Apache-2.0
// Gateways and their classes as the API server gives them.

import type { InputObjects } from '../../controller/core/input.ts'

type Gateway = InputObjects['Gateway']
type Metadata = NonNullable<Gateway['metadata']>

/** The class of our waypoints, or one of somebody else's. */
export function gatewayClass(
  name = 'ambit-waypoint',
  controllerName = 'ambit.io/waypoint-controller',
  metadata: Metadata = {},
): InputObjects['GatewayClass'] {
  return { metadata: { name, generation: 1, ...metadata }, spec: { controllerName } }
}

export const HBONE_LISTENER = { name: 'mesh', port: 15008, protocol: 'HBONE' }

/** A Gateway that is a waypoint. */
export function waypoint(
  name: string,
  {
    spec = {},
    allowedRoutes,
    status,
    ...metadata
  }: Metadata & { spec?: object; allowedRoutes?: object; status?: object } = {},
): Gateway {
  const listener =
    allowedRoutes === undefined ? HBONE_LISTENER : { ...HBONE_LISTENER, allowedRoutes }
  return {
    metadata: { namespace: 'shop', name, uid: `uid-${name}`, generation: 1, ...metadata },
    spec: { gatewayClassName: 'ambit-waypoint', listeners: [listener], ...spec },
    ...(status === undefined ? {} : { status }),
  }
}
