// SPDX-License-Identifier: Apache-2.0
// Edits of a CNI configuration list: our plugin at its end, or gone from it. Pure, on the text of the file.

import { parseExactJson } from '../../mesh/json.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'

/** `type` of our entry, which is also the name of the binary. */
export const CNI_PLUGIN_TYPE = 'ambit-cni'

/** Of the CNI specification, those that the plugin takes: SUPPORTED_VERSIONS of native/cni/ambit-cni.c. */
export const PLUGIN_VERSIONS: ReadonlySet<string> = new Set([
  '0.3.0',
  '0.3.1',
  '0.4.0',
  '1.0.0',
  '1.1.0',
])

/** What our entry in the list says, besides its type. */
export interface CniPluginConfig {
  readonly socket: string
  readonly excludeNamespaces: readonly string[]
  readonly timeoutMs?: number
  /** The file of members-file.ts. */
  readonly members?: string
  /** The kubelet's directory of pods' logs, and how the names of agents' begin there: how the plugin finds that it was left behind. */
  readonly podLogs?: string
  readonly agentPods?: string
}

interface Conflist {
  readonly [field: string]: unknown
  readonly plugins: readonly unknown[]
}

/** The text with our plugin as the last; undefined when it already says exactly that. */
export function chainPlugin(
  text: string,
  config: CniPluginConfig,
): Result<string | undefined, string> {
  const list = parse(text)
  if (!list.ok) return list
  const others = list.value.plugins.filter((plugin) => !isOurs(plugin))
  if (others.length === 0) return err('field plugins names no plugin to chain behind')
  // The plugin would refuse every pod of the node.
  const version = versionOf(list.value)
  if (!PLUGIN_VERSIONS.has(version))
    return err(
      `field cniVersion ${version === '' ? 'is missing' : `is ${JSON.stringify(version)}`}: ambit-cni takes ${[...PLUGIN_VERSIONS].join(', ')}`,
    )
  return ok(rewrite(text, list.value, [...others, { type: CNI_PLUGIN_TYPE, ...config }]))
}

/** The text without our plugin; undefined when it is not in it. */
export function unchainPlugin(text: string): Result<string | undefined, string> {
  const list = parse(text)
  if (!list.ok) return list
  const others = list.value.plugins.filter((plugin) => !isOurs(plugin))
  return ok(rewrite(text, list.value, others))
}

function rewrite(text: string, list: Conflist, plugins: readonly unknown[]): string | undefined {
  if (JSON.stringify(plugins) === JSON.stringify(list.plugins)) return undefined
  const indent = /\n([ \t]+)"/.exec(text)?.[1] ?? '  '
  return `${JSON.stringify({ ...list, plugins }, undefined, indent)}\n`
}

function parse(text: string): Result<Conflist, string> {
  // Configurations of CNI plugins hold tokens and passwords, at times: the text is not quoted.
  const parsed = parseExactJson(text)
  if (!parsed.ok) return parsed
  const { value } = parsed
  if (
    typeof value === 'object' &&
    value !== null &&
    'plugins' in value &&
    Array.isArray(value.plugins)
  )
    return ok(value as Conflist)
  return err('field plugins is missing or no list')
}

/** By which runtimes call the plugins of a list: the highest of those that it names; empty where it names none. */
function versionOf({ cniVersion, cniVersions }: Conflist): string {
  const named: readonly unknown[] = [cniVersion, ...(Array.isArray(cniVersions) ? cniVersions : [])]
  return named
    .filter((each) => typeof each === 'string')
    .reduce((highest, each) => (isHigher(each, highest) ? each : highest), '')
}

function isHigher(one: string, other: string): boolean {
  if (other === '') return true
  const [ones, others] = [one, other].map((version) => version.split('.').map(Number))
  for (const [at, part] of (ones ?? []).entries()) {
    const against = others?.[at] ?? 0
    if (part !== against) return part > against
  }
  return false
}

const isOurs = (plugin: unknown): boolean =>
  typeof plugin === 'object' &&
  plugin !== null &&
  'type' in plugin &&
  plugin.type === CNI_PLUGIN_TYPE
