// SPDX-License-Identifier: Apache-2.0
// What an agent process needs of a cluster, in a process of its own on the node's network: an API server with a
// labelled namespace, and a discovery server that tells of its pods and nothing else. Of the types it knows those of other meshes
// alone: no agent may wait for what is ours.

import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { IpAddress } from '../../../mesh/model/types.ts'
import { NAMESPACES, PODS } from '../../../mesh/kube/index.ts'
import { serveRpc } from '../../capture/support/rpc.ts'
import { AUTHORIZATION } from '../../../mesh/xds/types/authorization.ts'
import { AMBIENT } from '../../enrolment/node-setting.ts'
import { FaultyApi } from '../../support/faulty-api.ts'
import { testPod, workloadOf } from '../../proxy/loopback-world.ts'
import { makePki, startServer, TOKEN, workloadResource } from '../../xds/support.ts'

/** Files for the agent's flags, written into the directory that `open` was given. */
export interface ClusterFiles {
  readonly kubeconfig: string
  readonly rootFile: string
  readonly tokenFile: string
  readonly xdsAddress: string
}

export interface PodFacts {
  readonly name: string
  readonly uid: string
  readonly addresses: readonly IpAddress[]
}

const stub = new FaultyApi()
let discovery: Awaited<ReturnType<typeof startServer>>['addresses'] | undefined

serveRpc({
  async open(directory: string): Promise<ClusterFiles> {
    await stub.start()
    stub.put(NAMESPACES, { metadata: { name: 'shop', labels: AMBIENT } })
    const pki = await makePki()
    const { xds, addresses, port } = await startServer(pki)
    xds.offer(AUTHORIZATION, () => true).complete()
    addresses.complete()
    discovery = addresses
    const files = {
      kubeconfig: path.join(directory, 'kubeconfig'),
      rootFile: path.join(directory, 'root.pem'),
      tokenFile: path.join(directory, 'token'),
      xdsAddress: `127.0.0.1:${port}`,
    }
    await writeFile(files.kubeconfig, kubeconfig(stub.port))
    await writeFile(files.rootFile, pki.rootPem)
    await writeFile(files.tokenFile, TOKEN)
    return files
  },
  pod({ name, uid, addresses }: PodFacts) {
    const workload = workloadOf(testPod(name), { addresses, tunnelProtocol: 'none' })
    discovery?.update([workloadResource(workload)], [])
    stub.put(PODS, {
      metadata: { namespace: 'shop', name, uid },
      spec: {
        containers: [{ name: 'app', image: 'app' }],
        nodeName: 'node-a',
        serviceAccountName: name,
      },
    })
  },
  /** What the agent says of a pod to everyone else. */
  redirection: (name: string) =>
    stub.get(PODS, `shop/${name}`)?.metadata?.annotations?.['ambient.istio.io/redirection'],
})

function kubeconfig(port: number): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'stub', cluster: { server: `http://127.0.0.1:${port}` } }],
    users: [{ name: 'agent', user: {} }],
    contexts: [{ name: 'stub', context: { cluster: 'stub', user: 'agent' } }],
    'current-context': 'stub',
  })
}
