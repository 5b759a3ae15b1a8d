// SPDX-License-Identifier: Apache-2.0
// Brings a lab's own parts up, in order: directories and cgroups, networks, the control plane's daemon, one
// kubelet per node. Whatever fails on the way, everything made so far is removed again.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkMachine } from '../../agent/capture/index.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { AttachedDaemonArguments } from './attached-daemon.ts'
import type { GatewayArguments } from '../kubernetes/real/gateway.ts'
import { LAB_LABEL, LAB_TAINT, RUN_LABEL } from '../kubernetes/objects/lab-marks.ts'
import type { AttachPlan } from '../kubernetes/real/plan.ts'
import type { KubeletArguments } from '../kubelet/main.ts'
import {
  DNS_SERVICE_IP4,
  DNS_SERVICE_IP6,
  FABRIC_GATEWAY4,
  FABRIC_GATEWAY6,
  KUBERNETES_SERVICE_IP,
  MAX_NODES,
  type NodePlan,
  nodePlans,
} from '../network/addressing.ts'
import { command } from '../machine/command.ts'
import { createFabric } from '../network/fabric.ts'
import { INHERITED_FD, type StartedProcess, startLabProcess } from '../machine/child-process.ts'
import type { DaemonArguments } from './daemon.ts'
import { takeBack } from './down.ts'
import {
  type LabLayout,
  LABS_DIRECTORY,
  labLayout,
  nodeLayout,
  PRIVATE_DIRECTORY_MODE,
  SECRET_FILE_MODE,
} from '../machine/layout.ts'
import { requireLabMachine } from '../machine/requirements.ts'
import { type LabProcess } from '../machine/child-process.ts'
import { type LabState, readState, runningProcesses, writeState } from './state.ts'

export interface UpOptions {
  readonly name: string
  readonly nodes: number
  /** Agents are to run in it: the machine must be fit for them, too. */
  readonly hasMesh: boolean
  /** The real API server to stand against; the lab's own when left out. */
  readonly attach?: AttachPlan | undefined
  /** Told of each step as it is done. */
  readonly report: (line: string) => void
  /** Aborting rolls everything back. */
  readonly signal?: AbortSignal | undefined
  /** Called while the control plane starts: the time for what does not need it. */
  readonly meanwhile: () => void
}

const DAEMON_PROGRAM = fileURLToPath(new URL('./daemon.ts', import.meta.url))
const ATTACHED_DAEMON_PROGRAM = fileURLToPath(new URL('./attached-daemon.ts', import.meta.url))
const GATEWAY_PROGRAM = fileURLToPath(new URL('../kubernetes/real/gateway.ts', import.meta.url))
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
    throw await takeBack(lab.name, error)
  }
}

