// SPDX-License-Identifier: Apache-2.0
// Has series of traffic end with the workloads that they are about, as discovery knows them.

import type { MeshState } from '../../model/mesh-state.ts'
import { type LivingParties, partyKey } from './traffic-series.ts'

/** How often it is looked who is gone. */
const SWEEP_EVERY_MS = 60_000

/** All workloads and services of the mesh at this moment. */
export function livingEnds(mesh: MeshState): Pick<LivingParties, 'workloads' | 'services'> {
  const workloads = new Set<string>()
  for (const { namespace, workloadName, canonicalRevision } of mesh.workloads())
    workloads.add(partyKey(namespace, workloadName, canonicalRevision))
  const services = new Set<string>()
  for (const { hostname } of mesh.services()) services.add(hostname)
  return { workloads, services }
}

/** Has series end, until it is disposed of. */
export function sweepSeries<L>(
  series: { readonly hasIdle: boolean; sweep(living: L): number },
  living: () => L,
): Disposable {
  const timer = setInterval(() => {
    // Going through the mesh is for when it is of use.
    if (series.hasIdle) series.sweep(living())
  }, SWEEP_EVERY_MS).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}
