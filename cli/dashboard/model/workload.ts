// SPDX-License-Identifier: Apache-2.0
// The page of one workload: its pods, certificates, the policies that decide on calls into it, recent denials, open connections. Pure.

import type { ConnectionView, PolicyView, WorkloadView } from '../view.ts'
import { graphView } from './graph.ts'
import type { LocalConnection } from './local-facts.ts'
import type { MeshFacts, MeshPolicy, MeshWorkload } from './mesh-facts.ts'
import { certificatesOf, podOfWorkload } from './pods.ts'
import type { Snapshot } from './snapshot.ts'

/** Of a workload with thousands no person reads all. */
const MOST_CONNECTIONS = 200
const MOST_DENIALS = 50

/** Computes it; undefined when nothing of that name is known. */
export function workloadView(
  snapshot: Snapshot,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): WorkloadView | undefined {
  const { nodes, edges, ...standing } = graphView(snapshot)
  const id = `${namespace}/${name}`
  const workload = nodes.find((node) => node.id === id)
  if (workload === undefined) return undefined
  const { mesh } = snapshot
  const members = mesh.workloads.filter(
    (each) => each.namespace === namespace && each.owner === name,
  )
  const identities = new Set(members.map(({ identity }) => identity))
  const pods = new Set(members.map((member) => `${member.namespace}/${member.name}`))
  const connections = connectionsOf(snapshot, pods)
  return {
    ...standing,
    workload,
    identities: [...identities].sort(),
    pods: members.map((member) => podOfWorkload(member, snapshot)),
    certificates: certificatesOf(snapshot, identities),
    policies: policiesOf(mesh, namespace, members),
    denials: snapshot.audit
      .filter(({ kind, what }) => DENIALS.has(kind) && pods.has(podNamed(what)))
      .slice(0, MOST_DENIALS),
    connections: connections.slice(0, MOST_CONNECTIONS),
    moreConnections: Math.max(0, connections.length - MOST_CONNECTIONS),
    edges: edges.filter(({ from, to }) => from === id || to === id),
  }
}

const DENIALS: ReadonlySet<string> = new Set([
  'connection.denied',
  'connection.closed',
  'connection.dryRun',
])

/** The audit names it as `pod <namespace>/<name> at <address>`. */
function podNamed(what: string): string {
  return /^pod (\S+)/.exec(what)?.[1] ?? ''
}

/** Those of the whole mesh, of the namespace, and those that its pods name; NetworkPolicies are always named. What is missing is first. */
function policiesOf(
  mesh: MeshFacts,
  namespace: string,
  members: readonly MeshWorkload[],
): readonly PolicyView[] {
  const named = new Set(members.flatMap(({ policies }) => policies))
  const concerning = [...mesh.policies.values()].filter(
    (policy) => isWide(policy, namespace) || named.has(policy.key),
  )
  const namedNetwork = new Set(members.flatMap(({ networkPolicies }) => networkPolicies))
  const network = [...namedNetwork].flatMap((key) => mesh.networkPolicies.get(key) ?? [])
  return [
    ...absentOf('policy', named, mesh.policies, mesh.unreadable),
    ...absentOf('NetworkPolicy', namedNetwork, mesh.networkPolicies, mesh.unreadableNetwork),
    ...[...concerning, ...network].map(({ object, action, scope, isDryRun, rules }) => ({
      object,
      action,
      scope,
      isDryRun,
      rules,
      problem: undefined,
    })),
  ]
}

/** What pods name and no agent has: it closes them. */
function absentOf(
  kind: string,
  named: ReadonlySet<string>,
  known: ReadonlyMap<string, MeshPolicy>,
  unreadable: ReadonlyMap<string, string>,
): readonly PolicyView[] {
  return [...named]
    .filter((key) => !known.has(key))
    .map((key) => ({
      object: `${kind} ${key}`,
      action: 'closed',
      scope: '',
      isDryRun: false,
      rules: [],
      problem: unreadable.has(key)
        ? `it cannot be read: ${unreadable.get(key) ?? ''}`
        : 'it has not arrived',
    }))
}

function isWide({ scope, namespace: of }: MeshPolicy, namespace: string): boolean {
  return scope === 'Global' || (scope === 'Namespace' && of === namespace)
}

function connectionsOf(
  { agents, mesh }: Snapshot,
  pods: ReadonlySet<string>,
): readonly ConnectionView[] {
  const names = new Map(mesh.serviceAddresses)
  for (const { addresses, namespace, name } of mesh.workloads)
    for (const address of addresses) names.set(address, `${namespace}/${name}`)
  return agents.flatMap(({ facts }) =>
    (facts?.pods ?? [])
      .filter(({ namespace, name }) => pods.has(`${namespace}/${name}`))
      .flatMap(({ name, connections }) =>
        connections.map((connection) => connectionView(name, connection, names)),
      ),
  )
}

function connectionView(
  pod: string,
  { direction, src, actualDst, originalDst, protocol, allowedBy }: LocalConnection,
  names: ReadonlyMap<string, string>,
): ConnectionView {
  const peerAddress = direction === 'inbound' ? src : actualDst
  return {
    pod,
    direction,
    peer: names.get(hostOf(peerAddress)) ?? '',
    peerAddress,
    target: originalDst,
    protocol,
    allowedBy,
  }
}

function hostOf(address: string): string {
  return address.slice(0, Math.max(0, address.lastIndexOf(':'))).replace(/^\[|\]$/g, '')
}
