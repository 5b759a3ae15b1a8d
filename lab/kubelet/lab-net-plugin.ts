// SPDX-License-Identifier: Apache-2.0
// The built-in CNI plugin `ambit-lab-net`: address management of one node and the pod's routed link.

import {
  type IpFamily,
  POD_GATEWAY4,
  POD_GATEWAY6,
  type NodePlan,
  type PodAddressPool,
} from '../network/addressing.ts'
import { attachPodLink, detachPodLink, hardwareAddress } from '../network/pod-link.ts'
import type { BuiltInPlugin, CniCall } from './cni.ts'

/** A pod's wish for address families: "IPv4", "IPv6" or both; both by default. */
export const IP_FAMILIES_ANNOTATION = 'lab.ambit.dev/ip-families'

/** Reads the annotation; undefined when it names anything but families. */
export function parseIpFamilies(text: string | undefined): readonly IpFamily[] | undefined {
  if (text === undefined) return ['IPv4', 'IPv6']
  const families = text.split(',').map((word) => word.trim())
  const known = families.filter((word): word is IpFamily => word === 'IPv4' || word === 'IPv6')
  return known.length === families.length && known.length > 0 ? known : undefined
}

/** The plugin for one node. `familiesOf` gives the families of the pod with this uid. */
export function labNetPlugin(
  plan: NodePlan,
  pool: PodAddressPool,
  familiesOf: (podUid: string) => readonly IpFamily[],
): BuiltInPlugin {
  const taken = new Map<string, { readonly host: number; readonly hostInterface: string }>()
  return {
    async add(call) {
      const lease = pool.take()
      if (lease === undefined) {
        throw new Error(`plugin ambit-lab-net failed (ADD): no address left in ${plan.podCidr4}`)
      }
      const hostInterface = `pod${call.podUid.slice(0, 8)}`
      const families = familiesOf(call.podUid)
      const netns = call.netns.slice(call.netns.lastIndexOf('/') + 1)
      taken.set(call.containerId, { host: lease.host, hostInterface })
      await attachPodLink({ netns, hostInterface, families, ip4: lease.ip4, ip6: lease.ip6 }, plan)
      const addresses = families.map((family) =>
        family === 'IPv4'
          ? { address: `${lease.ip4}/32`, gateway: POD_GATEWAY4, interface: 1 }
          : { address: `${lease.ip6}/128`, gateway: POD_GATEWAY6, interface: 1 },
      )
      return {
        cniVersion: '1.0.0',
        interfaces: [
          { name: hostInterface, mac: await hardwareAddress(hostInterface) },
          { name: call.ifname, sandbox: call.netns },
        ],
        ips: addresses,
        routes: families.map((family) =>
          family === 'IPv4'
            ? { dst: '0.0.0.0/0', gw: POD_GATEWAY4 }
            : { dst: '::/0', gw: POD_GATEWAY6 },
        ),
        dns: {},
      }
    },
    async remove(call: CniCall) {
      const lease = taken.get(call.containerId)
      if (lease === undefined) return
      taken.delete(call.containerId)
      await detachPodLink(lease.hostInterface)
      pool.release(lease.host)
    },
  }
}
