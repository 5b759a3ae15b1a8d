// SPDX-License-Identifier: Apache-2.0
// What the called pod's agent makes of a connection, where it was asked. Pure.

import type { SocketAddress, SpiffeId, Workload } from '../../mesh/model/types.ts'
import { admissionStep } from './admission-step.ts'
import type { Step } from './steps.ts'
import type { AgentView } from './world.ts'

interface Arriving {
  readonly peer: SocketAddress
  readonly identity: SpiffeId | undefined
  readonly target: SocketAddress
  readonly via: 'hbone' | 'plaintext' | 'sameNode'
}

/** What the called pod's agent makes of it. */
export function arrival(
  far: AgentView | undefined,
  node: string,
  workload: Workload | undefined,
  { peer, identity, target, via }: Arriving,
): readonly Step[] {
  if (workload === undefined) return []
  const name = `${workload.namespace}/${workload.name}`
  if (far === undefined)
    return [
      {
        step: 'admission',
        result: 'unknown',
        what: `what ${name} makes of it is not known: the agent of ${node === '' ? 'its node' : node} was not asked`,
      },
    ]
  const pod = far.pods.find(({ workloadUid }) => workloadUid === workload.uid)
  if (pod === undefined) {
    const standing = far.standings.find((each) => `${each.namespace}/${each.name}` === name)
    const why = standing?.reason ?? standing?.state ?? `the agent of ${node} does not know it`
    return via === 'plaintext'
      ? [
          {
            step: 'admission',
            result: 'note',
            what: `${name} is not in the mesh (${why}): no policy of the mesh is asked`,
          },
        ]
      : [
          {
            step: 'admission',
            result: 'stop',
            what: `the mesh takes ${name} for one of its own, and its agent does not serve it: ${why}`,
            change: 'look at "ambit status"; it passes where a change is just under way',
          },
        ]
  }
  const call = { peer, peerIdentity: identity, destination: pod.uid, target, via }
  return [admissionStep(far, pod, call)]
}
