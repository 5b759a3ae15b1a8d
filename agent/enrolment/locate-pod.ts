// SPDX-License-Identifier: Apache-2.0
// Where is a pod's network? What CNI said is believed while its path still leads there; a pod older than the agent is
// looked for among the node's processes, and what is found has to be proved.

import type { Fact, Knowledge, PodNetwork } from './facts.ts'
import { isTrusted, statusAddresses } from './facts.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { PodFinder, PodProcess, PodProcesses } from './find-pod-netns.ts'
import { isSameNetns, netnsAt } from './netns-identity.ts'
import type { ProveNetns } from './prove-netns.ts'
import type { EnrolmentOutcome, PodName } from './types.ts'

/** Where a pod's network is, or how the pod stands without; and what was learned on the way. */
export type Located = { readonly facts: readonly Fact[] } & (
  | { readonly ok: true; readonly network: PodNetwork }
  | { readonly ok: false; readonly outcome: EnrolmentOutcome }
)

export type LocatePod = (pod: PodName, known: Knowledge) => Promise<Located>

/** The kubelet's hash of a static pod's file; a UID has dashes. */
const STATIC_POD_HASH = /^[0-9a-f]{32}$/

/** Makes the function that looks for pods. */
export function locator(finder: PodFinder, prove: ProveNetns): LocatePod {
  return async (pod, known) => {
    const facts: Fact[] = []
    let { network } = known
    if (network !== undefined && !isTrusted(network)) {
      // Kept in mind until there is better: without the API, nobody else knows the addresses.
      network = undefined
    } else if (network !== undefined && !(await isStillThere(network))) {
      facts.push({ kind: 'networkGone', identity: network.identity })
      network = undefined
    }
    const addresses = addressesOf(network, known)
    if (addresses.length === 0) return waiting('the pod has no address yet', facts)
    if (network === undefined) {
      const processes = processesOf(pod, known, await finder.find())
      if (processes.length === 0) return waiting('none of its processes is running', facts)
      const hasOwnUsers = known.object?.spec?.hostUsers === false
      const proven = await prove({ addresses, hasOwnUsers }, processes)
      if (!proven.ok)
        return proven.error.kind === 'ended'
          ? waiting('its processes have ended', facts)
          : refused(pod, proven.error.reason, facts)
      const { netnsPath, identity, netnsCookie } = proven.value
      const found = { netnsPath, identity, addresses, containerId: undefined }
      network = { ...found, expectedCookie: netnsCookie, isProven: true }
      if (known.network !== undefined)
        facts.push({ kind: 'networkGone', identity: known.network.identity })
    } else if (network.addresses.length === 0) network = { ...network, addresses }
    else return { ok: true, network, facts }
    facts.push({ kind: 'networkFound', network })
    return { ok: true, network, facts }
  }
}

async function isStillThere({ netnsPath, identity }: PodNetwork): Promise<boolean> {
  return isSameNetns(await netnsAt(netnsPath), identity)
}

/** CNI's addresses are the best; those that an earlier agent wrote down serve while the API server is away. */
function addressesOf(network: PodNetwork | undefined, known: Knowledge): readonly IpAddress[] {
  const listed = [network?.addresses, statusAddresses(known.object), known.network?.addresses]
  return listed.find((addresses) => addresses !== undefined && addresses.length > 0) ?? []
}

function processesOf(pod: PodName, known: Knowledge, found: PodProcesses): readonly PodProcess[] {
  // The processes of a static pod carry the hash of its file, not the UID of its mirror.
  const hash = known.object?.metadata?.annotations?.['kubernetes.io/config.hash'] ?? ''
  // Anybody may write the annotation on a pod of theirs: it must not name another pod by its UID.
  return found.get(pod.uid) ?? (STATIC_POD_HASH.test(hash) ? found.get(hash) : undefined) ?? []
}

function refused({ namespace, name }: PodName, reason: string, facts: readonly Fact[]): Located {
  const error = new AmbitError('AMB_ENROLMENT', `Cannot enrol pod ${namespace}/${name}: ${reason}`)
  return { ok: false, outcome: { kind: 'failed', error }, facts }
}

function waiting(reason: string, facts: readonly Fact[]): Located {
  return { ok: false, outcome: { kind: 'waiting', reason }, facts }
}
