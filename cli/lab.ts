// SPDX-License-Identifier: Apache-2.0
// `ambit lab ...`: makes, uses and removes labs. All the work is lab/cluster's; here are the flags and the words.

import { join } from 'node:path'
import { readFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { AttachOptions } from '../lab/kubernetes/real/plan.ts'
import type { ControllersChoice } from '../lab/kubernetes/real/preflight.ts'
import {
  agentPod,
  captureCommandLine,
  createLab,
  listLabs,
  nodeCommandLine,
  openLab,
  podCommand,
  requireLab,
  takeDown,
} from '../lab/cluster/index.ts'
import { DEFAULT_LAB_NAME, labLayout } from '../lab/machine/layout.ts'
import { requireRoot, requireTool } from '../lab/machine/requirements.ts'
import { readState, runningProcesses } from '../lab/cluster/state.ts'
import { MAX_NODES } from '../lab/network/addressing.ts'
import { readPodRecords } from '../lab/kubelet/pod-record.ts'
import { AmbitError } from '../mesh/errors.ts'
import { runForeground } from './foreground.ts'
import { print, printTable } from './output.ts'

type Named = { readonly name: string }

const NAME_FLAG = ['--name <name>', 'name of the lab', DEFAULT_LAB_NAME] as const

/** The group of lab commands. */
export function labCommand(): Command {
  return new Command('lab')
    .description('a miniature Kubernetes cluster on this machine, for trying and testing the mesh')
    .enablePositionalOptions()
    .addCommand(upCommand())
    .addCommand(downCommand())
    .addCommand(statusCommand())
    .addCommand(kubeconfigCommand())
    .addCommand(kubectlCommand())
    .addCommand(execCommand())
    .addCommand(nodeExecCommand())
    .addCommand(captureCommand())
    .addCommand(logsCommand())
}

type UpFlags = Named & {
  readonly nodes: number
  readonly file: readonly string[]
  readonly wait: boolean
  readonly mesh: boolean
  readonly kubeconfig?: string
  readonly context?: string
  readonly controllers?: ControllersChoice
  readonly taint?: boolean
}

function upCommand(): Command {
  return new Command('up')
    .description('make a lab and leave it running')
    .option(...NAME_FLAG)
    .option('--nodes <count>', `how many nodes (1 to ${MAX_NODES})`, parseNodes, 2)
    .option(
      '-f, --file <path>',
      'manifest file or directory to apply; may be repeated',
      (path: string, before: readonly string[]) => [...before, path],
      [],
    )
    .option('--no-wait', 'do not wait until the pods are ready')
    .option('--no-mesh', 'without controller and agents: a plain cluster')
    .option('--kubeconfig <file>', 'stand against a real API server, not one of the lab')
    .option('--context <name>', 'another context than the current one of --kubeconfig')
    .addOption(
      new Option(
        '--controllers <whose>',
        'with --kubeconfig: whose controllers and scheduler run there (auto: by their leases)',
      ).choices(['auto', 'lab', 'cluster']),
    )
    .option(
      '--taint',
      "with --kubeconfig: keep other pods off the lab's nodes (default: if there are other nodes)",
    )
    .option('--no-taint', "with --kubeconfig: let any pod come to the lab's nodes")
    .action(async (flags: UpFlags) => {
      requireRoot('make a lab')
      const started = Date.now()
      const interrupted = new AbortController()
      const onSignal = (signal: NodeJS.Signals): void => {
        process.stderr.write(`${signal}: removing what was made so far\n`)
        interrupted.abort(
          new AmbitError('AMB_LAB', `Cannot finish lab "${flags.name}": interrupted`),
        )
      }
      process.on('SIGINT', onSignal)
      process.on('SIGTERM', onSignal)
      const lab = await createLab({
        name: flags.name,
        nodes: flags.nodes,
        files: flags.file,
        wait: flags.wait,
        mesh: flags.mesh,
        report: print,
        keepUnready: true,
        attach: attachOptions(flags),
        signal: interrupted.signal,
      })
      const seconds = ((Date.now() - started) / 1000).toFixed(1)
      print(`lab "${lab.name}" is up (${seconds} s); kubeconfig: ${lab.kubeconfig}`)
      // Idle connections to the API server would keep the process for seconds more.
      process.exit(0)
    })
}

/** The flags that only mean something with --kubeconfig. */
function attachOptions(flags: UpFlags): AttachOptions | undefined {
  const { kubeconfig, context, controllers, taint } = flags
  if (kubeconfig !== undefined) return { kubeconfig, context, controllers, taint }
  const stray = Object.entries({ context, controllers, taint }).find(
    ([, value]) => value !== undefined,
  )
  if (stray === undefined) return undefined
  throw new AmbitError('AMB_USAGE', `Cannot take --${stray[0]} without --kubeconfig`)
}

function parseNodes(text: string): number {
  const nodes = Number(text)
  if (Number.isInteger(nodes) && nodes >= 1 && nodes <= MAX_NODES) return nodes
  throw new InvalidArgumentError(`must be a whole number from 1 to ${MAX_NODES}`)
}

function downCommand(): Command {
  return new Command('down')
    .description('remove a lab and everything of it')
    .option('--name <name>', `name of the lab (default: "${DEFAULT_LAB_NAME}")`)
    .option('--all', 'every lab on this machine')
    .action(async (flags: { readonly name?: string; readonly all?: true }) => {
      requireRoot('remove a lab')
      if (flags.all === true && flags.name !== undefined) {
        throw new AmbitError('AMB_USAGE', 'Cannot take both --name and --all')
      }
      const names = flags.all === true ? listLabs() : [flags.name ?? DEFAULT_LAB_NAME]
      if (names.length === 0) print('no lab is on this machine: nothing to remove')
      const leftovers: string[] = []
      for (const name of names) {
        const report = await takeDown(name)
        const { processes, namespaces, mounts, cgroups, objects } = report.removed
        leftovers.push(...report.leftovers)
        if (report.leftovers.length > 0) continue
        const total = processes + namespaces + mounts + cgroups
        const ofServer = objects === 0 ? '' : `, ${objects} objects of its API server`
        print(
          total === 0
            ? `lab "${name}": nothing was there`
            : `lab "${name}" is down: removed ${processes} processes, ${namespaces} network namespaces, ${mounts} mounts, ${cgroups} cgroups${ofServer}; nothing is left`,
        )
      }
      if (leftovers.length > 0) {
        throw new AmbitError('AMB_LAB', `Cannot remove everything: ${leftovers.join('; ')}`)
      }
    })
}

function statusCommand(): Command {
  return new Command('status')
    .description('labs on this machine, their nodes and pods')
    .option('--name <name>', 'only this lab')
    .option('-o, --output <format>', 'json for programs')
    .action((flags: { readonly name?: string; readonly output?: string }) => {
      if (flags.output !== undefined && flags.output !== 'json') {
        throw new AmbitError('AMB_USAGE', `Cannot print as "${flags.output}": only json`)
      }
      if (flags.name !== undefined) requireLab(flags.name)
      const labs = listLabs()
        .filter((name) => flags.name === undefined || flags.name === name)
        .map(describeLab)
      if (flags.output === 'json') {
        print(JSON.stringify(labs, undefined, 2))
        return
      }
      if (labs.length === 0) print('no lab is on this machine: start one with "ambit lab up"')
      for (const lab of labs) {
        print(
          `lab "${lab.name}": ${lab.state}${lab.mesh ? ', with mesh' : ''}, nodes ${lab.nodes.join(', ')}${lab.server === undefined ? '' : `, at ${lab.server}`}`,
        )
        if (lab.pods.length === 0) continue
        printTable(
          ['NAMESPACE', 'POD', 'NODE', 'CONTAINERS'],
          lab.pods.map((pod) => [pod.namespace, pod.name, pod.node, pod.containers]),
        )
      }
    })
}

function describeLab(name: string) {
  const layout = labLayout(name)
  const state = readState(layout)
  const running = state === undefined ? [] : runningProcesses(state)
  const isComplete = state?.isUp === true && running.length === state.processes.length
  const pods = readPodRecords(layout)
    .map((pod) => ({
      namespace: pod.namespace,
      name: pod.name,
      node: pod.node,
      containers: pod.containers
        .filter((each) => !each.isInit)
        .map((each) => `${each.name}${each.process === undefined ? ' (ended)' : ''}`)
        .join(', '),
    }))
    .toSorted((one, other) =>
      `${one.namespace}/${one.name}`.localeCompare(`${other.namespace}/${other.name}`),
    )
  return {
    name,
    state: isComplete ? 'up' : 'broken (ambit lab down removes it)',
    mesh: state?.hasMesh === true,
    nodes: state?.nodes ?? [],
    kubeconfig: layout.kubeconfig,
    /** Present when the API server is not the lab's own. */
    server: state?.attached?.server,
    pods,
  }
}

function kubeconfigCommand(): Command {
  return new Command('kubeconfig')
    .description('print the path of a kubeconfig for this lab')
    .option(...NAME_FLAG)
    .action((flags: Named) => print(requireLab(flags.name).layout.kubeconfig))
}

/** What an API server asks a node's kubelet for. */
const THROUGH_KUBELETS = ['logs', 'exec', 'attach', 'port-forward', 'cp', 'debug']

function kubectlCommand(): Command {
  return new Command('kubectl')
    .description('run kubectl against the lab: ambit lab kubectl -- get pods')
    .option(...NAME_FLAG)
    .argument('[args...]', "kubectl's arguments, after --")
    .passThroughOptions()
    .action(async (args: readonly string[], flags: Named) => {
      const { layout, state } = requireLab(flags.name)
      requireTool('kubectl', 'run kubectl')
      const env = { ...process.env, KUBECONFIG: layout.kubeconfig }
      process.exitCode = await runForeground(['kubectl', ...args], env)
      const verb = args.find((word) => THROUGH_KUBELETS.includes(word))
      if (process.exitCode !== 0 && state.attached !== undefined && verb !== undefined) {
        throw new AmbitError(
          'AMB_LAB_TARGET',
          `Cannot run kubectl ${verb} there: a real API server cannot reach the kubelets of a lab; "ambit lab ${verb === 'logs' ? 'logs' : 'exec'} --name ${flags.name} NAMESPACE/POD" goes there itself`,
        )
      }
    })
}

function execCommand(): Command {
  return new Command('exec')
    .description('run a command inside a pod: ambit lab exec shop/frontend -- curl http://catalog/')
    .option(...NAME_FLAG)
    .option('-c, --container <container>', 'which container (default: the first)')
    .argument('<pod>', 'NAMESPACE/POD; the name of a Deployment will do when it has one pod')
    .argument('<command...>', 'the command, after --')
    .passThroughOptions()
    .action(
      async (
        pod: string,
        command: readonly string[],
        flags: Named & { readonly container?: string },
      ) => {
        requireRoot('enter a pod')
        const { layout } = requireLab(flags.name)
        const found = podCommand(layout, pod, withoutDashes(command), flags.container)
        process.exitCode = await runForeground(found.argv, found.environment)
      },
    )
}

function nodeExecCommand(): Command {
  return new Command('node-exec')
    .description('run a command on a node (its network, another cgroup than the kubelet)')
    .option(...NAME_FLAG)
    .argument('<node>', 'node-a, node-b, ...')
    .argument('<command...>', 'the command, after --')
    .passThroughOptions()
    .action(async (node: string, command: readonly string[], flags: Named) => {
      requireRoot('enter a node')
      const { layout, state } = requireLab(flags.name)
      const argv = nodeCommandLine(layout, state, node, withoutDashes(command))
      process.exitCode = await runForeground(argv)
    })
}

function captureCommand(): Command {
  return new Command('capture')
    .description("write the packets of a node's uplink, or of the fabric, until Ctrl-C")
    .option(...NAME_FLAG)
    .requiredOption('-w, --write <file>', 'pcap file to write; - for standard output')
    .argument('<where>', 'a node, or "fabric" for all traffic between nodes')
    .argument('[filter...]', 'a pcap filter, as of tcpdump')
    .action(
      async (
        where: string,
        filter: readonly string[],
        flags: Named & { readonly write: string },
      ) => {
        requireRoot('capture packets')
        requireTool('tcpdump', 'capture packets')
        const { layout, state } = requireLab(flags.name)
        const argv = captureCommandLine(layout, state, where, flags.write, filter)
        process.exitCode = await runForeground(argv, process.env, { forwardInterrupt: true })
      },
    )
}

function logsCommand(): Command {
  return new Command('logs')
    .description("print a log: of a node's agent, of a pod, or of the lab's own processes")
    .option(...NAME_FLAG)
    .argument('[what]', 'NODE (its agent), NAMESPACE/POD, daemon, or kubelet-NODE', 'daemon')
    .action(async (what: string, flags: Named) => {
      const { layout, state } = requireLab(flags.name)
      const roles = state.processes.map((each) => each.role)
      if (roles.includes(what)) {
        process.stdout.write(readFileSync(join(layout.logsDir, `${what}.log`), 'utf8'))
        return
      }
      const pod = state.nodes.includes(what) ? agentPod(layout, what) : what
      if (!pod.includes('/')) {
        throw new AmbitError(
          'AMB_LAB_TARGET',
          `Cannot print the log of "${what}": take a pod as NAMESPACE/POD, or one of ${[...state.nodes, ...roles].join(', ')}`,
        )
      }
      process.stdout.write((await openLab(flags.name)).log(pod))
    })
}

/** Between a pod and its command people write --, which comes through as a word. */
function withoutDashes(command: readonly string[]): readonly string[] {
  return command[0] === '--' ? command.slice(1) : command
}
