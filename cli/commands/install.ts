// SPDX-License-Identifier: Apache-2.0
// `ambit install`, `upgrade`, `verify` and `uninstall`: the mesh of a cluster by its chart, without Helm.

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Values } from '../../daemonset/render/values.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/index.ts'
import { openTarget, type TargetFlags } from '../cluster/target.ts'
import { clusterCommand, type ShowFlags, showing } from '../flags.ts'
import { formatTable, print } from '../output.ts'
import { show } from '../show.ts'
import { installObjects, type ValueFlags, valuesOf } from '../install/objects.ts'
import { install } from '../install/install.ts'
import { readInstallation } from '../install/stored-values.ts'
import { uninstall } from '../install/uninstall.ts'
import { verify } from '../install/verify.ts'

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

export function installCommand(): Command {
  return applying('install', 'install the mesh in a cluster, once').action(
    async (flags: ApplyFlags) => {
      await apply(flags, valuesOf(flags))
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
      const { objects } = await installObjects(
        await requireStored(api, systemNamespace),
        systemNamespace,
      )
      const checks = await verify(api, objects, systemNamespace)
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
        const installed = await readInstallation(api, namespace)
        const { objects, used } = await installObjects(installed?.values ?? {}, namespace)
        await uninstall(api, {
          namespace,
          objects,
          caSecret: caSecretOf(used),
          takesNamespace: installed?.hasMadeNamespace === true,
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
  const onInterrupt = (): void => interrupted.abort(new Error('it was interrupted'))
  process.once('SIGINT', onInterrupt)
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
    process.removeListener('SIGINT', onInterrupt)
  }
  if (flags.dryRun !== true) print(`\n${notes.trim()}`)
}

async function requireStored(api: KubeApi, namespace: string): Promise<Values> {
  const installed = await readInstallation(api, namespace)
  if (installed !== undefined) return installed.values
  throw new AmbitError(
    'AMB_INSTALL',
    `ambit install has installed nothing in namespace ${namespace}`,
  )
}

function caSecretOf({ controller }: Values): string {
  const { caSecret } = (controller ?? {}) as { readonly caSecret?: unknown }
  return typeof caSecret === 'string' ? caSecret : 'ambit-ca-secret'
}

const collect = (text: string, all: readonly string[] = []): readonly string[] => [...all, text]

function asSeconds(text: string): number {
  const seconds = Number(/^(\d{1,5})s?$/.exec(text)?.[1] ?? Number.NaN)
  if (seconds > 0) return seconds
  throw new InvalidArgumentError(`"${text}" is no number of seconds.`)
}
