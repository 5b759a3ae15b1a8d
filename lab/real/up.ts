// SPDX-License-Identifier: Apache-2.0
// Brings a cluster up: programs, keys, images, a network, the nodes, the way to the API server, DNS.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AmbitError } from '../../mesh/errors.ts'
import { formatHostPort } from '../../mesh/model/host-port.ts'
import { listenInNetns } from '../../native/netns.ts'
import { command, type CommandOutput, tryCommand } from '../machine/command.ts'
import { isRunning } from '../machine/process-record.ts'
import { requireRoot, requireTool } from '../machine/requirements.ts'
import { type AddressPlan, addressPlan, nodeIp } from './addresses.ts'
import { makeImages } from './images.ts'
import {
  API_PORT,
  CGROUP_PREFIX,
  type ClusterKind,
  IMAGES_DIRECTORY,
  KIND_FILE,
  KUBECONFIG,
  kubernetesDirectory,
  type Network,
  NODES,
  PKI_DIRECTORY,
  PROGRAMS_DIRECTORY,
  ROOM,
  STATE_DIRECTORY,
} from './layout.ts'
import { connectNode, makeFabric } from './network.ts'
import { ensurePrograms } from './programs.ts'
import { pidOf, readProcesses, recordProcess } from './state.ts'

type Report = (line: string) => void

const TOOLS = ['ip', 'nft', 'nsenter', 'unshare', 'openssl', 'gcc', 'ldd', 'kubectl']
const TOOLS_OF: Readonly<Record<Network, readonly string[]>> = {
  bridge: [],
  'kube-router': ['iptables', 'ipset'],
}
/** On a machine with other work. */
const READY_DEADLINE_MS = 180_000
const POLL_MS = 200
const PRIVATE_DIRECTORY_MODE = 0o700

/** Throws AmbitError where one is up already, or a part of it does not start. */
export async function bringClusterUp(kind: ClusterKind, report: Report): Promise<void> {
  requireRoot('make a cluster')
  for (const tool of [...TOOLS, ...TOOLS_OF[kind.network]]) requireTool(tool, 'make a cluster')
  if (Object.values(readProcesses()).some(isRunning))
    throw new AmbitError('AMB_CLUSTER', 'Cannot bring a cluster up: there is one')
  await ensurePrograms(kind, report)
  mkdirSync(STATE_DIRECTORY, { recursive: true, mode: PRIVATE_DIRECTORY_MODE })
  writeFileSync(KIND_FILE, JSON.stringify(kind))
  const plan = addressPlan(kind.families)
  await makeKeys(plan)
  await makeImages(report)
  report(`starting ${NODES.join(' and ')} of Kubernetes ${kind.kubernetes}`)
  await makeFabric(plan)
  for (const [index] of NODES.entries()) await startNode(index, kind, plan)
  await openGateway(plan)
  report('waiting for the API server and the nodes')
  await untilNodesReady(plan)
  const dns = readFileSync(join(ROOM, 'manifests/coredns.yaml'), 'utf8')
  await kubectl(['apply', '-f', '-'], dns.replace('DNS_SERVICE_IP', plan.dnsService))
}

/** Runs kubectl as the administrator. */
async function kubectl(args: readonly string[], input?: string): Promise<string> {
  return await command(['kubectl', `--kubeconfig=${KUBECONFIG}`, ...args], {
    timeoutMs: READY_DEADLINE_MS,
    ...(input === undefined ? {} : { input }),
  })
}

/** Of the API server, as nodes call it. */
const apiAddress = (plan: AddressPlan): string =>
  formatHostPort({ host: nodeIp(plan, 0), port: API_PORT })

async function makeKeys(plan: AddressPlan): Promise<void> {
  mkdirSync(PKI_DIRECTORY, { recursive: true, mode: PRIVATE_DIRECTORY_MODE })
  const nodes = NODES.map((name, index) => `${name}=${plan.nodes(index).join(',')}`)
  const script = 'cd "$0"; exec sh "$@"'
  const server = `https://${apiAddress(plan)}`
  const argv = [join(ROOM, 'pki.sh'), server, plan.apiService, ...nodes]
  await command(['sh', '-euc', script, PKI_DIRECTORY, ...argv])
}

