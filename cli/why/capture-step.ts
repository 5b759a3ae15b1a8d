// SPDX-License-Identifier: Apache-2.0
// Whether the caller's connection is captured, and what becomes of it if not. Pure.

import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { isLoopback } from '../../mesh/model/address.ts'
import type { SocketAddress } from '../../mesh/model/types.ts'
import type { Caller } from './call-world.ts'
import type { Step } from './steps.ts'

export function captureStep({ pod, standing }: Caller, address: SocketAddress): Step {
  const name = `${pod.namespace}/${pod.name}`
  const { state, reason = '' } = standing
  const because = reason === '' ? '' : `: ${reason}`
  switch (state) {
    case 'captured':
      return isOwn(pod, address)
        ? { step: 'capture', result: 'ok', what: `${name} calls itself, which is never captured` }
        : {
            step: 'capture',
            result: 'ok',
            what: `${name} is in the mesh: its agent takes the connection`,
          }
    case 'cutOff':
      return {
        step: 'capture',
        result: 'stop',
        what: `${name} is captured, and nobody serves it${because}`,
        change: 'see the log of its agent ("ambit logs"); it is tried again',
      }
    case 'failed':
      return {
        step: 'capture',
        result: 'note',
        what: `${name} belongs to the mesh and could not be brought in${because}`,
        change: 'see the events of the pod (kubectl describe pod)',
      }
    default:
      return {
        step: 'capture',
        result: 'note',
        what: `${name} is not in the mesh${because}: the connection leaves in plaintext, without identity`,
        change: `kubectl label namespace ${pod.namespace} istio.io/dataplane-mode=ambient`,
      }
  }
}

export function isOwn({ addresses }: LocalPod, { address }: SocketAddress): boolean {
  return isLoopback(address) || addresses.includes(address)
}
