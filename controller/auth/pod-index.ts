// SPDX-License-Identifier: Apache-2.0
// What discovery knows of pods, as those ask it who decide whom to believe: the pod behind a token, and which service
// accounts run on which node.

import type { Collection, Index } from '../../mesh/collections/index.ts'
import type { Pod } from '../../mesh/kube/index.ts'
import { DATAPLANE_MODE_LABEL, NEVER_ENROLLED_NAMESPACES } from '../../mesh/model/names.ts'
import { type ObjectKey, podKey } from '../core/origin.ts'
import { type PodFacts, readPod } from '../core/pod.ts'

/** Whether a pod is somewhere and can be told from others: only then it says anything about its node. */
function isScheduled(pod: PodFacts): boolean {
  const { node, kubernetesUid, name, template } = pod
  return node !== '' && kubernetesUid !== '' && template.namespace !== '' && name !== ''
}

/**
 * Whether an agent may have its identity: not that of a pod that is never in the mesh, so that a stolen node is not worth the
 * identities of what the cluster, the mesh or a gateway beside it stand on. Whether a namespace is labelled is not asked: the
 * agent and we learn of labels at different times, and a pod that joins must not wait for the later of the two.
 */
export function isMeshable(pod: PodFacts): boolean {
  const { template } = pod
  return (
    isScheduled(pod) &&
    !pod.hasEnded &&
    !template.isHostNetwork &&
    !template.hasSidecar &&
    template.labels.get(DATAPLANE_MODE_LABEL) !== 'none' &&
    !NEVER_ENROLLED_NAMESPACES.includes(template.namespace)
  )
}

/** Reads a pod that the API server has just told of; undefined while it is not scheduled. */
export function scheduledPod(pod: Pod): PodFacts | undefined {
  // The index asks the same questions of the pods of the watch; of which cluster they are does not matter here.
  const { facts } = readPod(pod, { cluster: '', clusterDomain: '' })
  return facts !== undefined && isScheduled(facts) ? facts : undefined
}

/** The pods of our own cluster that callers speak of, and whether an account's pods run on a node. */
export class PodIndex {
  readonly #pods: Collection<ObjectKey, PodFacts>
  readonly #cluster: string
  readonly #byNodeAndAccount: Index<string, PodFacts>

  constructor(pods: Collection<ObjectKey, PodFacts>, cluster: string) {
    this.#pods = pods
    this.#cluster = cluster
    this.#byNodeAndAccount = pods.index((pod) =>
      isMeshable(pod) ? [accountOnNode(pod.node, pod.template)] : [],
    )
  }

  /** The pod of this name, if it is the one with this UID and runs somewhere. */
  find(namespace: string, name: string, uid: string): PodFacts | undefined {
    const pod = this.#pods.get(podKey(this.#cluster, namespace, name))
    return pod?.kubernetesUid === uid && isScheduled(pod) ? pod : undefined
  }

  /** Whether a pod of the mesh with this service account runs on the node. */
  runsOn(node: string, namespace: string, serviceAccount: string): boolean {
    return this.#byNodeAndAccount.get(accountOnNode(node, { namespace, serviceAccount })).length > 0
  }
}

function accountOnNode(
  node: string,
  { namespace, serviceAccount }: { readonly namespace: string; readonly serviceAccount: string },
): string {
  return `${node}/${namespace}/${serviceAccount}`
}
