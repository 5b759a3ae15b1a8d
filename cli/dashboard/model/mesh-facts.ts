// SPDX-License-Identifier: Apache-2.0
// What the control plane has told all agents alike, out of the dump of one of them: workloads, Services' names, policies.

import { err, ok, type Result } from '../../../mesh/result.ts'
import { networkDirections } from '../../tables/policies.ts'
import { networkRules } from './network-words.ts'
import { policyRules } from './policy-words.ts'
import { fields, list, optionalText, text, texts } from './reading.ts'

export interface MeshWorkload {
  readonly uid: string
  readonly namespace: string
  /** The pod's. */
  readonly name: string
  /** The owner's: traffic is counted by it. */
  readonly owner: string
  readonly addresses: readonly string[]
  readonly node: string
  readonly protocol: string
  readonly isHealthy: boolean
  /** As `namespace/hostname`. */
  readonly services: readonly string[]
  readonly policies: readonly string[]
  /** NetworkPolicies that select it. */
  readonly networkPolicies: readonly string[]
  readonly identity: string
}

export interface MeshPolicy {
  /** `namespace/name`. */
  readonly key: string
  readonly namespace: string
  /** The object it is made of, `kind namespace/name`. */
  readonly object: string
  readonly action: string
  readonly scope: string
  readonly isDryRun: boolean
  readonly rules: readonly string[]
}

export interface MeshFacts {
  readonly workloads: readonly MeshWorkload[]
  /** Hostnames by address, those of Services. */
  readonly serviceAddresses: ReadonlyMap<string, string>
  readonly policies: ReadonlyMap<string, MeshPolicy>
  /** Reasons by key. */
  readonly unreadable: ReadonlyMap<string, string>
  readonly networkPolicies: ReadonlyMap<string, MeshPolicy>
  readonly unreadableNetwork: ReadonlyMap<string, string>
}

export const NO_MESH: MeshFacts = {
  workloads: [],
  serviceAddresses: new Map(),
  policies: new Map(),
  unreadable: new Map(),
  networkPolicies: new Map(),
  unreadableNetwork: new Map(),
}

/** Reads them; the error says why it is no dump of an agent. */
export function readMeshFacts(value: unknown): Result<MeshFacts, string> {
  const dump = fields(value)
  for (const field of ['workloads', 'services', 'policies'])
    if (!Array.isArray(dump[field])) return err(`its config dump has no list "${field}"`)
  const serviceAddresses = new Map<string, string>()
  for (const service of list(dump['services']).map(fields))
    for (const vip of texts(service['vips']))
      serviceAddresses.set(vip.slice(vip.indexOf('/') + 1), text(service['hostname']))
  return ok({
    workloads: list(dump['workloads']).map(readWorkload),
    serviceAddresses,
    policies: byKey(list(dump['policies']).map(readPolicy)),
    unreadable: reasons(dump['unreadablePolicies']),
    // An agent of before they were enforced has no such list.
    networkPolicies: byKey(list(dump['networkPolicies']).map(readNetworkPolicy)),
    unreadableNetwork: reasons(dump['unreadableNetworkPolicies']),
  })
}

function byKey(policies: readonly MeshPolicy[]): ReadonlyMap<string, MeshPolicy> {
  return new Map(policies.map((policy) => [policy.key, policy]))
}

function reasons(unreadable: unknown): ReadonlyMap<string, string> {
  return new Map(
    list(unreadable)
      .map(fields)
      .map(({ key, reason }) => [text(key), text(reason)]),
  )
}

function readWorkload(value: unknown): MeshWorkload {
  const workload = fields(value)
  const namespace = text(workload['namespace'])
  const name = text(workload['name'])
  const trustDomain = text(workload['trustDomain'])
  return {
    uid: text(workload['uid']),
    namespace,
    name,
    owner: optionalText(workload['workloadName']) ?? name,
    addresses: texts(workload['workloadIps']),
    node: text(workload['node']),
    protocol: text(workload['protocol']),
    isHealthy: text(workload['status']) === 'Healthy',
    services: texts(workload['services']),
    policies: texts(workload['authorizationPolicies']),
    networkPolicies: texts(workload['networkPolicies']),
    identity: `spiffe://${trustDomain}/ns/${namespace}/sa/${text(workload['serviceAccount'])}`,
  }
}

function readPolicy(value: unknown): MeshPolicy {
  const policy = fields(value)
  const namespace = text(policy['namespace'])
  const key = `${namespace}/${text(policy['name'])}`
  return {
    key,
    namespace,
    object: optionalText(policy['madeOf']) ?? `AuthorizationPolicy ${key}`,
    action: policy['audit'] === true ? 'Audit' : text(policy['action']),
    scope: text(policy['scope']),
    // AUDIT travels as one on trial, to readers who do not know it.
    isDryRun: policy['dryRun'] === true && policy['audit'] !== true,
    rules: policyRules(policy['rules'], policy['places']),
  }
}

function readNetworkPolicy(value: unknown): MeshPolicy {
  const { namespace, name, ingress, egress } = fields(value)
  const key = `${text(namespace)}/${text(name)}`
  return {
    key,
    namespace: text(namespace),
    object: `NetworkPolicy ${key}`,
    action: networkDirections(ingress, egress),
    scope: 'WorkloadSelector',
    isDryRun: false,
    rules: networkRules(ingress, egress),
  }
}
