// SPDX-License-Identifier: Apache-2.0
// Services that select nothing, and ports of theirs that lead to nothing.

import { finding } from '../finding.ts'
import { targetPorts } from '../services.ts'
import type { Check } from './check.ts'

export const SERVICE_SELECTION: Check = {
  codes: ['AMB105', 'AMB106'],
  needs: ['Service', 'Pod'],
  *run({ services, objects }) {
    for (const service of services) {
      const { selector, workloads, ports, namespace } = service
      if (selector === undefined || !objects.knows('Pod', namespace)) continue
      if (workloads.length === 0) {
        const labels = [...selector].map((label) => label.join('=')).join(', ')
        yield finding(
          'AMB105',
          service,
          'spec.selector',
          `no workload in namespace ${namespace} has ${labels}`,
        )
        continue
      }
      for (const [at, port] of ports.entries()) {
        if (workloads.some((workload) => targetPorts(workload, port).length > 0)) continue
        const names = new Set(
          workloads.flatMap((workload) => workload.ports.map(({ name }) => name)),
        )
        names.delete('')
        yield finding(
          'AMB106',
          service,
          `spec.ports[${at}].targetPort`,
          `no container of the pods selected has a ${port.protocol} port "${port.target}"; ${names.size === 0 ? 'none has a name' : `there are ${[...names].slice(0, 5).join(', ')}`}`,
        )
      }
    }
  },
}
