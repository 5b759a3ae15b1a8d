// SPDX-License-Identifier: Apache-2.0
// Pods as pages show them, and certificates by their end. Pure.

import type { CertificateView, NodesView, PodView } from '../view.ts'
import type { LocalStanding } from './local-facts.ts'
import type { MeshWorkload } from './mesh-facts.ts'
import type { Snapshot } from './snapshot.ts'
import { standingOf } from './standing.ts'

/** The page of nodes: agents, each pod and its capture, certificates with the soonest end first. */
export function nodesView(snapshot: Snapshot): NodesView {
  const known = new Map(
    snapshot.mesh.workloads.map((workload) => [`${workload.namespace}/${workload.name}`, workload]),
  )
  const pods = snapshot.agents.flatMap(({ node, facts }) =>
    (facts?.standings ?? []).map((standing) =>
      podView(node, standing, known.get(`${standing.namespace}/${standing.name}`)),
    ),
  )
  return { ...standingOf(snapshot), pods, certificates: certificatesOf(snapshot) }
}

/** A pod of a workload, with what its agent says of it. */
export function podOfWorkload(workload: MeshWorkload, snapshot: Snapshot): PodView {
  const { namespace, name, node } = workload
  const standing = snapshot.agents
    .find((agent) => agent.node === node)
    ?.facts?.standings.find((each) => each.namespace === namespace && each.name === name)
  return podView(
    node,
    standing ?? { namespace, name, state: 'unknown', reason: undefined },
    workload,
  )
}

function podView(
  node: string,
  { namespace, name, state, reason }: LocalStanding,
  workload: MeshWorkload | undefined,
): PodView {
  return {
    namespace,
    name,
    node,
    addresses: workload?.addresses ?? [],
    isHealthy: workload?.isHealthy ?? true,
    capture: state,
    captureReason: reason,
    protocol: workload?.protocol ?? '',
  }
}

/** Those of the identities, of all when none is named; the soonest end first, and before all those that have none. */
export function certificatesOf(
  { agents }: Snapshot,
  identities?: ReadonlySet<string>,
): readonly CertificateView[] {
  return agents
    .flatMap(({ node, facts }) =>
      (facts?.certificates ?? [])
        .filter(({ identity }) => identities?.has(identity) ?? true)
        .map((certificate) => ({ node, ...certificate })),
    )
    .toSorted((one, other) => (one.notAfter ?? 0) - (other.notAfter ?? 0))
}
