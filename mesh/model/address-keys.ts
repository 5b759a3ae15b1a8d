// SPDX-License-Identifier: Apache-2.0
// Under what addresses are looked up, of workloads, services and nodes: the network and the address. Pure.

import type { IpAddress, MeshNode, Service, Workload } from './types.ts'

/** In the default network the key is the address itself, which costs no memory of its own. */
export function addressKey(network: string, address: IpAddress): string {
  return network === '' ? address : `${network}/${address}`
}

/** Each once; none of a workload that is found through its services only. */
export function workloadAddressKeys(workload: Workload): readonly string[] {
  if (workload.foundBy === 'service') return []
  return distinct(workload.addresses.map((address) => addressKey(workload.network, address)))
}

/** Each once; ranges are no addresses. */
export function serviceAddressKeys(service: Service): readonly string[] {
  return distinct(
    service.addresses
      .filter(({ prefixLength }) => prefixLength === undefined)
      .map(({ network, address }) => addressKey(network, address)),
  )
}

/** Each once. */
export function nodeAddressKeys({ network, addresses }: MeshNode): readonly string[] {
  return distinct(addresses.map((address) => addressKey(network, address)))
}

function distinct(keys: readonly string[]): readonly string[] {
  return keys.length < 2 ? keys : [...new Set(keys)]
}
