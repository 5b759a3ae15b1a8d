// SPDX-License-Identifier: Apache-2.0
// The lab a bench runs in: three paths from a client pod on node-a to a server pod on node-b that differ in one thing
// only: `direct` (no mesh), `mesh` (both pods enrolled), `haproxy` (two haproxy mutual-TLS relays, one on each node),
// and a same-node pair, enrolled and not; where a ztunnel is given, both through it, too.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLab, type Lab, nodeCommandLine } from '../lab/cluster/index.ts'
import { loadAuthority } from '../mesh/identity/authority.ts'
import { createRoot } from '../mesh/identity/root.ts'
import { writeRelayConfigurations } from './haproxy.ts'
import { startZtunnel } from './ztunnel.ts'

export const HTTP_PORT = 8080
export const STREAM_PORT = 5201
const ZTUNNEL_NAMESPACE = 'zt'
/** Tells the controller that the pod takes HBONE, though no agent of ours enrolled it. */
const HBONE_LABEL = { 'networking.istio.io/tunnel': 'http' }
/** What a ztunnel identifies itself and the controller by, where it looks for it. */
const PAPERS = {
  tokens: {
    projected: {
      sources: [
        {
          serviceAccountToken: {
            audience: 'istio-ca',
            expirationSeconds: 43_200,
            path: 'istio-token',
          },
        },
      ],
    },
  },
  istio: { configMap: { name: 'istio-ca-root-cert', optional: true } },
}
/** The answer of the HTTP server. Bytes. */
const ANSWER_BYTES = 64
/** Relays take HTTP on this port of the client's node and streams on the next. */
const RELAY_PORT = 19001

export type PathName =
  | 'direct'
  | 'mesh'
  | 'haproxy'
  | 'ztunnel'
  | 'sameNodeDirect'
  | 'sameNodeMesh'
  | 'sameNodeZtunnel'

/** Where a client runs and what it calls. */
export interface BenchPath {
  readonly client: string
  readonly host: string
  readonly httpPort: number
  readonly streamPort: number
}

export interface Topology extends AsyncDisposable {
  readonly lab: Lab
  /** Those of ztunnel only where there is one. */
  readonly paths: ReadonlyMap<PathName, BenchPath>
}

/** A path that must be there. */
export function pathOf({ paths }: Topology, name: PathName): BenchPath {
  const path = paths.get(name)
  if (path === undefined) throw new Error(`Cannot measure ${name}: it is not part of this lab`)
  return path
}

const haproxyServer = `global
  nbthread 1
  maxconn 6000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 60s
frontend app
  bind :::${HTTP_PORT} v4v6
  http-request return status 200 content-type text/plain string "${'x'.repeat(ANSWER_BYTES)}"
`

function podManifest(
  namespace: string,
  name: string,
  node: string,
  command: readonly string[],
): string {
  const isOfZtunnel = namespace === ZTUNNEL_NAMESPACE
  const labels = { app: name, ...(isOfZtunnel && HBONE_LABEL) }
  const mounts = Object.keys(PAPERS).map((volume) => ({
    name: volume,
    mountPath: `/var/run/secrets/${volume}`,
    readOnly: true,
  }))
  const volumes = Object.entries(PAPERS).map(([volume, source]) => ({ name: volume, ...source }))
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 1,
      containers: [
        { name: 'app', image: 'host', command, ...(isOfZtunnel && { volumeMounts: mounts }) },
      ],
      ...(isOfZtunnel && { volumes }),
    },
  })
}

const namespaceManifest = (name: string, isAmbient: boolean): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, ...(isAmbient ? { labels: { 'istio.io/dataplane-mode': 'ambient' } } : {}) },
  })

/** Waits until a TCP connection from a pod to an address succeeds; pods without probes are ready before they listen. */
async function untilServing(lab: Lab, client: string, host: string, port: number): Promise<void> {
  await lab.waitFor(`${host}:${port} answers ${client}`, async () => {
    const output = await lab.exec(client, [
      'curl',
      '-s',
      '-o',
      '/dev/null',
      '-m',
      '1',
      `http://${host}:${port}/`,
    ])
    return output.code === 0 ? true : undefined
  })
}

/** Starts haproxy on a node, outside any pod; it ends with the bench. */
async function startRelay(lab: Lab, node: string, configuration: string): Promise<ChildProcess> {
  const [program = 'sh', ...args] = nodeCommandLine(lab.layout, lab.state, node, [
    'haproxy',
    '-db',
    '-f',
    configuration,
  ])
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  await once(child, 'spawn')
  return child
}

/** Has the controller give discovery and certificates to this account, as it does to the agents. It starts anew. */
async function trustAccount(lab: Lab, account: string): Promise<void> {
  // After the one that the chart gives: the last counts.
  const accounts = `--trusted-node-accounts=ambit-system/ambit-agent,${account}`
  const patch = [{ op: 'add', path: '/spec/template/spec/containers/0/args/-', value: accounts }]
  await lab.kubectl(
    ...['patch', 'deployment', '-n', 'ambit-system', 'ambit-controller', '--type=json'],
    ...['-p', JSON.stringify(patch)],
  )
}

