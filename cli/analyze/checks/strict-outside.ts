// SPDX-License-Identifier: Apache-2.0
// Services for the outside whose pods refuse whoever has no identity.

import { finding } from '../finding.ts'
import type { Check } from './check.ts'
import { isStrictPort, strictBy } from './strict.ts'

export const STRICT_OUTSIDE: Check = {
  codes: ['AMB403'],
  needs: ['Namespace', 'Pod', 'Service', 'PeerAuthentication'],
  *run(world) {
    for (const service of world.services) {
      if (service.type !== 'LoadBalancer' && service.type !== 'NodePort') continue
      for (const [at, port] of service.ports.entries())
        if (port.protocol === 'TCP' && isStrictPort(world, service, port))
          yield finding(
            'AMB403',
            service,
            `spec.ports[${at}]`,
            `clients from outside reach port ${port.port} without an identity, and are refused by ${strictBy(world, service)}`,
          )
    }
  },
}
