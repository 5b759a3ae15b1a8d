// SPDX-License-Identifier: Apache-2.0
// Flags that several commands have in common.

import { Command, InvalidArgumentError, Option } from 'commander'
import type { TargetFlags } from './cluster/target.ts'

export type OutputFormat = 'table' | 'json' | 'yaml'

export interface ShowFlags {
  readonly output: OutputFormat
  readonly watch?: true
}

export interface DumpFlags extends TargetFlags, ShowFlags {
  readonly node?: string
  readonly file?: string
}

/** A command that speaks of a cluster. */
export function clusterCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option('--name <lab>', 'a lab of this machine, not the cluster of the kubeconfig')
    .option('--kubeconfig <file>', 'kubeconfig (default: $KUBECONFIG, else ~/.kube/config)')
    .option('--context <name>', "another context than the kubeconfig's current one")
    .option('--system-namespace <name>', 'where the mesh is installed', asNamespace, 'ambit-system')
}

/** RFC 1123, as Kubernetes has it for namespaces. */
function asNamespace(text: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) return text
  throw new InvalidArgumentError('It must be the name of a namespace.')
}

/** One that prints a table or data. */
export function showing(command: Command): Command {
  return command
    .addOption(
      new Option('-o, --output <format>', 'how to print it')
        .choices(['table', 'json', 'yaml'])
        .default('table'),
    )
    .option('-w, --watch', 'print it again whenever it has changed, until Ctrl-C')
}

/** One that shows what agents have. */
export function dumpCommand(name: string, description: string): Command {
  return showing(clusterCommand(name, description))
    .option('--node <node>', 'only the agent of this node')
    .option('-f, --file <file>', 'a saved config dump, instead of asking agents; - for stdin')
}
