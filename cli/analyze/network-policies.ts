// SPDX-License-Identifier: Apache-2.0
// The NetworkPolicies of a cluster, read as the controller reads them; those with the same selector are one.

import {
  type LabelSelector,
  selectorName,
  selects,
} from '../../controller/network-policy/label-selector.ts'
import {
  type NetworkPolicyFacts,
  readNetworkPolicy,
} from '../../controller/network-policy/network-policy.ts'
import type { ObjectProblem } from '../../controller/reading/object-reader.ts'
import { entry } from './entry.ts'
import type { ObjectRef } from './finding.ts'
import type { Objects } from './objects.ts'
import { SelectorIndex } from './selector-index.ts'
import type { WorkloadFacts } from './workloads.ts'

export interface NetworkObject extends ObjectRef {
  readonly kind: 'NetworkPolicy'
  readonly facts: NetworkPolicyFacts
  readonly problems: readonly ObjectProblem[]
}

export interface NetworkPolicies {
  readonly all: readonly NetworkObject[]
  /** Those that select a workload, list by list: those of one list have the same selector. */
  readonly selecting: (workload: WorkloadFacts) => readonly (readonly NetworkObject[])[]
  /** The labels that their selectors name. */
  readonly labelKeys: ReadonlySet<string>
}

interface Group {
  readonly pods: LabelSelector
  readonly policies: NetworkObject[]
}

/** Reads them. */
export function readNetworkPolicies(objects: Objects): NetworkPolicies {
  const all = objects.of('NetworkPolicy').flatMap((object): readonly NetworkObject[] => {
    const { facts, problems } = readNetworkPolicy(object)
    if (facts === undefined) return []
    const { namespace, name } = facts.policy
    return [{ kind: 'NetworkPolicy', namespace, name, facts, problems }]
  })
  const groups = new Map<string, Group>()
  const byLabels = new SelectorIndex<Group>()
  const labelKeys = new Set<string>()
  for (const each of all) {
    const { pods } = each.facts
    const group = entry(groups, selectorName(each.namespace, pods), () => {
      const made: Group = { pods, policies: [] }
      byLabels.add(each.namespace, pods.exact, made)
      for (const key of [...pods.exact.keys(), ...pods.others.map(({ key }) => key)])
        labelKeys.add(key)
      return made
    })
    group.policies.push(each)
  }
  return {
    all,
    selecting: ({ namespace, labels }) =>
      [...byLabels.selecting(namespace, labels)]
        .flat()
        .filter(({ pods }) => selects(pods, labels))
        .map(({ policies }) => policies),
    labelKeys,
  }
}
