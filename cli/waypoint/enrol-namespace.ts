// SPDX-License-Identifier: Apache-2.0
// Binds a namespace to a waypoint of its own, by its label.

import { AmbitError } from '../../mesh/errors.ts'
import { type KubeApi, NAMESPACES } from '../../mesh/kube/index.ts'
import {
  DATAPLANE_MODE_LABEL,
  USE_WAYPOINT_LABEL,
  USE_WAYPOINT_NAMESPACE_LABEL,
} from '../../mesh/model/names.ts'

/** What is to be known of a namespace before it is bound. */
interface NamespaceStanding {
  /** The waypoint that its label names. */
  readonly uses: string | undefined
  readonly isInMesh: boolean
}

/** Reads it. Throws AMB_KUBE_API. */
export async function namespaceStanding(api: KubeApi, name: string): Promise<NamespaceStanding> {
  const found = await api.get(NAMESPACES, { name })
  if (!found.ok) {
    const reason =
      found.error.kind === 'notFound' ? `there is no namespace ${name}` : found.error.message
    throw new AmbitError('AMB_KUBE_API', `Cannot look at namespace ${name}: ${reason}`)
  }
  const { labels = {} } = found.value.metadata ?? {}
  return {
    uses: labels[USE_WAYPOINT_LABEL],
    isInMesh: labels[DATAPLANE_MODE_LABEL] === 'ambient',
  }
}

/** Refuses to take a namespace from the waypoint that it uses, unless that is wanted. Throws AMB_WAYPOINT_TAKEN. */
export function requireFree(
  { uses }: NamespaceStanding,
  {
    namespace,
    waypoint,
    isOverwriting,
  }: { namespace: string; waypoint: string; isOverwriting: boolean },
): void {
  if (uses === undefined || uses === waypoint || isOverwriting) return
  throw new AmbitError(
    'AMB_WAYPOINT_TAKEN',
    `Cannot enrol namespace ${namespace}: its label ${USE_WAYPOINT_LABEL} is "${uses}" already; say --overwrite to take it from there`,
  )
}

/** Sets the label. Throws AMB_KUBE_API. */
export async function enrolNamespace(
  api: KubeApi,
  namespace: string,
  waypoint: string,
): Promise<void> {
  // The waypoint is one of this namespace: a word on another's would lead elsewhere.
  const labels = { [USE_WAYPOINT_LABEL]: waypoint, [USE_WAYPOINT_NAMESPACE_LABEL]: null }
  const patched = await api.patch(NAMESPACES, { name: namespace }, { metadata: { labels } })
  if (!patched.ok) throw new AmbitError('AMB_KUBE_API', patched.error.message)
}
