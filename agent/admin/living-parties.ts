// SPDX-License-Identifier: Apache-2.0
// Who there is that series of traffic may be about: this node's pods, and what discovery knows. Series of others end.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { LivingParties } from '../../mesh/telemetry/metrics/traffic-series.ts'
import { partyKey } from '../../mesh/telemetry/metrics/traffic-series.ts'
import { livingEnds } from '../../mesh/telemetry/metrics/sweep-series.ts'
import type { LocalPod } from '../proxy/local-pod.ts'

type KnownPod = Pick<LocalPod, 'namespace' | 'name' | 'workloadUid'>

/** Those of this moment. */
export function livingParties(mesh: MeshState, pods: readonly KnownPod[]): LivingParties {
  const own = new Set<string>()
  for (const { namespace, name, workloadUid } of pods) {
    const workload = mesh.workload(workloadUid)
    // It counts by its own name until discovery knows its workload.
    own.add(
      workload === undefined
        ? partyKey(namespace, name, undefined)
        : partyKey(namespace, workload.workloadName, workload.canonicalRevision),
    )
  }
  return { own, ...livingEnds(mesh) }
}
