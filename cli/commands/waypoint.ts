// SPDX-License-Identifier: Apache-2.0
// `ambit waypoint ...`: asks for waypoints, shows them and takes them away, with istioctl's words. There `--name` is the waypoint, so that a
// lab is named by `--lab`.

import { Command, InvalidArgumentError, Option } from 'commander'
import { AmbitError } from '../../mesh/errors.ts'
import { GATEWAYS, type KubeApi } from '../../mesh/kube/index.ts'
import { openTarget } from '../cluster/target.ts'
import { type OutputFormat, showing } from '../flags.ts'
import { print } from '../output.ts'
import { show } from '../show.ts'
import { sortedWaypoints, waypointStatusTable, waypointTable } from '../tables/waypoints.ts'
import { awaitProgrammed } from '../waypoint/await-programmed.ts'
import { enrolNamespace, namespaceStanding, requireFree } from '../waypoint/enrol-namespace.ts'
import { gatewayApiError, readWaypoints, requireOurs } from '../waypoint/read-waypoints.ts'
import {
  TRAFFIC_KINDS,
  waypointGateway,
  type WaypointChoices,
} from '../waypoint/waypoint-gateway.ts'
import { isProgrammed, waypointReport, type WaypointReport } from '../waypoint/waypoint-report.ts'
import { whoStillNames } from '../waypoint/who-names.ts'

interface Target {
  readonly lab?: string
  readonly kubeconfig?: string
  readonly context?: string
  readonly namespace?: string
}

interface MakeFlags extends Target {
  readonly name: string
  readonly for?: WaypointChoices['traffic']
}

interface ApplyFlags extends MakeFlags {
  readonly enrollNamespace?: true
  readonly overwrite?: true
  readonly wait?: true
  readonly timeout: number
}

interface ListFlags extends Target {
  readonly output: OutputFormat
  readonly watch?: true
  readonly allNamespaces?: true
}

const FIELD_MANAGER = 'ambit'
const DEFAULT_NAME = 'waypoint'
/** A waypoint starts in a second or two; its image may have to be fetched first. */
const READY_TIMEOUT_S = 90

/** The group of waypoint commands. */
export function waypointCommand(): Command {
  return new Command('waypoint')
    .description('waypoints: L7 for the namespaces, Services and workloads that ask for it')
    .enablePositionalOptions()
    .addCommand(applyCommand())
    .addCommand(generateCommand())
    .addCommand(listCommand())
    .addCommand(statusCommand())
    .addCommand(deleteCommand())
}

function subcommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option('--lab <name>', 'a lab of this machine, not the cluster of the kubeconfig')
    .option('--kubeconfig <file>', 'kubeconfig (default: $KUBECONFIG, else ~/.kube/config)')
    .option('--context <name>', "another context than the kubeconfig's current one")
    .option('-n, --namespace <namespace>', "whose waypoint (default: the kubeconfig's)")
}

function making(command: Command): Command {
  return command
    .option('--name <waypoint>', 'name of the waypoint', asName, DEFAULT_NAME)
    .addOption(
      new Option('--for <traffic>', 'traffic that it is for (default: service)').choices(
        TRAFFIC_KINDS,
      ),
    )
}

/** What Kubernetes takes for the name of a Service, as which the waypoint's will be made. */
function asName(text: string): string {
  if (/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) return text
  throw new InvalidArgumentError(
    `"${text}" is no name: up to 63 small letters, digits and dashes, from a letter on.`,
  )
}

function asSeconds(text: string): number {
  const seconds = Number(/^(\d{1,5})s?$/.exec(text)?.[1] ?? Number.NaN)
  if (seconds > 0) return seconds
  throw new InvalidArgumentError(`"${text}" is no number of seconds.`)
}

function applyCommand(): Command {
  return making(subcommand('apply', 'make a waypoint, or change it to what is said here'))
    .option('--enroll-namespace', 'the whole namespace uses it, by the label istio.io/use-waypoint')
    .option('--overwrite', 'also where the namespace uses another waypoint')
    .option('--wait', 'until it is ready; the namespace is enrolled only then')
    .option('--timeout <seconds>', 'how long to wait', asSeconds, READY_TIMEOUT_S)
    .action(async (flags: ApplyFlags) => {
      const { api, namespace } = await openNamespace(flags)
      const standing = await namespaceStanding(api, namespace)
      const { name, for: traffic } = flags
      if (flags.enrollNamespace === true)
        requireFree(standing, {
          namespace,
          waypoint: name,
          isOverwriting: flags.overwrite === true,
        })
      const target = { namespace, name }
      await requireOurs(api, target)
      const applied = await api.patch(GATEWAYS, target, waypointGateway({ ...target, traffic }), {
        type: 'apply',
        fieldManager: FIELD_MANAGER,
        force: true,
      })
      if (!applied.ok) throw gatewayApiError(applied.error)
      print(`waypoint ${namespace}/${name} applied`)
      if (flags.wait === true) {
        await awaitProgrammed(api, target, flags.timeout * 1000)
        print(`waypoint ${namespace}/${name} is ready`)
      }
      if (flags.enrollNamespace === true) {
        await enrolNamespace(api, namespace, name)
        print(`namespace ${namespace} uses waypoint ${name}`)
      }
      if (!standing.isInMesh)
        print(
          `namespace ${namespace} is not in the mesh: kubectl label namespace ${namespace} istio.io/dataplane-mode=ambient`,
        )
    })
}

