// SPDX-License-Identifier: Apache-2.0
// Runs a node's CNI chain for a pod, after the CNI specification: the first configuration list in net.d, each
// plugin in order with the former one's result, in reverse for DEL. The plugin type `ambit-lab-net` is
// built in (it makes the link); every other one is executed from the node's cni/bin.

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errorMessage } from '../../mesh/errors.ts'
import { parseJson } from '../../mesh/json.ts'
import { tryCommand } from '../machine/command.ts'

export const BUILT_IN_PLUGIN = 'ambit-lab-net'

export interface CniCall {
  readonly containerId: string
  /** Path of the pod's network namespace. */
  readonly netns: string
  readonly ifname: string
  readonly podNamespace: string
  readonly podName: string
  readonly podUid: string
}

export interface CniPluginConfig {
  readonly type: string
  readonly [field: string]: unknown
}

export interface CniConfigList {
  readonly cniVersion: string
  readonly name: string
  readonly plugins: readonly CniPluginConfig[]
}

export interface CniResult {
  readonly cniVersion: string
  readonly ips?: readonly { readonly address: string }[]
  readonly [field: string]: unknown
}

/** The built-in plugin: makes the pod's link and describes it, or takes it away. */
export interface BuiltInPlugin {
  add(call: CniCall): Promise<CniResult>
  remove(call: CniCall): Promise<void>
}

/** What ADD leaves for DEL: the chain as it was then, since the files may have changed by the time of DEL. */
export interface CniAttachment {
  readonly list: CniConfigList
  readonly result: CniResult
}

/** An external plugin may wait for an agent that is starting, but not for ever. */
const PLUGIN_TIMEOUT_MS = 30_000

/** Runs ADD along the chain; when a plugin fails, those before it are undone. */
export async function cniAdd(
  directories: { readonly netDir: string; readonly binDir: string },
  call: CniCall,
  builtIn: BuiltInPlugin,
): Promise<CniAttachment> {
  const list = await readConfigList(directories.netDir)
  let result: CniResult | undefined
  try {
    for (const plugin of list.plugins) {
      if (plugin.type === BUILT_IN_PLUGIN) {
        result = await builtIn.add(call)
        continue
      }
      const output = await runPlugin('ADD', directories.binDir, list, plugin, call, result)
      result = parseResult(plugin.type, output)
    }
  } catch (error) {
    const attachment = { list, result: result ?? { cniVersion: list.cniVersion } }
    await cniDelete(directories.binDir, call, attachment, builtIn)
    throw error
  }
  return { list, result: result ?? { cniVersion: list.cniVersion } }
}

/** Runs DEL along the chain in reverse; gives what went wrong, having tried every plugin. */
export async function cniDelete(
  binDir: string,
  call: CniCall,
  attachment: CniAttachment,
  builtIn: BuiltInPlugin,
): Promise<readonly string[]> {
  const failures: string[] = []
  for (const plugin of attachment.list.plugins.toReversed()) {
    try {
      if (plugin.type === BUILT_IN_PLUGIN) await builtIn.remove(call)
      else await runPlugin('DEL', binDir, attachment.list, plugin, call, attachment.result)
    } catch (error) {
      failures.push(errorMessage(error))
    }
  }
  return failures
}

/** Reads the first list by name, as container runtimes do; a single .conf counts as a list of one. */
async function readConfigList(netDir: string): Promise<CniConfigList> {
  const names = (await readdir(netDir)).filter((name) => /\.(conflist|conf|json)$/.test(name))
  const first = names.toSorted()[0]
  if (first === undefined)
    throw new Error(`Cannot set up a pod's network: no CNI configuration in ${netDir}`)
  const path = join(netDir, first)
  const bad = (reason: string): Error =>
    new Error(`Cannot read CNI configuration ${path}: ${reason}`)
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw bad(errorMessage(error))
  })
  const read = parseJson(text)
  if (!read.ok) throw bad(read.error)
  const parsed = read.value
  if (typeof parsed !== 'object' || parsed === null) throw bad('it is not an object')
  const fields: { readonly [field: string]: unknown } = { ...parsed }
  const { cniVersion, name } = fields
  if (typeof cniVersion !== 'string') throw bad('field cniVersion must be a string')
  if (typeof name !== 'string') throw bad('field name must be a string')
  const listed: unknown = fields['plugins'] ?? [fields]
  if (!Array.isArray(listed) || listed.length === 0)
    throw bad('field plugins must be a list of plugins')
  const plugins = listed.map((plugin: unknown, at): CniPluginConfig => {
    const isPlugin = typeof plugin === 'object' && plugin !== null && 'type' in plugin
    if (!isPlugin || typeof plugin.type !== 'string' || !/^[\w.-]+$/.test(plugin.type)) {
      throw bad(`field plugins[${at}].type must be the name of a plugin`)
    }
    return { ...plugin, type: plugin.type }
  })
  return { cniVersion, name, plugins }
}

async function runPlugin(
  command: 'ADD' | 'DEL',
  binDir: string,
  list: CniConfigList,
  plugin: CniPluginConfig,
  call: CniCall,
  prevResult: CniResult | undefined,
): Promise<string> {
  const config = {
    ...plugin,
    name: list.name,
    cniVersion: list.cniVersion,
    ...(prevResult === undefined ? {} : { prevResult }),
  }
  const output = await tryCommand([join(binDir, plugin.type)], {
    input: JSON.stringify(config),
    timeoutMs: PLUGIN_TIMEOUT_MS,
    env: {
      PATH: process.env['PATH'],
      CNI_COMMAND: command,
      CNI_CONTAINERID: call.containerId,
      CNI_NETNS: call.netns,
      CNI_IFNAME: call.ifname,
      CNI_PATH: binDir,
      CNI_ARGS: [
        'IgnoreUnknown=1',
        `K8S_POD_NAMESPACE=${call.podNamespace}`,
        `K8S_POD_NAME=${call.podName}`,
        `K8S_POD_INFRA_CONTAINER_ID=${call.containerId}`,
        `K8S_POD_UID=${call.podUid}`,
      ].join(';'),
    },
  })
  if (output.code === 0) return output.stdout
  throw new Error(
    `plugin ${plugin.type} failed (${command}): ${failureText(output.stdout, output.stderr)}`,
  )
}

/** A failing plugin says why in a JSON object on stdout; one that crashed leaves its stderr. */
function failureText(stdout: string, stderr: string): string {
  try {
    const parsed: unknown = JSON.parse(stdout)
    if (typeof parsed === 'object' && parsed !== null && 'msg' in parsed) {
      const details = 'details' in parsed ? `: ${String(parsed.details)}` : ''
      return `${String(parsed.msg)}${details}`
    }
  } catch {
    // Not an error object: what it printed is all there is.
  }
  return (
    [stdout.trim(), stderr.trim()].filter((text) => text !== '').join('; ') || 'it said nothing'
  )
}

function parseResult(type: string, output: string): CniResult {
  const read = parseJson(output)
  if (!read.ok) throw new Error(`plugin ${type} gave no CNI result: ${read.error}`)
  const parsed = read.value
  if (typeof parsed === 'object' && parsed !== null && 'cniVersion' in parsed) {
    return { ...parsed, cniVersion: String(parsed.cniVersion) }
  }
  throw new Error(`plugin ${type} gave no CNI result: cniVersion is missing`)
}