/** Throws AMB_LAB_EXISTS when there is a lab of that name, or something of one. */
export function refuseExisting(lab: LabLayout): void {
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
  const nodes = nodePlans(options.nodes, options.attach?.facts.podNet)
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
  const track = (started: StartedProcess): Promise<void> => {
    processes.push(started.record)
    save({})
    return started.ready
  }
  const check = (): void => options.signal?.throwIfAborted()

  mkdirSync(LABS_DIRECTORY, { recursive: true })
  mkdirSync(lab.runDir, { mode: PRIVATE_DIRECTORY_MODE })
  save({})
  await makeDirectories(lab, nodes)
  check()
  await createFabric(lab, nodes)
  options.report(`network: fabric and ${nodes.map((node) => node.name).join(', ')}`)
  check()

  let kubeletBasics: KubeletBasics
  if (options.attach === undefined) {
    const path = join(lab.runDir, 'nodes', 'kubeconfig')
    const daemon = await startDaemon(lab, state.nodes, path)
    save({ apiPort: daemon.hostPort })
    const ready = track(daemon)
    options.meanwhile()
    await ready
    options.report(`API server: https://127.0.0.1:${daemon.hostPort}`)
    kubeletBasics = ownBasics(lab, path)
  } else {
    const { attach } = options
    // First what a `down` needs, whatever happens from here on.
    writeFileSync(lab.kubeconfig, attach.kubeconfig.content, { mode: SECRET_FILE_MODE })
    save({ attached: attach.state })
    await track(startGateway(lab))
    const ready = track(startAttachedDaemon(lab, state.nodes, attach))
    options.meanwhile()
    await ready
    for (const line of attach.lines) options.report(line)
    kubeletBasics = attachedBasics(lab, attach)
  }
  check()

  const kubelets = nodes.map((node) => {
    const { kubeletCgroup, netns } = nodeLayout(lab, node.name)
    const argument: KubeletArguments = {
      ...kubeletBasics,
      lab: lab.name,
      nodeIndex: node.index,
      podNet: node.podNet,
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
  await Promise.all(kubelets.map((kubelet) => kubelet.ready))
  check()
  save({ isUp: true })
  options.report(`nodes: ${nodes.map((node) => node.name).join(', ')} ready`)
}

type KubeletBasics = Pick<KubeletArguments, 'api' | 'addresses' | 'marks'>

/** What kubelets are told when the API server is the lab's own. */
function ownBasics(lab: LabLayout, path: string): KubeletBasics {
  return {
    api: { kind: 'kubeconfig', path },
    addresses: {
      kubernetesServiceIp: KUBERNETES_SERVICE_IP,
      dnsIp4: DNS_SERVICE_IP4,
      dnsIp6: DNS_SERVICE_IP6,
    },
    marks: { labels: { [LAB_LABEL]: lab.name }, taints: [] },
  }
}

/** The same when it is a real one: whose services have addresses of its own choice, and whose DNS is not the lab's. */
function attachedBasics(lab: LabLayout, { state, facts, isTainted }: AttachPlan): KubeletBasics {
  return {
    api: { kind: 'gateway', socket: gatewaySockets(lab).apiSocket },
    addresses: {
      kubernetesServiceIp: facts.kubernetesServiceIp,
      dnsIp4: FABRIC_GATEWAY4,
      dnsIp6: FABRIC_GATEWAY6,
    },
    marks: {
      labels: { [LAB_LABEL]: lab.name, [RUN_LABEL]: state.runId },
      taints: isTainted ? [{ key: LAB_TAINT, value: lab.name, effect: 'NoSchedule' }] : [],
    },
  }
}

const gatewaySockets = (lab: LabLayout) => ({
  apiSocket: join(lab.runDir, 'api.sock'),
  relaySocket: join(lab.runDir, 'relay.sock'),
})

/** The gateway stays in the host's own network namespace. */
function startGateway(lab: LabLayout): StartedProcess {
  const argument: GatewayArguments = { kubeconfig: lab.kubeconfig, ...gatewaySockets(lab) }
  const cgroup = join(lab.cgroup, 'gateway')
  return startLabProcess({ lab, role: 'gateway', cgroup, program: GATEWAY_PROGRAM, argument })
}

function startAttachedDaemon(
  lab: LabLayout,
  nodes: readonly string[],
  { state, facts, kubeconfig, takesLeases }: AttachPlan,
): StartedProcess {
  const argument: AttachedDaemonArguments = {
    lab: lab.name,
    nodes,
    ...gatewaySockets(lab),
    runId: state.runId,
    parts: state.parts,
    takesLeases,
    rootCaPem: kubeconfig.caPem,
    serviceRanges: facts.serviceRanges,
  }
  return startLabProcess({
    lab,
    role: 'daemon',
    cgroup: join(lab.cgroup, 'daemon'),
    netns: lab.fabricNetns,
    program: ATTACHED_DAEMON_PROGRAM,
    argument,
  })
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
  mkdirSync(lab.podsDir, { mode: PRIVATE_DIRECTORY_MODE })
  for (const directory of [lab.logsDir, lab.bpfDir, lab.cgroup]) {
    mkdirSync(directory, { recursive: true })
  }
  await command(['mount', '-t', 'bpf', 'ambit-lab', lab.bpfDir])
  for (const node of nodes) {
    const layout = nodeLayout(lab, node.name)
    for (const directory of [
      layout.cniNetDir,
      layout.cniBinDir,
      layout.agentDir,
      layout.podLogsDir,
      layout.bpfDir,
      layout.kubeletCgroup,
      layout.execCgroup,
      layout.podsCgroup,
    ]) {
      mkdirSync(directory, { recursive: true })
    }
  }
}
