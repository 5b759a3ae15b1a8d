// SPDX-License-Identifier: Apache-2.0
// Policies that are attached to something: what is not there, and what no waypoint serves, so that nobody enforces them for it.

import type { TargetRef } from '../../../controller/istio-api/target-refs.ts'
import { USE_WAYPOINT_LABEL } from '../../../mesh/model/names.ts'
import { finding } from '../finding.ts'
import type { World } from '../world.ts'
import type { Check } from './check.ts'

export const MISSING_TARGET: Check = {
  codes: ['AMB102', 'AMB204'],
  needs: ['Gateway'],
  *run(world) {
    const services = new Map(
      world.services.map((each) => [`${each.namespace}/${each.name}`, each.labels]),
    )
    for (const policy of world.policies.authorizations) {
      const { target } = policy.facts
      if (target.kind !== 'attached') continue
      for (const ref of target.refs.refs) {
        const namespace = ref.kind === 'GatewayClass' ? '' : policy.namespace
        const what = `${ref.kind} ${namespace === '' ? ref.name : `${namespace}/${ref.name}`}`
        if (world.has(ref.kind, namespace, ref.name) === false) {
          yield finding('AMB102', policy, ref.field, `there is no ${what}`)
          continue
        }
        const flaw = unserved(world, services, policy.namespace, ref)
        if (flaw !== undefined) yield finding('AMB204', policy, ref.field, `${what} ${flaw}`)
      }
    }
  },
}

/** Why no waypoint enforces anything for it; undefined where one may. `services`: the labels of each. */
function unserved(
  { config, namespaces }: World,
  services: ReadonlyMap<string, ReadonlyMap<string, string>>,
  namespace: string,
  { kind, name }: TargetRef,
): string | undefined {
  switch (kind) {
    case 'Gateway':
      return undefined
    case 'GatewayClass':
      return namespace === config.rootNamespace
        ? undefined
        : `counts only for policies of namespace ${config.rootNamespace}`
    case 'ServiceEntry':
      return 'is of a kind that waypoints do not serve yet'
    case 'Service': {
      const labels = services.get(`${namespace}/${name}`)
      const around = namespaces.get(namespace)
      if (labels === undefined || around === undefined) return undefined
      const used = labels.get(USE_WAYPOINT_LABEL) ?? around.get(USE_WAYPOINT_LABEL) ?? 'none'
      return used === 'none' || used === '' ? 'uses no waypoint' : undefined
    }
  }
}
