// SPDX-License-Identifier: Apache-2.0
// What every cluster has from its first moment: the system namespaces and the kubernetes service.

import type { LocalApi } from './local-api.ts'

const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease']
const HTTPS_PORT = 443
/** Where API servers listen; the service's endpoints say where this one does. */
const TARGET_PORT = 6443

/** Makes the objects that exist before anybody asks. */
export function bootstrap(api: LocalApi, kubernetesServiceIp: string): void {
  for (const name of NAMESPACES) api.create('namespaces', undefined, { metadata: { name } })
  const service = api.create('services', 'default', {
    metadata: {
      name: 'kubernetes',
      labels: { component: 'apiserver', provider: 'kubernetes' },
    },
    spec: {
      clusterIP: kubernetesServiceIp,
      ports: [{ name: 'https', port: HTTPS_PORT, targetPort: TARGET_PORT, protocol: 'TCP' }],
    },
  })
  if (!service.ok) throw new Error(`Cannot make the kubernetes service: ${service.error.message}`)
}
