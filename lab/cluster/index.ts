// SPDX-License-Identifier: Apache-2.0
// The lab as a library: tests, the demo and the command line all make and use labs through this. A lab outlives
// the process that made it unless that process takes it down (`await using` does).

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createKubeApi, type KubeApi } from '../../mesh/kube/api.ts'
import { loadKubeConfig } from '../../mesh/kube/access.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { FABRIC_BRIDGE, NODE_UPLINK } from '../network/fabric.ts'
import { type CommandOutput, tryCommand } from '../machine/command.ts'
import { type ContainerCommand, containerCommand } from '../kubelet/container-exec.ts'
import { enterCgroup } from '../machine/enter-cgroup.ts'
import { containerLogs, type PodRecord, readPodRecords } from '../kubelet/pod-record.ts'
import { type Ownership, ownershipOf } from '../kubernetes/real/ownership.ts'
import { type AttachOptions, planAttachment } from '../kubernetes/real/plan.ts'
import { nodePlans } from '../network/addressing.ts'
import { applyManifests } from './apply.ts'
import { type DownReport, takeBack, takeDown } from './down.ts'
import {
  DEFAULT_LAB_NAME,
  type LabLayout,
  labLayout,
  netnsPath,
  nodeLayout,
} from '../machine/layout.ts'
import { type Manifest, parseManifests, readManifests } from '../machine/manifests.ts'
import {
  absentKinds,
  exclusiveObjects,
  MESH_NAMESPACE,
  meshManifests,
  type MeshParts,
  readMesh,
} from './mesh.ts'
import { type LabState, readState, runningProcesses, writeState } from './state.ts'
import { bringUp, refuseExisting } from './up.ts'
import { PodsNotReady, waitFor, waitForPods } from './wait.ts'

export { type DownReport, listLabs, takeDown } from './down.ts'
export type { CommandOutput } from '../machine/command.ts'