function generateCommand(): Command {
  return making(subcommand('generate', 'print the Gateway that apply would write, and do nothing'))
    .addOption(
      new Option('-o, --output <format>', 'how to print it')
        .choices(['json', 'yaml'])
        .default('yaml'),
    )
    .action(async (flags: MakeFlags & { readonly output: 'json' | 'yaml' }) => {
      const { name, namespace, for: traffic } = flags
      const data = waypointGateway({ name, namespace, traffic })
      await show({ output: flags.output }, () => Promise.resolve({ data, text: () => [] }))
    })
}

function listCommand(): Command {
  return showing(subcommand('list', 'the waypoints of a namespace, or of all'))
    .option('-A, --all-namespaces', 'of all namespaces')
    .action((flags: ListFlags) =>
      show(flags, async () => {
        const { api, namespace } = await openNamespace(flags)
        const chosen = flags.allNamespaces === true ? undefined : namespace
        const waypoints = await reports(api, chosen)
        return {
          data: waypoints,
          text: () =>
            waypoints.length === 0
              ? [
                  `no waypoint is in ${chosen === undefined ? 'any namespace' : `namespace ${chosen}`}`,
                ]
              : [waypointTable(waypoints)],
        }
      }),
    )
}

function statusCommand(): Command {
  return showing(
    subcommand('status', 'what has become of the waypoints of a namespace; 1 if one is not ready'),
  )
    .argument('[waypoint]', 'only this one')
    .option('--wait', 'until all of them are ready')
    .option('--timeout <seconds>', 'how long to wait', asSeconds, READY_TIMEOUT_S)
    .action(
      (
        name: string | undefined,
        flags: ListFlags & { readonly wait?: true; readonly timeout: number },
      ) =>
        show(flags, async () => {
          const { api, namespace } = await openNamespace(flags)
          let waypoints = await named(api, namespace, name === undefined ? [] : [name])
          if (flags.wait === true)
            waypoints = await Promise.all(
              waypoints.map((each) => awaitProgrammed(api, each, flags.timeout * 1000)),
            )
          return {
            data: waypoints,
            text: () => [waypointStatusTable(waypoints)],
            isUnwell: !waypoints.every(isProgrammed),
          }
        }),
    )
}

function deleteCommand(): Command {
  return subcommand('delete', 'take waypoints away, with all that was made for them')
    .argument('[waypoints...]', 'their names')
    .option('--all', 'all of the namespace')
    .action(async (names: readonly string[], flags: Target & { readonly all?: true }) => {
      if ((flags.all === true) === names.length > 0)
        throw new AmbitError('AMB_USAGE', 'Cannot delete waypoints: name them, or say --all')
      const { api, namespace } = await openNamespace(flags)
      const waypoints =
        flags.all === true ? await reports(api, namespace) : await named(api, namespace, names)
      for (const { name } of waypoints) {
        const deleted = await api.delete(GATEWAYS, { namespace, name })
        if (!deleted.ok) throw gatewayApiError(deleted.error)
        print(`waypoint ${namespace}/${name} deleted`)
      }
      const gone = waypoints.map(({ name }) => name)
      for (const line of await whoStillNames(api, namespace, gone)) print(line)
    })
}

async function openNamespace(
  flags: Target,
): Promise<{ readonly api: KubeApi; readonly namespace: string }> {
  const { lab, kubeconfig, context } = flags
  const { api } = await openTarget({
    ...(lab !== undefined && { name: lab }),
    ...(kubeconfig !== undefined && { kubeconfig }),
    ...(context !== undefined && { context }),
    systemNamespace: '',
  })
  return { api, namespace: flags.namespace ?? api.access.namespace }
}

async function reports(
  api: KubeApi,
  namespace: string | undefined,
): Promise<readonly WaypointReport[]> {
  return sortedWaypoints((await readWaypoints(api, namespace)).map(waypointReport))
}

/** Those of these names, or all. Throws AMB_WAYPOINT_MISSING: a Gateway of another class is none of our business. */
async function named(
  api: KubeApi,
  namespace: string,
  names: readonly string[],
): Promise<readonly WaypointReport[]> {
  const all = await reports(api, namespace)
  for (const name of names)
    if (!all.some((each) => each.name === name))
      throw new AmbitError('AMB_WAYPOINT_MISSING', `There is no waypoint ${namespace}/${name}`)
  return names.length === 0 ? all : all.filter(({ name }) => names.includes(name))
}
