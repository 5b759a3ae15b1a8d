// SPDX-License-Identifier: Apache-2.0
// The ports that a pod's containers have given names to, which NetworkPolicies may say instead of numbers.

import type { Pod } from '../../mesh/kube/resources.ts'
import type { NamedPort } from '../../mesh/model/network-policy.ts'
import { fieldsOf } from '../istio-api/flaw.ts'
import type { ObjectReader } from '../reading/object-reader.ts'

/** Far more than any pod has; each agent of the mesh keeps them. */
const MOST_NAMED = 1_000

/** Reads them; those of init containers that go on running are the pod's as well. What is none is left out. */
export function readNamedPorts(reader: ObjectReader, { spec }: Pod): readonly NamedPort[] {
  const named: NamedPort[] = []
  const sidecars = reader
    .list('spec.initContainers', spec?.initContainers)
    .filter(({ restartPolicy }) => restartPolicy === 'Always')
  for (const container of [...reader.list('spec.containers', spec?.containers), ...sidecars]) {
    const ports: unknown = fieldsOf(container)?.ports
    if (!Array.isArray(ports)) continue
    for (const each of ports as readonly unknown[]) {
      const { name, containerPort, protocol = 'TCP' } = fieldsOf(each) ?? {}
      if (typeof name !== 'string' || name === '' || protocol !== 'TCP') continue
      if (typeof containerPort !== 'number' || !Number.isInteger(containerPort)) continue
      if (containerPort < 1 || containerPort > 65_535 || named.length >= MOST_NAMED) continue
      named.push({ name, port: containerPort })
    }
  }
  return named
}
