// SPDX-License-Identifier: Apache-2.0
// What is declared of the port that a call goes to. Pure.

import type { AppProtocol } from '../../mesh/model/gateway.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { ServiceKey, Workload } from '../../mesh/model/types.ts'
import type { Backend } from '../exchange/types.ts'

/** Of a port of a Service, or of a workload's; `unknown` where nothing is said. */
export function backendProtocol(
  mesh: Pick<MeshState, 'service' | 'findWorkload'>,
  backend: Backend,
): AppProtocol {
  if (backend.kind === 'service') {
    const ports = mesh.service(backend.service as ServiceKey)?.ports
    return ports?.find(({ servicePort }) => servicePort === backend.port)?.appProtocol ?? 'unknown'
  }
  const { address, port } = backend.target
  const workload = mesh.findWorkload(address)
  return workload === undefined ? 'unknown' : protocolAt(workload, port)
}

/** What the Services of a workload say of its port; `unknown` when they say nothing, or not the same. */
export function protocolAt({ services }: Workload, port: number): AppProtocol {
  let said: AppProtocol | undefined
  for (const ports of services.values())
    for (const { servicePort, targetPort, appProtocol } of ports) {
      if ((targetPort || servicePort) !== port || appProtocol === 'unknown') continue
      if (said !== undefined && said !== appProtocol) return 'unknown'
      said = appProtocol
    }
  return said ?? 'unknown'
}
