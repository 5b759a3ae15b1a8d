// SPDX-License-Identifier: Apache-2.0
// What a pod's owner is told of the pod's network, in words.

import type { NetworkReport } from '../capture/types.ts'

/** What is said. */
export interface PodWarning {
  /** One word for the kind, as Kubernetes has it. */
  readonly reason: string
  readonly message: string
}

/** That something about an enrolled pod's network is not as the mesh needs it. */
export function networkWarning({ kind, what }: NetworkReport): PodWarning {
  const things = what.join(', ')
  switch (kind) {
    case 'repaired':
      return {
        reason: 'NetworkRepaired',
        message: `Something in the pod changed what the mesh depends on in its network. It has been put right: ${things}. Calls to the pod may have failed meanwhile`,
      }
    case 'contested':
      return {
        reason: 'NetworkContested',
        message: `Something in the pod goes on changing what the mesh depends on in its network: ${things}. It is put right at growing intervals, up to half a minute; in between calls to the pod are not served`,
      }
    case 'clash':
      return {
        reason: 'NetworkClash',
        message: `The pod's own routing rule "${things}" stands against the mesh's. Calls to the pod are not served until it is gone`,
      }
    case 'familyCame':
    case 'withoutLoopback6':
      return {
        reason: 'AddressNotServed',
        message: `The pod has addresses of a family that its loopback device does not have: ${things}. Calls to them are refused`,
      }
  }
}
