// SPDX-License-Identifier: Apache-2.0
// What ambit-cni asks, read from the bytes it sent. Pure; the mirror of make_request() in native/cni/ambit-cni.c.

import type { IpAddress } from '../../mesh/model/types.ts'
import { parseIpAddress } from '../../mesh/model/address.ts'
import { parseJson } from '../../mesh/json.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'

/** One container's network as the runtime's plugins made it. */
export interface CniPod {
  readonly containerId: string
  /** Path of the namespace; empty when a runtime deletes what it no longer has. */
  readonly netnsPath: string
  readonly ifname: string
  readonly namespace: string
  readonly name: string
  /** Older runtimes do not say. */
  readonly uid: string | undefined
  /** The pod's addresses by prevResult, those of every interface inside the pod. */
  readonly addresses: readonly IpAddress[]
}

export type CniRequest =
  | { readonly command: 'ADD' | 'CHECK' | 'DEL'; readonly pod: CniPod }
  | { readonly command: 'STATUS' }

type Mapping = Readonly<Record<string, unknown>>

const PROTOCOL_VERSION = 1

/** Reads a request; the error says which field is wrong and why. */
export function readCniRequest(body: string): Result<CniRequest, string> {
  const parsed = parseJson(body)
  if (!parsed.ok) return err(`the request cannot be read: ${parsed.error}`)
  const { value } = parsed
  if (!isMapping(value)) return err('the request is no object')
  if (value.protocol !== PROTOCOL_VERSION)
    return err(`protocol ${String(value.protocol)} is unknown: ambit-cni is of another version`)
  const { command } = value
  if (command === 'STATUS') return ok({ command })
  if (command !== 'ADD' && command !== 'CHECK' && command !== 'DEL')
    return err(`command ${String(command)} is unknown`)

  const field = (name: string): string => {
    const text = value[name]
    return typeof text === 'string' ? text : ''
  }
  for (const name of ['containerId', 'podNamespace', 'podName'])
    if (field(name) === '') return err(`field ${name} is missing`)
  const netnsPath = field('netns')
  if (command !== 'DEL' && !netnsPath.startsWith('/')) return err('field netns is no absolute path')
  const addresses = isMapping(value.config) ? podAddresses(value.config.prevResult) : ok([])
  if (!addresses.ok && command !== 'DEL') return addresses
  const uid = field('podUid')
  return ok({
    command,
    pod: {
      containerId: field('containerId'),
      netnsPath,
      ifname: field('ifname'),
      namespace: field('podNamespace'),
      name: field('podName'),
      uid: uid === '' ? undefined : uid,
      addresses: addresses.ok ? addresses.value : [],
    },
  })
}

/**
 * The addresses in a CNI result: `ips[].address` is a CIDR, `ips[].interface` an index into `interfaces`, of which
 * those with a `sandbox` are in the pod. Without an index (some plugins give none) the address is taken as the pod's.
 */
function podAddresses(result: unknown): Result<readonly IpAddress[], string> {
  if (!isMapping(result)) return err('field config.prevResult is missing')
  const interfaces: readonly unknown[] = Array.isArray(result.interfaces) ? result.interfaces : []
  const ips: readonly unknown[] = Array.isArray(result.ips) ? result.ips : []
  const addresses = new Set<IpAddress>()
  for (const [position, entry] of ips.entries()) {
    const where = `field config.prevResult.ips[${position}]`
    if (!isMapping(entry) || typeof entry.address !== 'string')
      return err(`${where} has no address`)
    const owner = typeof entry.interface === 'number' ? interfaces[entry.interface] : undefined
    if (isMapping(owner) && (owner.sandbox === undefined || owner.sandbox === '')) continue
    const address = parseIpAddress(entry.address.replace(/\/\d+$/, ''))
    if (address === undefined) return err(`${where}.address is no IP address: ${entry.address}`)
    addresses.add(address)
  }
  return ok([...addresses])
}

const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
