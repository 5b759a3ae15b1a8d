// SPDX-License-Identifier: Apache-2.0
// Which pods are part of the mesh. The order of the tests is Istio's; the first that applies decides.

import { type LabelMatcher, parseLabelSelector, type Pod } from '../../mesh/kube/index.ts'
import {
  DATAPLANE_MODE_LABEL,
  NEVER_ENROLLED_NAMESPACES,
  SIDECAR_ANNOTATION,
} from '../../mesh/model/names.ts'

export type IneligibleReason =
  | 'hostNetwork'
  | 'sidecar'
  | 'ownPod'
  | 'excludedNamespace'
  | 'namespaceNotSelected'
  | 'optedOut'
  | 'notLabelled'
  | 'guestKernel'

export type Eligibility =
  | { readonly enrol: true }
  | { readonly enrol: false; readonly reason: IneligibleReason }

export interface EligibilityOptions {
  readonly excludeNamespaces: readonly string[]
  /** Where the mesh's own pods live. */
  readonly systemNamespace: string
  /** By a namespace's labels, whether it is this mesh's to take pods of; undefined: all are. */
  readonly selectsNamespace?: LabelMatcher | undefined
}

export type Labels = Readonly<Record<string, string>>

/** `app` labels of node agents, ours and Istio's: capturing one's own traffic would be a loop. */
const NODE_AGENT_APPS: ReadonlySet<string> = new Set(['ambit-agent', 'ztunnel', 'istio-cni-node'])

/** Runtimes whose containers have no sockets in the pod's namespace on the node: a virtual machine's, or a sandbox's own stack. */
const GUEST_RUNTIMES = /kata|gvisor|runsc|firecracker|cloud-?hypervisor/i
/** What KubeVirt puts on the pod that runs a virtual machine. */
const KUBEVIRT_LABEL = 'kubevirt.io'

export const DEFAULT_ELIGIBILITY: EligibilityOptions = {
  excludeNamespaces: NEVER_ENROLLED_NAMESPACES,
  systemNamespace: 'ambit-system',
}

/** As an agent's flags say. The selector has been read once before: one that cannot be parsed selects nothing. */
export function eligibilityOf(config: {
  readonly podNamespace: string
  readonly namespaceSelector: string
}): EligibilityOptions {
  const { podNamespace, namespaceSelector } = config
  const selector = parseLabelSelector(namespaceSelector)
  return {
    excludeNamespaces: [...new Set([...NEVER_ENROLLED_NAMESPACES, podNamespace])],
    systemNamespace: podNamespace,
    ...(namespaceSelector !== '' && {
      selectsNamespace: selector.ok ? selector.value : () => false,
    }),
  }
}

/** Decides whether a pod is to be enrolled. */
export function eligibility(
  pod: Pod,
  namespaceLabels: Labels,
  options: EligibilityOptions = DEFAULT_ELIGIBILITY,
): Eligibility {
  const namespace = pod.metadata?.namespace ?? ''
  const labels = pod.metadata?.labels ?? {}
  if (pod.spec?.hostNetwork === true) return no('hostNetwork')
  if (pod.metadata?.annotations?.[SIDECAR_ANNOTATION] !== undefined) return no('sidecar')
  if (namespace === options.systemNamespace && NODE_AGENT_APPS.has(labels.app ?? ''))
    return no('ownPod')
  if (options.excludeNamespaces.includes(namespace)) return no('excludedNamespace')
  if (options.selectsNamespace?.(namespaceLabels) === false) return no('namespaceNotSelected')
  const ownMode = labels[DATAPLANE_MODE_LABEL]
  if (ownMode === 'none') return no('optedOut')
  if (ownMode !== 'ambient' && namespaceLabels[DATAPLANE_MODE_LABEL] !== 'ambient')
    return no('notLabelled')
  // Said last: a pod that nobody wants in the mesh has nothing to be told.
  return hasGuestKernel(pod) ? no('guestKernel') : { enrol: true }
}

/**
 * The hooks see sockets of this kernel only. Enrolled, such a pod would send in plaintext, and what peers send it by HBONE
 * would end at the agent.
 */
function hasGuestKernel({ spec, metadata }: Pod): boolean {
  return (
    GUEST_RUNTIMES.test(spec?.runtimeClassName ?? '') ||
    metadata?.labels?.[KUBEVIRT_LABEL] === 'virt-launcher'
  )
}

const no = (reason: IneligibleReason): Eligibility => ({ enrol: false, reason })
