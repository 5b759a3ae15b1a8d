// SPDX-License-Identifier: Apache-2.0
// BackendTLSPolicies for what is not there, or by which nobody can be trusted: what they are about is out of reach meanwhile.

import { CA_KEY } from '../../../controller/gateway-api/ca-bundle.ts'
import type { BackendTlsObject } from '../backend-tls.ts'
import { type Finding, finding, refName } from '../finding.ts'
import type { ServiceFacts } from '../services.ts'
import type { World } from '../world.ts'
import type { Check } from './check.ts'

export const BACKEND_TLS: Check = {
  codes: ['AMB112', 'AMB113', 'AMB202'],
  needs: ['BackendTLSPolicy', 'ConfigMap'],
  *run(world) {
    const { policies } = world.backendTls
    if (policies.length === 0) return
    const services = new Map(world.services.map((each) => [refName(each), each]))
    for (const policy of policies) {
      for (const { field, reason } of policy.facts.flaws)
        yield finding('AMB202', policy, field, reason)
      yield* targetsOf(world, services, policy)
      yield* authoritiesOf(world, policy)
    }
  },
}

function* targetsOf(
  { has }: World,
  services: ReadonlyMap<string, ServiceFacts>,
  policy: BackendTlsObject,
): Generator<Finding> {
  const { namespace } = policy
  for (const { name, sectionName } of policy.facts.targets) {
    const named = `Service ${namespace}/${name}`
    const service = services.get(refName({ namespace, name }))
    const what =
      service === undefined
        ? has('Service', namespace, name) === false && `there is no ${named}`
        : sectionName !== undefined &&
          !service.ports.some((port) => port.name === sectionName) &&
          `${named} has no port named ${sectionName}`
    if (what !== false) yield finding('AMB112', policy, 'spec.targetRefs', what)
  }
}

function* authoritiesOf(
  { has, backendTls: { bundles } }: World,
  policy: BackendTlsObject,
): Generator<Finding> {
  const { namespace } = policy
  for (const { field, group, kind, name } of policy.facts.authorities) {
    const named = `${kind} ${namespace}/${name}`
    if (group !== '' || kind !== 'ConfigMap') {
      yield finding('AMB113', policy, field, `${named} is no ConfigMap`)
      continue
    }
    const bundle = bundles.get(refName({ namespace, name }))
    const isThere = has('ConfigMap', namespace, name)
    const what =
      bundle !== undefined
        ? bundle.flaw !== undefined && `${CA_KEY} of ${named} ${bundle.flaw}`
        : isThere === undefined
          ? false
          : isThere
            ? `${named} has no key ${CA_KEY}`
            : `there is no ${named}`
    if (what !== false) yield finding('AMB113', policy, field, what)
  }
}
