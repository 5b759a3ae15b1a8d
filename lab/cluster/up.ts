// SPDX-License-Identifier: Apache-2.0
// Brings a lab's own parts up, in order: directories and cgroups, networks, the control plane's daemon, one
// kubelet per node. Whatever fails on the way, everything made so far is removed again.

import { existsSync, mkdirSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkMachine } from '../../agent/capture/index.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { KubeletArguments } from '../kubelet/main.ts'
import { MAX_NODES, type NodePlan, nodePlans } from '../network/addressing.ts'
import { command } from '../network/command.ts'
import { createFabric } from '../network/fabric.ts'
import { INHERITED_FD, type StartedProcess, startLabProcess } from './child-process.ts'
import type { DaemonArguments } from './daemon.ts'
import { takeDown } from './down.ts'
import { type LabLayout, labLayout, nodeLayout } from './layout.ts'
import { requireLabMachine } from './requirements.ts'
import { type LabProcess, type LabState, readState, runningProcesses, writeState } from './state.ts'

export type UpOptions = {
  readonly name: string
  readonly nodes: number
  /** Agents are to run in it: the machine must be fit for them, too. */
  readonly hasMesh: boolean
  /** Told of each step as it is done. */
  readonly report: (line: string) => void
  /** Aborting rolls everything back. */
  readonly signal?: AbortSignal | undefined
}

const DAEMON_PROGRAM = fileURLToPath(new URL('./daemon.ts', import.meta.url))
const KUBELET_PROGRAM = fileURLToPath(new URL('../kubelet/main.ts', import.meta.url))

/** Makes the lab's machinery (everything but what runs in its pods). */
export async function bringUp(options: UpOptions): Promise<LabLayout> {
  requireLabMachine()
  const lab = labLayout(options.name)
  if (!Number.isInteger(options.nodes) || options.nodes < 1 || options.nodes > MAX_NODES) {
    throw new AmbitError(
      'AMB_USAGE',
      `Cannot make a lab of ${options.nodes} nodes: it has 1 to ${MAX_NODES}`,
    )
  }
  refuseExisting(lab)
  // Agents would say the same in their logs, a minute later.
  if (options.hasMesh) {
    const fit = await checkMachine({ cgroupPath: lab.cgroupMount })
    if (!fit.ok) throw fit.error
  }
  try {
    await build(lab, options)
    return lab
  } catch (error) {
    // The logs go with the lab; the error has quoted what matters.
    await takeDown(lab.name)
    throw error
  }
}

function refuseExisting(lab: LabLayout): void {
  const state = readState(lab)
  if (state !== undefined && runningProcesses(state).length > 0) {
    throw new AmbitError('AMB_LAB_EXISTS', `Cannot make lab "${lab.name}": it is already there`)
  }
  if (existsSync(lab.runDir) || existsSync(lab.cgroup)) {
    throw new AmbitError(
      'AMB_LAB_EXISTS',
      `Cannot make lab "${lab.name}": remains of a former one are in ${existsSync(lab.runDir) ? lab.runDir : lab.cgroup}`,
    )
  }
}

async function build(lab: LabLayout, options: UpOptions): Promise<void> {
  const nodes = nodePlans(options.nodes)
  const processes: LabProcess[] = []
  let state: LabState = {
    name: lab.name,
    nodes: nodes.map((node) => node.name),
    createdAt: new Date().toISOString(),
    isUp: false,
    hasMesh: false,
    apiPort: 0,
    processes,
  }
  const save = (change: Partial<LabState>): void => {
    state = { ...state, ...change }
    writeState(lab, state)
  }
  const check = (): void => options.signal?.throwIfAborted()

  mkdirSync(lab.runDir, { recursive: true })
  save({})
  await makeDirectories(lab, nodes)
  check()
  await createFabric(lab, nodes)
  options.report(`network: fabric and ${nodes.map((node) => node.name).join(', ')}`)
  check()

  const nodeKubeconfig = join(lab.runDir, 'nodes', 'kubeconfig')
  const { record, ready, hostPort } = await startDaemon(lab, state.nodes, nodeKubeconfig)
  processes.push(record)
  save({ apiPort: hostPort })
  await ready
  options.report(`API server: https://127.0.0.1:${hostPort}`)
  check()

  const kubelets = nodes.map((node) => {
    const { kubeletCgroup, netns } = nodeLayout(lab, node.name)
    const argument: KubeletArguments = {
      lab: lab.name,
      nodeIndex: node.index,
      kubeconfig: nodeKubeconfig,
    }
    const role = `kubelet-${node.name}`
    return startLabProcess({
      lab,
      role,
      cgroup: kubeletCgroup,
      netns,
      program: KUBELET_PROGRAM,
      argument,
    })
  })
  processes.push(...kubelets.map((kubelet) => kubelet.record))
  save({})
  await Promise.all(kubelets.map(async (kubelet) => await kubelet.ready))
  check()
  save({ isUp: true })
  options.report(`nodes: ${nodes.map((node) => node.name).join(', ')} ready`)
}

/** The daemon lives in the fabric's namespace; a listener on the host's loopback is made here and handed down. */
async function startDaemon(
  lab: LabLayout,
  nodes: readonly string[],
  nodeKubeconfig: string,
): Promise<StartedProcess & { readonly hostPort: number }> {
  const listener = createServer()
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  try {
    const address = listener.address()
    const hostPort = typeof address === 'object' && address !== null ? address.port : 0
    const argument: DaemonArguments = {
      lab: lab.name,
      nodes,
      hostListenFd: INHERITED_FD,
      hostPort,
      nodeKubeconfig,
    }
    const started = startLabProcess({
      lab,
      role: 'daemon',
      cgroup: join(lab.cgroup, 'daemon'),
      netns: lab.fabricNetns,
      program: DAEMON_PROGRAM,
      argument,
      listenFd: descriptorOf(listener),
    })
    return { ...started, hostPort }
  } finally {
    listener.close()
  }
}

/** Node has no public way to learn a server's descriptor, which is what a child inherits. */
function descriptorOf(server: Server): number {
  const { _handle: handle } = server as unknown as { readonly _handle?: { readonly fd?: number } }
  if (handle?.fd === undefined) throw new Error('Cannot hand down a listener: it has no descriptor')
  return handle.fd
}

async function makeDirectories(lab: LabLayout, nodes: readonly NodePlan[]): Promise<void> {
  for (const directory of [lab.logsDir, lab.podsDir, lab.bpfDir, lab.cgroup]) {
    mkdirSync(directory, { recursive: true })
  }
  await command(['mount', '-t', 'bpf', 'ambit-lab', lab.bpfDir])
  for (const node of nodes) {
    const layout = nodeLayout(lab, node.name)
    for (const directory of [
      layout.cniNetDir,
      layout.cniBinDir,
      layout.agentDir,
      layout.bpfDir,
      layout.kubeletCgroup,
      layout.execCgroup,
      layout.podsCgroup,
    ]) {
      mkdirSync(directory, { recursive: true })
    }
  }
}
