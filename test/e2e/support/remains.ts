// SPDX-License-Identifier: Apache-2.0
// What the mesh still has of a namespace that is gone: in the kernel of its nodes, in the agents' memory and on their disks, and in the
// controller. What is asked for is noted while the namespace is there.

import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Pins } from '../../../agent/capture/pins.ts'
import type { Lab } from '../../../lab/cluster/index.ts'
import { command } from '../../../lab/machine/command.ts'
import { nodeLayout } from '../../../lab/machine/layout.ts'
import { PODS } from '../../../mesh/kube/index.ts'
import { openPinned } from '../../../native/bpf-link.ts'
import { BpfMap } from '../../../native/bpf-map.ts'
import { closeFd } from '../../../native/libc.ts'
import { apiObjects } from './api-objects.ts'
import { MESH_NAMESPACE } from './mesh-lab.ts'
import { objectsIn } from './objects.ts'

/** Maps whose keys begin with the cookie of a pod's namespace; sizes of their keys. */
const MAPS = { pods: 8, listeners: 16, pending: 48, pending_counts: 8, trusted: 48 } as const
const CONTROLLERS = 'app=ambit-controller'
const DUMP = ['curl', '--silent', '--fail', 'http://127.0.0.1:15000/config_dump']
const STATUS = ['curl', '--silent', '--fail', 'http://127.0.0.1:15000/status']

/** A pod that an agent had. */
interface FormerPod {
  readonly node: string
  readonly name: string
  readonly uid: string
  /** Undefined where it is not captured. */
  readonly cookie: bigint | undefined
  readonly addresses: readonly string[]
  /** Its network namespace, which is held so that one can look into it when the pod is gone. */
  readonly netns: number
}

/** What a namespace consists of, as long as it is held. */
export interface Former extends Disposable {
  readonly namespace: string
  readonly pods: readonly FormerPod[]
}

interface StateFile {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly netnsPath: string
  readonly netnsCookie?: string
  readonly addresses: readonly string[]
}

interface AgentDump extends Readonly<Record<string, unknown>> {
  readonly workloadState: Readonly<
    Record<
      string,
      {
        readonly info: { readonly namespace: string; readonly name: string }
        readonly connections: Readonly<
          Record<'inbound' | 'outbound', readonly { readonly protocol: string }[]>
        >
      }
    >
  >
}

/** Takes note of the pods that agents have of a namespace. */
export function note(lab: Lab, namespace: string): Former {
  const pods = lab.nodes.flatMap((node) =>
    filesBelow(stateDirectory(lab, node))
      .filter((file) => file.endsWith('.json'))
      .map((file) => JSON.parse(readFileSync(file, 'utf8')) as StateFile)
      .filter((state) => state.namespace === namespace)
      .map(({ uid, name, netnsPath, netnsCookie, addresses }) => ({
        node,
        name,
        uid,
        cookie: netnsCookie === undefined ? undefined : BigInt(netnsCookie),
        addresses,
        netns: openSync(netnsPath, 'r'),
      })),
  )
  return {
    namespace,
    pods,
    [Symbol.dispose]: () => {
      for (const { netns } of pods) closeSync(netns)
    },
  }
}

/** Everything that is left of it, in words; empty when nothing is. */
export async function remains(lab: Lab, former: Former): Promise<readonly string[]> {
  const found = await Promise.all([
    ...lab.nodes.map(async (node) => [
      ...inMaps(lab, node, former),
      ...onDisk(lab, node, former),
      ...(await inAgent(lab, node, former)),
    ]),
    ...former.pods.map(inPod),
    inApi(lab, former),
  ])
  return found.flat()
}

/** What each controller offers of each type: counts and digests, which are equal for equal resources. */
export async function offered(lab: Lab): Promise<readonly unknown[]> {
  const controllers = await objectsIn(lab, PODS, MESH_NAMESPACE, CONTROLLERS)
  return await Promise.all(
    controllers.map(async ({ metadata }) => {
      const { stdout } = await lab.exec(`${MESH_NAMESPACE}/${metadata?.name ?? ''}`, STATUS)
      return (JSON.parse(stdout) as { readonly resources: unknown }).resources
    }),
  )
}

