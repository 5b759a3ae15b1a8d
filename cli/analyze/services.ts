// SPDX-License-Identifier: Apache-2.0
// The Services of a cluster and the workloads that they select.

import { fieldsOf } from '../../controller/istio-api/flaw.ts'
import type { ObjectRef } from './finding.ts'
import { mapsOf, type Objects, refOf, textOf, textsOf } from './objects.ts'
import { entry } from './entry.ts'
import { SelectorIndex } from './selector-index.ts'
import type { WorkloadFacts } from './workloads.ts'

export interface ServicePort {
  /** Empty: it has none. */
  readonly name: string
  readonly port: number
  /** A number in the pod, or the name of a container's port. */
  readonly target: number | string
  readonly protocol: string
  readonly nodePort: number | undefined
}

export interface ServiceFacts extends ObjectRef {
  readonly type: string
  /** Undefined where somebody else says which endpoints it has. */
  readonly selector: ReadonlyMap<string, string> | undefined
  readonly ports: readonly ServicePort[]
  readonly labels: ReadonlyMap<string, string>
  readonly publishesNotReady: boolean
  /** Those that it selects; of Services with the same selector the same list. */
  readonly workloads: readonly WorkloadFacts[]
}

/** Reads them. */
export function readServices(
  objects: Objects,
  workloads: readonly WorkloadFacts[],
): readonly ServiceFacts[] {
  const index = new SelectorIndex<{ workloads: readonly WorkloadFacts[] }>()
  const services = objects.of('Service').map((object) => {
    const spec = fieldsOf(object.spec) ?? {}
    const ref = refOf('Service', object)
    const selector = textsOf(spec['selector'])
    const type = textOf(spec['type']) || 'ClusterIP'
    const selects = selector.size > 0 && type !== 'ExternalName'
    const facts = {
      ...ref,
      type,
      selector: selects ? selector : undefined,
      ports: mapsOf(spec['ports']).flatMap(readPort),
      labels: textsOf(fieldsOf(object.metadata)?.['labels']),
      publishesNotReady: spec['publishNotReadyAddresses'] === true,
      workloads: NONE,
    }
    if (selects) index.add(ref.namespace, selector, facts)
    return facts
  })
  const selected = new Map<readonly { workloads: readonly WorkloadFacts[] }[], WorkloadFacts[]>()
  for (const workload of workloads)
    for (const list of index.selecting(workload.namespace, workload.labels))
      entry(selected, list, () => [] as WorkloadFacts[]).push(workload)
  for (const [list, those] of selected) for (const service of list) service.workloads = those
  return services
}

const NONE: readonly WorkloadFacts[] = []

/** The ports in a workload to which a port of a Service leads. */
export function targetPorts(
  { ports }: WorkloadFacts,
  { target, protocol }: ServicePort,
): readonly number[] {
  if (typeof target === 'number') return [target]
  return ports
    .filter((each) => each.name === target && each.protocol === protocol)
    .map(({ port }) => port)
}

function readPort({
  name,
  port,
  targetPort,
  protocol,
  nodePort,
}: Readonly<Record<string, unknown>>): readonly ServicePort[] {
  if (typeof port !== 'number') return []
  const isSaid = targetPort !== undefined && targetPort !== 0 && targetPort !== ''
  const isNumber = typeof targetPort === 'number' || /^\d+$/.test(textOf(targetPort))
  const target = isNumber ? Number(targetPort) : textOf(targetPort)
  return [
    {
      name: textOf(name),
      port,
      target: isSaid ? target : port,
      protocol: textOf(protocol) || 'TCP',
      nodePort: typeof nodePort === 'number' && nodePort > 0 ? nodePort : undefined,
    },
  ]
}
