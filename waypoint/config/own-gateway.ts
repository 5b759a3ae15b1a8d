// SPDX-License-Identifier: Apache-2.0
// Which waypoint this is, as Services and workloads name it: by the host name of its Service, or by an address of that.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { GatewayAddress, ServiceKey } from '../../mesh/model/types.ts'

export interface OwnGateway {
  readonly gatewayName: string
  readonly namespace: string
  readonly clusterDomain: string
  readonly network: string
}

/** The key of the Service in front of this waypoint's pods, which has the Gateway's name. */
function ownServiceKey({ gatewayName, namespace, clusterDomain }: OwnGateway): ServiceKey {
  return `${namespace}/${gatewayName}.${namespace}.svc.${clusterDomain}` as ServiceKey
}

/** Makes the question whether something that is bound so is bound to this waypoint. */
export function isOwnGateway(
  own: OwnGateway,
  mesh: Pick<MeshState, 'service'>,
): (waypoint: GatewayAddress | undefined) => boolean {
  const key = ownServiceKey(own)
  return (waypoint) => {
    if (waypoint === undefined) return false
    const { destination } = waypoint
    if (destination.kind === 'hostname')
      return `${destination.namespace}/${destination.hostname}` === key
    const { address, network } = destination
    return (
      mesh
        .service(key)
        ?.addresses.some((each) => each.address === address && each.network === network) ?? false
    )
  }
}
