// SPDX-License-Identifier: Apache-2.0
// Where is a pod's network? What CNI or a state file said is believed while its path still leads there; a pod older
// than the agent is looked for among the node's processes.

import type { Fact, Knowledge, PodNetwork } from './facts.ts'
import { statusAddresses } from './facts.ts'
import type { PodNetnsFinder } from './find-pod-netns.ts'
import { isSameNetns, netnsAt } from './netns-identity.ts'
import type { EnrolmentOutcome, PodName } from './types.ts'

/** Where a pod's network is, or how the pod stands without; and what was learned on the way. */
export type Located = { readonly facts: readonly Fact[] } & (
  | { readonly ok: true; readonly network: PodNetwork }
  | { readonly ok: false; readonly outcome: EnrolmentOutcome }
)

export type LocatePod = (pod: PodName, known: Knowledge) => Promise<Located>

/** The kubelet's hash of a static pod's file; a UID has dashes. */
const STATIC_POD_HASH = /^[0-9a-f]{32}$/

/** Makes the function that looks for pods with this finder. */
export function locator(finder: PodNetnsFinder): LocatePod {
  return async (pod, known) => {
    const facts: Fact[] = []
    let { network } = known
    if (network !== undefined && !isSameNetns(await netnsAt(network.netnsPath), network.identity)) {
      facts.push({ kind: 'networkGone', identity: network.identity })
      network = undefined
    }
    if (network !== undefined && network.addresses.length > 0) return { ok: true, network, facts }
    const addresses = statusAddresses(known.object)
    if (addresses.length === 0) return waiting('the pod has no address yet', facts)
    if (network === undefined) {
      const found = await finder.find()
      // The processes of a static pod carry the hash of its file, not the UID of its mirror.
      const hash = known.object?.metadata?.annotations?.['kubernetes.io/config.hash'] ?? ''
      // Anybody may write the annotation on a pod of theirs: it must not name another pod by its UID.
      const netns = found.get(pod.uid) ?? (STATIC_POD_HASH.test(hash) ? found.get(hash) : undefined)
      if (netns === undefined) return waiting('none of its processes is running', facts)
      const { netnsPath, identity } = netns
      network = { netnsPath, identity, addresses, containerId: undefined }
    } else network = { ...network, addresses }
    facts.push({ kind: 'networkFound', network })
    return { ok: true, network, facts }
  }
}

function waiting(reason: string, facts: readonly Fact[]): Located {
  return { ok: false, outcome: { kind: 'waiting', reason }, facts }
}
