// SPDX-License-Identifier: Apache-2.0
// The lab's control plane in one process: API server, controllers, cluster DNS, and the service rules of all
// nodes. Runs in the fabric's network namespace; the host reaches it by a listener that it inherits.

import { writeFile } from 'node:fs/promises'
import { createLogger, environmentLogLevel } from '../../mesh/telemetry/log.ts'
import { startApiServer } from '../kubernetes/own/apiserver/index.ts'
import type { LocalApi } from '../kubernetes/own/apiserver/local-api.ts'
import { startControllers } from '../kubernetes/own/controllers/index.ts'
import { startDnsServer } from '../services/dns/server.ts'
import {
  API_SERVER_PORT,
  DNS_SERVICE_IP4,
  DNS_SERVICE_IP6,
  FABRIC_GATEWAY4,
  FABRIC_GATEWAY6,
  KUBERNETES_SERVICE_IP,
  SERVICE_CIDR4,
  SERVICE_CIDR6,
} from '../network/addressing.ts'
import { startServiceProxy } from '../services/proxy/index.ts'
import { ServiceIndex } from '../services/kube-view.ts'
import { labLayout, nodeLayout, SECRET_FILE_MODE } from '../machine/layout.ts'
import { tellReady } from '../machine/tell-ready.ts'
import { labPodRuntime } from './pod-runtime.ts'

/** What the lab tells its daemon at its start. */
export interface DaemonArguments {
  readonly lab: string
  readonly nodes: readonly string[]
  /** Inherited listening socket of the host's 127.0.0.1, and its port. */
  readonly hostListenFd: number
  readonly hostPort: number
  /** Where to write the kubeconfig that the nodes use. */
  readonly nodeKubeconfig: string
}

async function main(options: DaemonArguments): Promise<void> {
  const lab = labLayout(options.lab)
  const logger = createLogger('lab-daemon', environmentLogLevel())
  const server = await startApiServer({
    subjectAltNames: [FABRIC_GATEWAY4, FABRIC_GATEWAY6, KUBERNETES_SERVICE_IP],
    serviceCidr4: SERVICE_CIDR4,
    serviceCidr6: SERVICE_CIDR6,
    podRuntime: labPodRuntime(lab),
  })
  await server.listen(FABRIC_GATEWAY4, API_SERVER_PORT)
  await server.listen(FABRIC_GATEWAY6, API_SERVER_PORT)
  await server.attachListenFd(options.hostListenFd)
  const controllers = startControllers({
    api: server.api,
    apiServerEndpoints: [{ ip: FABRIC_GATEWAY4, port: API_SERVER_PORT }],
    rootCaPem: server.caPem,
    onError: (error) => logger.error({ error: error.message }, 'a controller failed'),
  })
  publishDns(server.api)
  const index = new ServiceIndex(server.api, () => undefined)
  const dns = await startDnsServer({ index, hosts: [FABRIC_GATEWAY4, FABRIC_GATEWAY6] })
  const proxy = startServiceProxy({
    api: server.api,
    nodes: options.nodes.map((name) => ({ name, netns: nodeLayout(lab, name).netns })),
    serviceRanges: [SERVICE_CIDR4, SERVICE_CIDR6],
    onError: (error) => logger.error({ error: error.message }, 'service rules were refused'),
  })
  await proxy.synced()
  const name = `ambit-lab-${lab.name}`
  const asAdmin = { mode: SECRET_FILE_MODE }
  const fromHost = `https://127.0.0.1:${options.hostPort}`
  const fromNodes = `https://${FABRIC_GATEWAY4}:${API_SERVER_PORT}`
  await writeFile(lab.kubeconfig, server.kubeconfig({ server: fromHost, name }), asAdmin)
  await writeFile(options.nodeKubeconfig, server.kubeconfig({ server: fromNodes, name }), asAdmin)
  // A fault on demand: every client must survive a broken watch and 410 Gone, and tests see to it that ours do.
  process.on('SIGUSR2', () => {
    server.compact()
    logger.info(
      { watches: server.breakWatches() },
      'history forgotten and watches broken, as asked',
    )
  })
  process.once('SIGTERM', () => {
    void (async () => {
      await proxy.stop()
      controllers.stop()
      index.stop()
      await Promise.all([dns.close(), server.close()])
    })()
  })
  logger.info('the control plane is ready')
  tellReady()
}

/** Cluster DNS as pods find it: a Service without selector whose endpoints are the fabric's resolver. */
function publishDns(api: LocalApi): void {
  const must = (result: {
    readonly ok: boolean
    readonly error?: { readonly message: string }
  }): void => {
    if (!result.ok) throw new Error(`Cannot publish cluster DNS: ${result.error?.message ?? ''}`)
  }
  const namespace = 'kube-system'
  if (!api.get('namespaces', undefined, namespace).ok) {
    must(api.create('namespaces', undefined, { metadata: { name: namespace } }))
  }
  const ports = [
    { name: 'dns', protocol: 'UDP', port: 53 },
    { name: 'dns-tcp', protocol: 'TCP', port: 53 },
  ]
  must(
    api.create('services', namespace, {
      metadata: { name: 'kube-dns', labels: { 'k8s-app': 'kube-dns' } },
      spec: {
        clusterIP: DNS_SERVICE_IP4,
        clusterIPs: [DNS_SERVICE_IP4, DNS_SERVICE_IP6],
        ipFamilyPolicy: 'RequireDualStack',
        ipFamilies: ['IPv4', 'IPv6'],
        ports,
      },
    }),
  )
  for (const [family, address] of [
    ['IPv4', FABRIC_GATEWAY4],
    ['IPv6', FABRIC_GATEWAY6],
  ]) {
    must(
      api.create('endpointslices.discovery.k8s.io', namespace, {
        metadata: {
          name: `kube-dns-${String(family).toLowerCase()}`,
          labels: { 'kubernetes.io/service-name': 'kube-dns' },
        },
        addressType: family,
        ports,
        endpoints: [{ addresses: [address], conditions: { ready: true } }],
      }),
    )
  }
}

await main(JSON.parse(process.argv[2] ?? '{}') as DaemonArguments)
