// SPDX-License-Identifier: Apache-2.0
// How what a lab makes in a real cluster is told from everything else there.

/** On each node of a lab, in memory or real: its lab's name. The mesh's own pods ask for nodes with it. */
export const LAB_LABEL = 'lab.ambit.dev/name'
/** On each object that a lab made in a real cluster: which run of `lab up` made it. `lab down` removes no other. */
export const RUN_LABEL = 'lab.ambit.dev/run'
/** The leases by which a cluster's controllers and scheduler say that they live. */
export const PART_LEASES = {
  manager: 'kube-controller-manager',
  scheduler: 'kube-scheduler',
} as const
/** How the lab signs a lease that it holds: nobody but this run's daemon does. */
export const leaseHolder = (labName: string, runId: string): string =>
  `ambit-lab-${labName}_${runId}`
/** What a mesh's controller, Istio's as well as ours, publishes in every namespace of a cluster. */
export const MESH_ROOT_CONFIG_MAP = 'istio-ca-root-cert'
/** Keeps other pods of a shared cluster off the lab's nodes; its value is the lab's name. */
export const LAB_TAINT = 'lab.ambit.dev/name'