/** Brings everything up; `ztunnel` is the binary of the third path. Dispose removes it all. */
export async function createTopology(
  name: string,
  report: (line: string) => void,
  ztunnel?: string,
): Promise<Topology> {
  const lab = await createLab({ name, report })
  const directory = await mkdtemp(join(tmpdir(), 'ambit-bench-'))
  const children: ChildProcess[] = []
  const dispose = async (): Promise<void> => {
    for (const child of children) child.kill('SIGKILL')
    await rm(directory, { recursive: true, force: true })
    await lab.down()
  }
  try {
    const serverConfiguration = join(directory, 'server.cfg')
    await mkdir(directory, { recursive: true })
    await writeFile(serverConfiguration, haproxyServer)
    const http = ['haproxy', '-db', '-f', serverConfiguration]
    const stream = ['iperf3', '-s', '-p', String(STREAM_PORT)]
    const idle = ['sleep', '86400']
    const both = ['sh', '-c', `${stream.join(' ')} >/dev/null & exec ${http.join(' ')}`]
    if (ztunnel !== undefined) await trustAccount(lab, `${ZTUNNEL_NAMESPACE}/default`)
    const manifests: string[] = []
    const namespaces = ['plain', 'meshed', ...(ztunnel === undefined ? [] : [ZTUNNEL_NAMESPACE])]
    for (const namespace of namespaces) {
      manifests.push(
        namespaceManifest(namespace, namespace === 'meshed'),
        podManifest(namespace, 'client', 'node-a', idle),
        podManifest(namespace, 'near', 'node-a', both),
        podManifest(namespace, 'far', 'node-b', both),
      )
    }
    for (const manifest of manifests) await lab.apply(manifest)
    for (const namespace of namespaces) await lab.waitForPods(namespace)
    const address = async (namespace: string, pod: string): Promise<string> =>
      await lab.kubectl('get', 'pod', '-n', namespace, pod, '-o', 'jsonpath={.status.podIP}')
    const plainFar = await address('plain', 'far')
    const nodeAddress = async (node: string): Promise<string> =>
      await lab.kubectl('get', 'node', node, '-o', 'jsonpath={.status.addresses[0].address}')
    const nodeA = await nodeAddress('node-a')
    const root = await loadAuthority(await createRoot({ organization: 'bench' }))
    if (!root.ok)
      throw new Error(`Cannot make the relays' root: ${root.error.part} ${root.error.reason}`)
    const relays = await writeRelayConfigurations({
      directory,
      root: root.value,
      outboundAddress: nodeA,
      inboundAddress: await nodeAddress('node-b'),
      upstream: plainFar,
      ports: [
        { listen: RELAY_PORT, upstream: HTTP_PORT },
        { listen: RELAY_PORT + 1, upstream: STREAM_PORT },
      ],
    })
    children.push(
      await startRelay(lab, 'node-a', relays.outbound),
      await startRelay(lab, 'node-b', relays.inbound),
    )
    const straight = (client: string, host: string): BenchPath => ({
      client,
      host,
      httpPort: HTTP_PORT,
      streamPort: STREAM_PORT,
    })
    const paths = new Map<PathName, BenchPath>([
      ['direct', straight('plain/client', plainFar)],
      ['mesh', straight('meshed/client', await address('meshed', 'far'))],
      [
        'haproxy',
        {
          client: 'plain/client',
          host: nodeA,
          httpPort: RELAY_PORT,
          streamPort: RELAY_PORT + 1,
        },
      ],
      ['sameNodeDirect', straight('plain/client', await address('plain', 'near'))],
      ['sameNodeMesh', straight('meshed/client', await address('meshed', 'near'))],
    ])
    if (ztunnel !== undefined) {
      const [client, near, far] = await Promise.all(
        ['client', 'near', 'far'].map((pod) => address(ZTUNNEL_NAMESPACE, pod)),
      )
      if (client === undefined || near === undefined || far === undefined)
        throw new Error('Cannot start ztunnel: its pods have no addresses')
      const node = { client: 'node-a', near: 'node-a', far: 'node-b' }
      for (const [pod, podAddress] of Object.entries({ client, near, far }))
        children.push(
          await startZtunnel(lab, ztunnel, directory, {
            namespace: ZTUNNEL_NAMESPACE,
            name: pod,
            node: node[pod as keyof typeof node],
            address: podAddress,
          }),
        )
      paths.set('ztunnel', straight(`${ZTUNNEL_NAMESPACE}/client`, far))
      paths.set('sameNodeZtunnel', straight(`${ZTUNNEL_NAMESPACE}/client`, near))
    }
    for (const path of paths.values())
      await untilServing(lab, path.client, path.host, path.httpPort)
    return { lab, paths, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}