function inMaps(lab: Lab, node: string, { pods }: Former): readonly string[] {
  const pins = new Pins(nodeLayout(lab.layout, node).bpfDir)
  const cookies = new Map(pods.map(({ cookie, name }) => [cookie, name]))
  const entries = Object.entries(MAPS).flatMap(([name, keySize]) => {
    const fd = openPinned(join(pins.maps, name))
    if (fd === undefined) throw new Error(`${node} has no map ${name}`)
    try {
      // Values are not read.
      return new BpfMap(name, fd, keySize, 0).keys().flatMap((key) => {
        const pod = cookies.get(key.readBigUInt64LE())
        return pod === undefined ? [] : [`${node}: map ${name} has ${pod}`]
      })
    } finally {
      closeFd(fd)
    }
  })
  const uids = new Set(pods.map(({ uid }) => uid))
  const links = pins.listAllPods().filter(({ uid }) => uids.has(uid))
  return [...entries, ...links.map(({ path }) => `${node}: ${path}`)]
}

/** Files of the agent that name the namespace or one of its pods. */
function onDisk(lab: Lab, node: string, { namespace, pods }: Former): readonly string[] {
  const names = [namespace, ...pods.map(({ uid }) => uid)]
  const { agentDir, cniNetDir } = nodeLayout(lab.layout, node)
  return [...filesBelow(agentDir), ...filesBelow(cniNetDir)]
    .filter((file) => {
      const text = `${file}\n${readFileSync(file, 'latin1')}`
      return names.some((name) => text.includes(name))
    })
    .map((file) => `${node}: ${file}`)
}

/** What the agent's dump says of it, and of connections with its pods. */
async function inAgent(
  lab: Lab,
  node: string,
  { namespace, pods }: Former,
): Promise<readonly string[]> {
  const { code, stdout } = await lab.nodeExec(node, DUMP)
  if (code !== 0) throw new Error(`the agent of ${node} does not answer`)
  const { workloadState, ...rest } = JSON.parse(stdout) as AgentDump
  const uids = pods.map(({ uid }) => uid)
  const addresses = pods.flatMap((pod) => pod.addresses)
  const found = Object.entries(rest).flatMap(([section, content]) =>
    Object.values(content ?? {}).flatMap((entry) => {
      const text = JSON.stringify(entry) ?? ''
      return [namespace, ...uids].some((name) => text.includes(name)) ? [`${section}: ${text}`] : []
    }),
  )
  const served = Object.values(workloadState).flatMap(({ info, connections }) => [
    ...(info.namespace === namespace ? [`serves ${info.name}`] : []),
    // Who calls an address that is nobody's by now waits as long as the kernel does: those are no tunnels.
    ...[...connections.inbound, ...connections.outbound]
      .filter(({ protocol }) => protocol === 'HBONE')
      .map((connection) => JSON.stringify(connection))
      .filter((text) => addresses.some((address) => text.includes(address))),
  ])
  return [...found, ...served].map((each) => `${node}: ${each}`)
}

/** Sockets that some process has in its network namespace: those that the kernel ends by itself are nobody's. */
async function inPod({ node, name, netns }: FormerPod): Promise<readonly string[]> {
  const enter = ['nsenter', `--net=/proc/${process.pid}/fd/${netns}`]
  const sockets = await command([...enter, 'ss', '-Htuanp'])
  return sockets
    .split('\n')
    .filter((line) => line.includes('users:') || /^(tcp +LISTEN|udp)/.test(line))
    .map((line) => `${node}: ${name}: ${line}`)
}

async function inApi(lab: Lab, { namespace }: Former): Promise<readonly string[]> {
  const objects = await apiObjects(lab.api)
  return objects.filter((each) => each.includes(` ${namespace}/`) || each.endsWith(`/${namespace}`))
}

function stateDirectory(lab: Lab, node: string): string {
  return join(nodeLayout(lab.layout, node).agentDir, 'state')
}

/** Files, and no sockets. */
function filesBelow(directory: string): readonly string[] {
  if (!existsSync(directory)) return []
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}