async function startNode(
  index: number,
  { kubernetes, network }: ClusterKind,
  plan: AddressPlan,
): Promise<void> {
  const name = NODES[index] ?? ''
  const directory = join(STATE_DIRECTORY, name)
  mkdirSync(join(directory, 'logs'), { recursive: true })
  const log = openSync(join(directory, 'logs/node.log'), 'a')
  // What node.sh says at its head.
  const told = {
    NODE: name,
    NODE_IPS: plan.nodes(index).join(','),
    POD_RANGES: plan.pods(index).join(','),
    ALL_POD_RANGES: plan.allPods.join(','),
    SERVICE_RANGES: plan.services.join(','),
    DNS_SERVICE_IP: plan.dnsService,
    NETWORK: network,
    DIRECTORY: directory,
    PROGRAMS: PROGRAMS_DIRECTORY,
    KUBERNETES: kubernetesDirectory(kubernetes),
    PKI: PKI_DIRECTORY,
    IMAGES: IMAGES_DIRECTORY,
    DUTY: index === 0 ? 'control-plane' : 'none',
  }
  const child = spawn(join(ROOM, 'start-node.sh'), [CGROUP_PREFIX, name], {
    cwd: '/',
    env: { ...process.env, ...told },
    detached: true,
    stdio: ['ignore', log, log],
  })
  child.unref()
  closeSync(log)
  const file = join(directory, 'init.pid')
  await until(`the start of ${name}`, () => Promise.resolve(readPid(file) !== undefined))
  recordProcess(name, readPid(file) ?? 0)
  await connectNode(plan, index, network)
}

function readPid(file: string): number | undefined {
  try {
    const text = readFileSync(file, 'utf8')
    return text.endsWith('\n') ? Number(text) : undefined
  } catch {
    return undefined // not written yet
  }
}

/** Opens the way to the API server at a port of this machine's loopback, and writes the kubeconfig. */
async function openGateway(plan: AddressPlan): Promise<void> {
  const listener = await listenInNetns({
    netns: '/proc/self/ns/net',
    address: '127.0.0.1',
    port: 0,
  })
  const log = openSync(join(STATE_DIRECTORY, 'gateway.log'), 'a')
  const node = `--net=/proc/${pidOf(NODES[0])}/ns/net`
  const child = spawn(
    'nsenter',
    [node, process.execPath, join(ROOM, 'gateway.ts'), nodeIp(plan, 0)],
    {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log, 'ipc', listener],
    },
  )
  recordProcess('gateway', child.pid ?? 0)
  closeSync(log)
  closeSync(listener)
  const [{ port }] = (await once(child, 'message', {
    signal: AbortSignal.timeout(READY_DEADLINE_MS),
  })) as [AddressInfo]
  child.unref()
  const admin = readFileSync(join(PKI_DIRECTORY, 'admin.conf'), 'utf8')
  const local = admin.replace(apiAddress(plan), `127.0.0.1:${port}`)
  writeFileSync(KUBECONFIG, local, { mode: 0o600 })
}

async function untilNodesReady(plan: AddressPlan): Promise<void> {
  const ask = async (...args: readonly string[]): Promise<CommandOutput> =>
    await tryCommand(['kubectl', `--kubeconfig=${KUBECONFIG}`, '--request-timeout=2s', ...args])
  // Not by its objects: for those kubectl first asks what kinds there are, again and again.
  await until('API server that is ready', async () => {
    const { code } = await ask('get', '--raw', '/readyz')
    return code === 0
  })
  await until('nodes that register', async () => {
    const { stdout } = await ask('get', 'nodes', '-o', 'name')
    return stdout.trim().split('\n').length >= NODES.length
  })
  await assignPodRanges(plan)
  await kubectl(['wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=120s'])
}

/** To the nodes' objects, where a CNI of its own looks for them: by us, for each is to have the range that the machine knows. */
async function assignPodRanges(plan: AddressPlan): Promise<void> {
  for (const [index, name] of NODES.entries()) {
    const podCIDRs = plan.pods(index)
    const spec = { podCIDR: podCIDRs[0], podCIDRs }
    await kubectl(['patch', 'node', name, '-p', JSON.stringify({ spec })])
  }
}

/** Polls: before the server serves there is nothing to be told by. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + READY_DEADLINE_MS; !(await holds()); await sleep(POLL_MS))
    if (Date.now() > deadline)
      throw new AmbitError(
        'AMB_CLUSTER',
        `Cannot bring a cluster up: no ${what}; the logs are in ${STATE_DIRECTORY}/NODE/logs`,
      )
}
