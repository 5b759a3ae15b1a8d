// SPDX-License-Identifier: Apache-2.0
// Which ports of which workloads refuse callers without identity.

import type { ServiceFacts, ServicePort } from '../services.ts'
import { targetPorts } from '../services.ts'
import type { WorkloadFacts } from '../workloads.ts'
import type { World } from '../world.ts'

/** Whether all pods behind a port of a Service certainly refuse them. */
export function isStrictPort(
  world: World,
  { workloads }: ServiceFacts,
  port: ServicePort,
): boolean {
  return (
    workloads.length > 0 && workloads.every((workload) => isStrictTarget(world, workload, port))
  )
}

function isStrictTarget({ policies }: World, workload: WorkloadFacts, port: ServicePort): boolean {
  // Outside the mesh nothing is required of anybody.
  if (workload.isMember !== true) return false
  const { mode, exceptions } = policies.mutualTlsOf(workload)
  const ports = targetPorts(workload, port)
  return (
    ports.length > 0 && ports.every((each) => (mode === 'strict') !== exceptions.includes(each))
  )
}

/** The object that says so, as people name it. */
export function strictBy({ policies }: World, { workloads }: ServiceFacts): string {
  const [first] = workloads
  const by = first === undefined ? undefined : policies.mutualTlsOf(first).by
  return by === undefined ? '' : `PeerAuthentication ${by.namespace}/${by.name}`
}