export interface LabOptions {
  readonly name?: string | undefined
  readonly nodes?: number | undefined
  /** Install controller and agents. Default true. */
  readonly mesh?: boolean | undefined
  /** Manifest files or directories to apply. */
  readonly files?: readonly string[] | undefined
  /** Wait until all pods of mesh and files are ready. Default true. */
  readonly wait?: boolean | undefined
  /** Leave the lab up when its pods do not get ready, for a person to look at. Default false: it is removed. */
  readonly keepUnready?: boolean | undefined
  /** Stand against this API server, not one of the lab's own. */
  readonly attach?: AttachOptions | undefined
  readonly report?: ((line: string) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ExecOptions {
  readonly container?: string | undefined
  readonly input?: string | undefined
  readonly timeoutMs?: number | undefined
}

/** A running capture of packets. */
export interface Capture {
  /** Ends it; resolves when the file is complete. */
  stop(): Promise<void>
}

/** How long `wait` waits for pods: long enough for a loaded machine, short enough for a person. */
const PODS_DEADLINE_MS = 60_000
/** Longer than kubectl is ever asked to wait (--timeout): it ends by itself, and says why. */
const KUBECTL_TIMEOUT_MS = 180_000
const DEFAULT_NODES = 2
/** Pods of the chart's DaemonSet. */
const AGENT_NAME_PREFIX = 'ambit-agent-'
/** How much of an unready pod's log is worth quoting. */
const QUOTED_LOG_BYTES = 1000

/** What tcpdump says at SIGUSR1. */
const CAPTURE_COUNTS =
  /(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped/

/** Makes a lab and gives a handle on it. */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  const report = options.report ?? (() => undefined)
  // Read before anything is made: a typing error must not cost a lab.
  const given = (options.files ?? []).flatMap((path) => readManifests(path))
  const hasMesh = options.mesh !== false
  const name = options.name ?? DEFAULT_LAB_NAME
  const nodes = options.nodes ?? DEFAULT_NODES
  refuseExisting(labLayout(name))
  const attach =
    options.attach === undefined
      ? undefined
      : await planAttachment(options.attach, {
          name,
          nodes: nodePlans(nodes).map((node) => node.name),
          exclusive: hasMesh ? exclusiveObjects(await meshManifests(labLayout(name))) : [],
        })
  const reading = Promise.withResolvers<MeshParts>()
  // Where the lab does not come up nobody asks for it any more.
  reading.promise.catch(() => undefined)
  const layout = await bringUp({
    name,
    nodes,
    hasMesh,
    attach,
    report,
    signal: options.signal,
    meanwhile: () => {
      if (hasMesh) readMesh(labLayout(name)).then(reading.resolve, reading.reject)
    },
  })
  try {
    const lab = await openLab(layout.name)
    const ownership = lab.ownership()
    if (hasMesh) {
      const { kinds, manifests } = await reading.promise
      await applyManifests(lab.api, await absentKinds(lab.api, kinds), { ownership })
      await applyManifests(lab.api, manifests, { ownership })
      lab.markMesh()
      report('mesh: controller and agents are installed')
    }
    options.signal?.throwIfAborted()
    await applyManifests(lab.api, given, { report, ownership })
    if (options.wait !== false && (hasMesh || given.length > 0)) {
      await waitForPods(lab.api, {
        deadlineMs: PODS_DEADLINE_MS,
        report,
        signal: options.signal,
        // In a cluster that others use, their pods are not waited for.
        ...(attach === undefined ? {} : { namespaces: namespacesOf(given, hasMesh) }),
      })
    }
    return lab
  } catch (error) {
    const explained = error instanceof PodsNotReady ? withLogs(error, layout) : error
    const isKept = error instanceof PodsNotReady && options.keepUnready === true
    throw isKept ? explained : await takeBack(layout.name, explained)
  }
}

/** Where the pods of these manifests, and of the mesh, are. */
function namespacesOf(given: readonly Manifest[], hasMesh: boolean): ReadonlySet<string> {
  const ofManifest = ({ kind, name, namespace }: Manifest): string =>
    kind === 'Namespace' ? name : (namespace ?? 'default')
  return new Set([...given.map(ofManifest), ...(hasMesh ? [MESH_NAMESPACE] : [])])
}

/** Adds the last lines of what the pods that are not ready have logged. */
function withLogs(error: PodsNotReady, layout: LabLayout): AmbitError {
  const tails = readPodRecords(layout)
    .filter((record) => error.pods.includes(`${record.namespace}/${record.name}`))
    .flatMap((record) =>
      record.containers.flatMap((container) => {
        const log = latestLog(layout, record, container).slice(-QUOTED_LOG_BYTES).trim()
        return log === ''
          ? []
          : [`the end of the log of ${record.namespace}/${record.name} ${container.name}:\n${log}`]
      }),
    )
  return new AmbitError('AMB_LAB', [error.message, ...tails].join('\n'), { cause: error })
}

function latestLog(
  layout: LabLayout,
  record: PodRecord,
  container: PodRecord['containers'][number],
): string {
  const [path] = containerLogs(layout, record.uid, container)
  return path === undefined ? '' : readFileSync(path, 'utf8')
}

/** Gives a handle on a lab that is up. Throws AMB_LAB_MISSING when there is none of that name. */
export async function openLab(name: string = DEFAULT_LAB_NAME): Promise<Lab> {
  const { layout, state } = requireLab(name)
  const access = await loadKubeConfig({ kubeconfig: layout.kubeconfig })
  if (!access.ok) throw access.error
  return new Lab(layout, state, createKubeApi(access.value))
}

/** The layout and state of a lab that is up, without connecting to it. */
export function requireLab(name: string): { readonly layout: LabLayout; readonly state: LabState } {
  const layout = labLayout(name)
  const state = readState(layout)
  if (state === undefined || runningProcesses(state).length === 0) {
    throw new AmbitError('AMB_LAB_MISSING', `Cannot find lab "${name}": it is not up`)
  }
  return { layout, state }
}

export class Lab {
  readonly layout: LabLayout
  readonly api: KubeApi
  #state: LabState

  constructor(layout: LabLayout, state: LabState, api: KubeApi) {
    this.layout = layout
    this.#state = state
    this.api = api
  }

  get name(): string {
    return this.layout.name
  }

  get state(): LabState {
    return this.#state
  }

  get nodes(): readonly string[] {
    return this.#state.nodes
  }

  /** Path of a kubeconfig that plain kubectl accepts. */
  get kubeconfig(): string {
    return this.layout.kubeconfig
  }

  /** Runs kubectl and gives what it printed; rejects when it fails. */
  async kubectl(...args: readonly string[]): Promise<string> {
    const output = await this.tryKubectl(...args)
    if (output.code === 0) return output.stdout
    throw new Error(`Cannot run kubectl ${args.join(' ')}: ${output.stderr.trim()}`)
  }

  /** Runs kubectl, whatever its exit code. */
  async tryKubectl(...args: readonly string[]): Promise<CommandOutput> {
    return await tryCommand(['kubectl', ...args], {
      env: this.kubectlEnvironment(),
      timeoutMs: KUBECTL_TIMEOUT_MS,
    })
  }

  kubectlEnvironment(): NodeJS.ProcessEnv {
    return { ...process.env, KUBECONFIG: this.kubeconfig }
  }

  /** Applies the text of manifests, as `ambit lab up -f` applies files. */
  async apply(yaml: string): Promise<void> {
    await this.applyManifests(parseManifests(yaml, 'manifest'))
  }

  async applyManifests(manifests: readonly Manifest[]): Promise<void> {
    await applyManifests(this.api, manifests)
  }

  /** The running pod `NAMESPACE/NAME`; throws AMB_LAB_TARGET when there is none. */
  pod(name: string): PodRecord {
    return findPod(this.layout, name)
  }

  /** Runs a command in a pod (namespaces, cgroup and environment of its first container unless one is named). */
  async exec(
    pod: string,
    command: readonly string[],
    options: ExecOptions = {},
  ): Promise<CommandOutput> {
    const { argv, environment: env } = podCommand(this.layout, pod, command, options.container)
    return await tryCommand(argv, {
      env,
      ...(options.input === undefined ? {} : { input: options.input }),
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    })
  }

  /** Starts a command in a pod and leaves its streams to the caller. */
  spawn(pod: string, command: readonly string[], options: ExecOptions = {}): ChildProcess {
    const found = podCommand(this.layout, pod, command, options.container)
    const [program = 'sh', ...args] = found.argv
    return spawn(program, args, { env: found.environment, stdio: ['pipe', 'pipe', 'pipe'] })
  }

  /** Runs a command on a node: its network namespace, in a cgroup that is not the kubelet's. */
  async nodeExec(
    node: string,
    command: readonly string[],
    options: ExecOptions = {},
  ): Promise<CommandOutput> {
    return await tryCommand(nodeCommandLine(this.layout, this.#state, node, command), {
      ...(options.input === undefined ? {} : { input: options.input }),
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    })
  }

  /** Log of a container's latest run that has one, as far as it is written. */
  log(pod: string, container?: string): string {
    const record = this.pod(pod)
    return latestLog(this.layout, record, pickContainer(record, container))
  }

  /** Waits until `check` gives something other than undefined; the error names `what` and the last failure. */
  async waitFor<T>(
    what: string,
    check: () => Promise<T | undefined> | T | undefined,
    deadlineMs?: number,
  ): Promise<T> {
    return await waitFor(what, check, deadlineMs)
  }

  /** Waits until all pods of a namespace (or of all) are ready or have succeeded. */
  async waitForPods(namespace?: string, deadlineMs: number = PODS_DEADLINE_MS): Promise<void> {
    await waitForPods(this.api, { deadlineMs, ...(namespace === undefined ? {} : { namespace }) })
  }

  /** Captures packets of a node's uplink, or of the fabric's bridge, into a file. Resolves once it listens. */
  async capture(where: string, file: string, filter: readonly string[] = []): Promise<Capture> {
    const argv = captureCommandLine(this.layout, this.#state, where, file, filter)
    const child = spawn(argv[0] ?? 'sh', argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
    const exited = once(child, 'exit')
    const { promise: listening, resolve, reject } = Promise.withResolvers<void>()
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.includes('listening on')) resolve()
    })
    child.on('exit', () => reject(new Error(`Cannot capture on ${where}: ${said.trim()}`)))
    await listening
    return {
      async stop() {
        await waitFor(`what the capture on ${where} has still to write`, async () => {
          const since = said.length
          // tcpdump counts what it wrote, and what the kernel has for it: told to end, it would leave the rest unread.
          child.kill('SIGUSR1')
          await Promise.race([exited, once(child.stderr, 'data')])
          const counts = CAPTURE_COUNTS.exec(said.slice(since))
          if (child.exitCode !== null) return true
          const [written, received, dropped] = (counts ?? []).slice(1).map(Number)
          if (written === undefined || received === undefined) return undefined
          return written + (dropped ?? 0) >= received ? true : undefined
        })
        child.kill('SIGINT')
        await exited
      },
    }
  }

  /** How what is applied is marked as the lab's own; undefined when the whole cluster is. */
  ownership(): Ownership | undefined {
    const { attached } = this.#state
    if (attached === undefined) return undefined
    return ownershipOf(this.api, attached.runId, (made) => {
      const before = this.#state.attached ?? attached
      this.#state = { ...this.#state, attached: { ...before, made: [...before.made, made] } }
      writeState(this.layout, this.#state)
    })
  }

  /** Remembers that the mesh is installed. */
  markMesh(): void {
    this.#state = { ...this.#state, hasMesh: true }
    writeState(this.layout, this.#state)
  }

  /** Takes the lab down; throws when anything of it is left. */
  async down(): Promise<DownReport> {
    const report = await takeDown(this.name)
    if (report.leftovers.length > 0) {
      throw new AmbitError(
        'AMB_LAB',
        `Cannot take lab "${this.name}" down: ${report.leftovers.join('; ')}`,
      )
    }
    return report
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down()
  }
}

function findPod(layout: LabLayout, name: string): PodRecord {
  const [namespace, podName] = name.includes('/') ? name.split('/') : ['default', name]
  const records = readPodRecords(layout)
  const found = records.find((each) => each.namespace === namespace && each.name === podName)
  if (found !== undefined) return found
  // A Deployment's pods have random ends; its own name is what a person knows.
  const byPrefix = records.filter(
    (each) => each.namespace === namespace && each.name.startsWith(`${podName ?? ''}-`),
  )
  const [only] = byPrefix
  if (only !== undefined && byPrefix.length === 1) return only
  const there = records.map((each) => `${each.namespace}/${each.name}`).toSorted()
  throw new AmbitError(
    'AMB_LAB_TARGET',
    `Cannot find pod "${name}" in lab "${layout.name}"${byPrefix.length > 1 ? ': several match' : ''}; it has ${there.join(', ') || 'no pods'}`,
  )
}

/** The running agent of a node, as NAMESPACE/POD; throws AMB_LAB_TARGET when there is none. */
export function agentPod(layout: LabLayout, node: string): string {
  const agent = readPodRecords(layout).find(
    (pod) =>
      pod.node === node &&
      pod.namespace === MESH_NAMESPACE &&
      pod.name.startsWith(AGENT_NAME_PREFIX),
  )
  if (agent !== undefined) return `${agent.namespace}/${agent.name}`
  throw new AmbitError(
    'AMB_LAB_TARGET',
    `Cannot find an agent on ${node} in lab "${layout.name}": the mesh is not installed, or its pod is not there yet`,
  )
}

function pickContainer(
  record: PodRecord,
  container: string | undefined,
): PodRecord['containers'][number] {
  const found = record.containers.find((each) =>
    container === undefined ? !each.isInit : each.name === container,
  )
  if (found !== undefined) return found
  throw new AmbitError(
    'AMB_LAB_TARGET',
    `Cannot find container "${container ?? ''}" in pod ${record.namespace}/${record.name}; it has ${record.containers.map((each) => each.name).join(', ')}`,
  )
}

/** What to spawn to run a command inside a pod's container. */
export function podCommand(
  layout: LabLayout,
  pod: string,
  command: readonly string[],
  container?: string,
): ContainerCommand {
  const record = findPod(layout, pod)
  const found = pickContainer(record, container)
  const spawned = containerCommand(found, command)
  if (spawned !== undefined) return spawned
  throw new AmbitError(
    'AMB_LAB_TARGET',
    `Cannot run a command in ${record.namespace}/${record.name}: its container "${found.name}" is not running`,
  )
}

/** The command line that runs a command on a node. */
export function nodeCommandLine(
  layout: LabLayout,
  state: LabState,
  node: string,
  command: readonly string[],
): readonly string[] {
  if (!state.nodes.includes(node)) {
    throw new AmbitError(
      'AMB_LAB_TARGET',
      `Cannot find node "${node}" in lab "${layout.name}"; it has ${state.nodes.join(', ')}`,
    )
  }
  const { netns, execCgroup } = nodeLayout(layout, node)
  return [...enterCgroup(execCgroup), 'nsenter', `--net=${netnsPath(netns)}`, ...command]
}

/** The command line of a capture on a node's uplink or the fabric's bridge. */
export function captureCommandLine(
  layout: LabLayout,
  state: LabState,
  where: string,
  file: string,
  filter: readonly string[] = [],
): readonly string[] {
  const isFabric = where === 'fabric'
  const tcpdump = [
    'tcpdump',
    '--interface',
    isFabric ? FABRIC_BRIDGE : NODE_UPLINK,
    // Each packet is written as it comes, and no rights are dropped: the file may be anywhere.
    '--packet-buffered',
    '--immediate-mode',
    '--relinquish-privileges=root',
    '-w',
    file,
    ...filter,
  ]
  if (!isFabric) return nodeCommandLine(layout, state, where, tcpdump)
  return [
    ...enterCgroup(join(layout.cgroup, 'daemon')),
    'nsenter',
    `--net=${netnsPath(layout.fabricNetns)}`,
    ...tcpdump,
  ]
}
