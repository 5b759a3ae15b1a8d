// SPDX-License-Identifier: Apache-2.0
// `ambit analyze`: what is wrong with the policies, Services and labels of a cluster, or will be with those of files.

import { type Command, Option } from 'commander'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { DEFAULT_ROOT_NAMESPACE } from '../../mesh/model/policy-index.ts'
import { type Analysis, analyze } from '../analyze/analyze.ts'
import { SEVERITIES, type Severity } from '../analyze/catalogue.ts'
import { type Finding, isAtLeast } from '../analyze/finding.ts'
import { objectsOf } from '../analyze/objects.ts'
import { type ReadKinds, readCluster } from '../analyze/read-cluster.ts'
import {
  broughtBy,
  type FileObjects,
  filesAlone,
  readFiles,
  withFiles,
} from '../analyze/read-files.ts'
import { refusedCallers } from '../analyze/refused-callers.ts'
import type { RefusedCaller, WorldOptions } from '../analyze/world.ts'
import { findAgents } from '../cluster/agents.ts'
import { auditLines } from '../cluster/audit-lines.ts'
import { type ClusterTarget, openTarget, type TargetFlags } from '../cluster/target.ts'
import { clusterCommand, type OutputFormat } from '../flags.ts'
import { printError } from '../output.ts'
import { show } from '../show.ts'
import { findingLines } from '../tables/findings.ts'

interface Flags extends TargetFlags {
  readonly output: OutputFormat
  readonly file?: string
  /** False by --no-cluster. */
  readonly cluster: boolean
  readonly namespace?: string
  readonly severity: Severity
  readonly failOn: Severity | 'never'
  readonly rootNamespace: string
  readonly trustDomain: string
}

/** Of objects in files that name none, where no kubeconfig does. */
const DEFAULT_NAMESPACE = 'default'

export function analyzeCommand(): Command {
  return clusterCommand(
    'analyze',
    'what is wrong with policies, Services and labels: the object, the field, and what to do',
  )
    .option('-f, --file <path>', 'manifests that are not applied yet: a file or a directory')
    .option('--no-cluster', 'the files alone')
    .option('-n, --namespace <namespace>', 'only objects of this namespace')
    .addOption(
      new Option('--severity <severity>', 'only what is as bad as this, or worse')
        .choices(SEVERITIES)
        .default('info'),
    )
    .addOption(
      new Option('--fail-on <severity>', 'exit code 1 from this on')
        .choices([...SEVERITIES, 'never'])
        .default('warning'),
    )
    .option(
      '--root-namespace <name>',
      'whose policies are those of the mesh',
      DEFAULT_ROOT_NAMESPACE,
    )
    .option('--trust-domain <name>', 'of the identities of the mesh', 'cluster.local')
    .addOption(
      new Option('-o, --output <format>', 'how to print it')
        .choices(['table', 'json', 'yaml'])
        .default('table'),
    )
    .action(async (flags: Flags) => {
      if (!flags.cluster && flags.file === undefined)
        throw new AmbitError('AMB_USAGE', 'Cannot analyze nothing: --no-cluster needs --file')
      const { analysis, failures } = flags.cluster
        ? await analyzeCluster(flags)
        : { analysis: analyzeFiles(flags), failures: [] }
      const shown = chosen(analysis, flags)
      const { failOn } = flags
      await show({ output: flags.output }, async () => ({
        data: shown,
        text: () => findingLines(shown),
        isUnwell:
          failOn !== 'never' && shown.findings.some(({ severity }) => isAtLeast(severity, failOn)),
      }))
      // What is known besides is told, and is no reason to fail.
      for (const failure of failures) printError(failure)
    })
}

function chosen({ findings, notChecked }: Analysis, { namespace, severity }: Flags): Analysis {
  const isChosen = ({ object, severity: own }: Finding): boolean =>
    isAtLeast(own, severity) &&
    (namespace === undefined ||
      object.namespace === namespace ||
      (object.kind === 'Namespace' && object.name === namespace))
  return { findings: findings.filter(isChosen), notChecked }
}

function optionsOf({ rootNamespace, trustDomain, systemNamespace }: Flags): WorldOptions {
  return { rootNamespace, trustDomain, systemNamespace, now: new Date() }
}

function analyzeFiles(flags: Flags): Analysis {
  const files = readFiles(flags.file ?? '', flags.namespace ?? DEFAULT_NAMESPACE)
  const { findings } = analyze(filesAlone(files), optionsOf(flags))
  // Whoever gives files alone knows that they are not all.
  return { findings: broughtBy(files, [], findings), notChecked: [] }
}

async function analyzeCluster(
  flags: Flags,
): Promise<{ readonly analysis: Analysis; readonly failures: readonly unknown[] }> {
  const target = await openTarget(flags)
  const files =
    flags.file === undefined
      ? undefined
      : readFiles(flags.file, flags.namespace ?? target.api.access.namespace)
  const [cluster, live] = await Promise.all([
    readCluster(target.api, flags.namespace),
    callersRefused(target),
  ])
  const options = { ...optionsOf(flags), refusedCallers: live.callers }
  const analysis = analyzeRead(cluster, files, options)
  return { analysis, failures: live.failures }
}

function analyzeRead(
  cluster: ReadKinds,
  files: FileObjects | undefined,
  options: WorldOptions,
): Analysis {
  const now = analyze(objectsOf(cluster.byKind, cluster.known), options)
  if (files === undefined) return now
  const then = analyze(withFiles(cluster, files), options)
  return { ...then, findings: broughtBy(files, now.findings, then.findings) }
}

/** What agents have on record; an agent that cannot be asked is told of. */
async function callersRefused(
  target: ClusterTarget,
): Promise<{ readonly callers: readonly RefusedCaller[]; readonly failures: readonly unknown[] }> {
  const lines: string[] = []
  const failures: unknown[] = []
  try {
    const agents = await findAgents(target, undefined)
    const { signal } = new AbortController()
    const asked = { namespace: undefined, sinceSeconds: undefined, follow: false, signal }
    await Promise.all(
      agents.map(({ pod }) =>
        auditLines(target, { ...asked, pod }, (line) => lines.push(line)).catch(
          (thrown: unknown) => void failures.push(thrown),
        ),
      ),
    )
  } catch (thrown) {
    failures.push(
      thrown instanceof AmbitError
        ? thrown
        : new AmbitError('AMB_AGENT_UNREACHABLE', `Cannot ask agents: ${errorMessage(thrown)}`),
    )
  }
  return { callers: refusedCallers(lines), failures }
}
