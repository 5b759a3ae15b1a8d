// SPDX-License-Identifier: Apache-2.0
// `ambit install`, `upgrade`, `verify` and `uninstall`: the mesh of a cluster by its chart, without Helm.

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Values } from '../../daemonset/render/values.ts'
import { AmbitError, type ErrorCode } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/index.ts'
import { openTarget, type TargetFlags } from '../cluster/target.ts'
import { clusterCommand, type ShowFlags, showing } from '../flags.ts'
import { formatTable, print } from '../output.ts'
import { show } from '../show.ts'
import {
  caSecretOf,
  type InstallObject,
  installObjects,
  type ValueFlags,
  valuesOf,
} from '../install/objects.ts'
import { patientApi } from '../install/patient-api.ts'
import { install } from '../install/install.ts'
import { readInstallation, requireNoOther } from '../install/stored-values.ts'
import { uninstall } from '../install/uninstall.ts'
import { verify, verifyOthers } from '../install/verify.ts'

interface ApplyFlags extends TargetFlags, ValueFlags {
  readonly dryRun?: true
  readonly output?: 'yaml'
  readonly ignorePreflight?: true
  readonly timeout: number
}

/** Images have to be fetched first, on every node. */
const READY_TIMEOUT_S = 300
/** An agent's drain, and what it does besides. */
const GONE_TIMEOUT_S = 120
const UNREADABLE: ReadonlySet<string> = new Set<ErrorCode>(['AMB_INSTALL', 'AMB_CHART_VALUES'])
/** Ctrl-C, a pipeline that is cancelled, a terminal whose connection is lost. */
const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export function installCommand(): Command {
  return applying('install', 'install the mesh in a cluster, once').action(
    async (flags: ApplyFlags) => {
      const given = valuesOf(flags)
      if (flags.output !== 'yaml') {
        const { api } = await openTarget(flags)
        await requireNoOther(api, flags.systemNamespace, given)
      }
      await apply(flags, given)
    },
  )
}

export function upgradeCommand(): Command {
  return applying(
    'upgrade',
    "bring an installed mesh to this command's version, with the values that it has",
  )
    .option(
      '--reset-values',
      'begin with the values of the chart, not with those of the installation',
    )
    .action(async (flags: ApplyFlags & { readonly resetValues?: true }) => {
      const { api } = await openTarget(flags)
      const stored = await requireStored(api, flags.systemNamespace)
      await apply(flags, valuesOf(flags, flags.resetValues === true ? {} : stored))
    })
}

export function verifyCommand(): Command {
  return showing(
    clusterCommand('verify', 'whether what is installed is there, and ready; 1 if it is not'),
  ).action((flags: TargetFlags & ShowFlags) =>
    show(flags, async () => {
      const { api, systemNamespace } = await openTarget(flags)
      const installed = await readInstallation(api, systemNamespace)
      const checks =
        installed === undefined
          ? await verifyOthers(api, systemNamespace)
          : await verify(
              api,
              (await installObjects(installed.values, systemNamespace)).objects,
              systemNamespace,
            )
      const rows = checks.map(({ what, isWell, why }) => [what, isWell ? 'ok' : why])
      return {
        data: checks,
        text: () => [formatTable({ heading: ['WHAT', 'STATE'], rows })],
        isUnwell: !checks.every(({ isWell }) => isWell),
      }
    }),
  )
}

export function uninstallCommand(): Command {
  return clusterCommand('uninstall', 'take the mesh off a cluster; pods go on without it')
    .option('--purge', 'the kinds of policies as well, and with them every policy')
    .option('--dry-run', 'say what would be removed, and remove nothing')
    .option('--timeout <seconds>', 'how long agents may take to end', asSeconds, GONE_TIMEOUT_S)
    .action(
      async (
        flags: TargetFlags & {
          readonly purge?: true
          readonly dryRun?: true
          readonly timeout: number
        },
      ) => {
        const { api, systemNamespace: namespace } = await openTarget(flags)
        const { objects, caSecret, takesNamespace } = await installedObjects(api, namespace)
        // What a server that is away for a moment has kept from being removed would stay.
        await uninstall(patientApi(api, { report: print }), {
          namespace,
          objects,
          caSecret,
          takesNamespace,
          isPurge: flags.purge === true,
          isDryRun: flags.dryRun === true,
          timeoutMs: flags.timeout * 1000,
          report: print,
        })
      },
    )
}

