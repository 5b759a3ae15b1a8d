// SPDX-License-Identifier: Apache-2.0
// How the lab's own processes reach a real API server: through the Unix socket of the lab's gateway, which holds the
// credentials. Only root can open it.

import type { AgentOptions } from 'node:http'
import { http } from '../../mesh/node-http.ts'
import type { ClusterAccess } from '../../mesh/kube/access.ts'

/** The access through a gateway's socket. */
export function socketAccess(socketPath: string): ClusterAccess {
  // The agent's own options go over those of each request; its type does not say so.
  const options: AgentOptions & { readonly socketPath: string } = {
    keepAlive: true,
    socketPath,
  }
  const agent = new http.Agent(options)
  return {
    server: new URL('http://api-server'),
    namespace: 'default',
    source: socketPath,
    credentials: () => Promise.resolve({ headers: {}, agent }),
  }
}
