// SPDX-License-Identifier: Apache-2.0
// The lab a bench runs in: three paths from a client pod on node-a to a server pod on node-b that differ in one thing
// only: `direct` (no mesh), `mesh` (both pods enrolled), `haproxy` (two haproxy mutual-TLS relays, one on each node),
// and a same-node pair, enrolled and not.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLab, type Lab, nodeCommandLine } from '../lab/cluster/index.ts'
import { loadAuthority } from '../mesh/identity/authority.ts'
import { createRoot } from '../mesh/identity/root.ts'
import { writeRelayConfigurations } from './haproxy.ts'

export const HTTP_PORT = 8080
export const STREAM_PORT = 5201
/** The answer of the HTTP server. Bytes. */
const ANSWER_BYTES = 64
/** Relays take HTTP on this port of the client's node and streams on the next. */
const RELAY_PORT = 19001

export type PathName = 'direct' | 'mesh' | 'haproxy' | 'sameNodeDirect' | 'sameNodeMesh'

/** Where a client runs and what it calls. */
export interface BenchPath {
  readonly client: string
  readonly host: string
  readonly httpPort: number
  readonly streamPort: number
}

export interface Topology extends AsyncDisposable {
  readonly lab: Lab
  readonly paths: Readonly<Record<PathName, BenchPath>>
}

const haproxyServer = `global
  nbthread 1
  maxconn 4000
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
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 1,
      containers: [{ name: 'app', image: 'host', command }],
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

/** Brings everything up. Dispose removes it all. */
export async function createTopology(
  name: string,
  report: (line: string) => void,
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
    const manifests: string[] = []
    for (const namespace of ['plain', 'meshed']) {
      manifests.push(
        namespaceManifest(namespace, namespace === 'meshed'),
        podManifest(namespace, 'client', 'node-a', idle),
        podManifest(namespace, 'near', 'node-a', both),
        podManifest(namespace, 'far', 'node-b', both),
      )
    }
    for (const manifest of manifests) await lab.apply(manifest)
    await lab.waitForPods('plain')
    await lab.waitForPods('meshed')
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
    const paths: Topology['paths'] = {
      direct: straight('plain/client', plainFar),
      mesh: straight('meshed/client', await address('meshed', 'far')),
      haproxy: {
        client: 'plain/client',
        host: nodeA,
        httpPort: RELAY_PORT,
        streamPort: RELAY_PORT + 1,
      },
      sameNodeDirect: straight('plain/client', await address('plain', 'near')),
      sameNodeMesh: straight('meshed/client', await address('meshed', 'near')),
    }
    for (const path of Object.values(paths))
      await untilServing(lab, path.client, path.host, path.httpPort)
    return { lab, paths, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}