function applying(name: string, description: string): Command {
  return clusterCommand(name, description)
    .option('-f, --values <file>', 'values of the chart; may be given more than once', collect)
    .option('--set <path=value,...>', 'single values, over those of files', collect)
    .option(
      '--set-string <path=value,...>',
      'the same, of which nothing is a number or true',
      collect,
    )
    .option('--dry-run', 'look at the cluster and say what would be done, and do nothing')
    .addOption(
      new Option('-o, --output <format>', 'print the manifests, and do nothing').choices(['yaml']),
    )
    .option('--ignore-preflight', 'go on, whatever is found in the way')
    .option(
      '--timeout <seconds>',
      'how long it may take until one more agent or controller is ready',
      asSeconds,
      READY_TIMEOUT_S,
    )
}

async function apply(flags: ApplyFlags, given: Values): Promise<void> {
  const { systemNamespace: namespace } = flags
  const { objects, texts, notes, used } = await installObjects(given, namespace)
  if (flags.output === 'yaml') {
    print(texts.map((text) => `---\n${text.trimEnd()}`).join('\n'))
    return
  }
  const { api } = await openTarget(flags)
  const interrupted = new AbortController()
  // A second one ends the process: the handler is gone by then.
  const onInterrupt = (): void => {
    for (const signal of ENDING_SIGNALS) process.removeListener(signal, onInterrupt)
    interrupted.abort(new Error('it was interrupted'))
  }
  for (const signal of ENDING_SIGNALS) process.once(signal, onInterrupt)
  try {
    await install(
      api,
      { namespace, objects, given, used },
      {
        timeoutMs: flags.timeout * 1000,
        isDryRun: flags.dryRun === true,
        ignoresPreflight: flags.ignorePreflight === true,
        report: print,
        signal: interrupted.signal,
      },
    )
  } finally {
    for (const signal of ENDING_SIGNALS) process.removeListener(signal, onInterrupt)
  }
  if (flags.dryRun !== true) print(`\n${notes.trim()}`)
}

async function requireStored(api: KubeApi, namespace: string): Promise<Values> {
  const installed = await readInstallation(api, namespace)
  if (installed !== undefined) return installed.values
  throw new AmbitError(
    'AMB_INSTALL',
    `ambit install has installed nothing in namespace ${namespace}: what Helm or kubectl has installed, they upgrade`,
  )
}

/** What is to be removed. Values that cannot be read, or that this version does not take, keep nobody from that: labels tell the rest. */
async function installedObjects(
  api: KubeApi,
  namespace: string,
): Promise<{
  readonly objects: readonly InstallObject[]
  readonly caSecret: string
  readonly takesNamespace: boolean
}> {
  try {
    const installed = await readInstallation(api, namespace)
    const { objects, used } = await installObjects(installed?.values ?? {}, namespace)
    const takesNamespace = installed?.hasMadeNamespace === true
    return { objects, caSecret: caSecretOf(used), takesNamespace }
  } catch (thrown) {
    if (!(thrown instanceof AmbitError) || !UNREADABLE.has(thrown.code)) throw thrown
    print(`warning: ${thrown.message}; the namespace stays`)
    const { objects, used } = await installObjects({}, namespace)
    return { objects, caSecret: caSecretOf(used), takesNamespace: false }
  }
}

const collect = (text: string, all: readonly string[] = []): readonly string[] => [...all, text]

function asSeconds(text: string): number {
  const seconds = Number(/^(\d{1,5})s?$/.exec(text)?.[1] ?? Number.NaN)
  if (seconds > 0) return seconds
  throw new InvalidArgumentError(`"${text}" is no number of seconds.`)
}
