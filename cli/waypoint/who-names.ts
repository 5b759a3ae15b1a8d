// SPDX-License-Identifier: Apache-2.0
// Who still names waypoints that are gone, by the labels of namespaces, Services and pods: bound means enforced, so that their traffic is
// refused until somebody takes the labels away. What may not be looked at is said, and not taken for nothing.

import {
  type KubeApi,
  type KubeFailure,
  type KubeList,
  type KubeObject,
  type KubeResource,
  NAMESPACES,
  PODS,
  SERVICES,
} from '../../mesh/kube/index.ts'
import {
  CANARY_WAYPOINT_LABEL,
  CANARY_WAYPOINT_NAMESPACE_LABEL,
  FAIL_OPEN_ANNOTATION,
  USE_WAYPOINT_LABEL,
  USE_WAYPOINT_NAMESPACE_LABEL,
} from '../../mesh/model/names.ts'
import type { Result } from '../../mesh/result.ts'

/** Of one kind and namespace so many are named; of the others their number is told. */
const MOST_NAMED = 10

interface Labels {
  readonly name: string
  readonly namespace: string
  readonly isCanary: boolean
}

const PRIMARY: Labels = {
  name: USE_WAYPOINT_LABEL,
  namespace: USE_WAYPOINT_NAMESPACE_LABEL,
  isCanary: false,
}
const CANARY: Labels = {
  name: CANARY_WAYPOINT_LABEL,
  namespace: CANARY_WAYPOINT_NAMESPACE_LABEL,
  isCanary: true,
}

/** What of an object is looked at. */
interface Labelled {
  readonly name: string
  /** Its own where it is a namespace. */
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
  readonly failOpen: string | undefined
}

interface Kind {
  readonly word: 'namespace' | 'service' | 'pod'
  readonly list: (
    api: KubeApi,
    labelSelector: string,
  ) => Promise<Result<KubeList<Labelled>, KubeFailure>>
  readonly by: readonly Labels[]
}

const KINDS: readonly Kind[] = [
  { word: 'namespace', list: listing(NAMESPACES), by: [PRIMARY, CANARY] },
  { word: 'service', list: listing(SERVICES), by: [PRIMARY, CANARY] },
  { word: 'pod', list: listing(PODS), by: [PRIMARY] },
]

/** Says, a line each, who names one of these waypoints of a namespace, what comes of it, and what to do. */
export async function whoStillNames(
  api: KubeApi,
  namespace: string,
  waypoints: readonly string[],
): Promise<readonly string[]> {
  if (waypoints.length === 0) return []
  const lines: string[] = []
  const isOpen = failOpenOf(api)
  for (const { word, list, by } of KINDS)
    for (const labels of by) {
      const found = await list(api, `${labels.name} in (${waypoints.join(',')})`)
      if (!found.ok) {
        lines.push(
          `which ${word}s still name it by ${labels.name} cannot be looked at: ${found.error.message}`,
        )
        continue
      }
      const naming = found.value.items.filter(
        (each) => (each.labels[labels.namespace] || each.namespace) === namespace,
      )
      lines.push(...(await linesOf({ word, labels, waypointNamespace: namespace }, naming, isOpen)))
    }
  return lines
}

interface Named {
  readonly word: Kind['word']
  readonly labels: Labels
  readonly waypointNamespace: string
}

async function linesOf(
  named: Named,
  naming: readonly Labelled[],
  isOpen: (each: Labelled) => Promise<boolean>,
): Promise<readonly string[]> {
  const lines: string[] = []
  for (const each of naming.slice(0, MOST_NAMED))
    lines.push(lineOf(named, each, await isOpen(each)))
  const others = naming.length - MOST_NAMED
  if (others > 0) lines.push(`${others} more ${named.word}s do so`)
  return lines
}

function lineOf(
  { word, labels, waypointNamespace }: Named,
  { name, namespace, labels: own }: Labelled,
  isOpen: boolean,
): string {
  const isOfNamespace = word === 'namespace'
  const waypoint = own[labels.name] ?? ''
  const shown = namespace === waypointNamespace ? waypoint : `${waypointNamespace}/${waypoint}`
  const who = isOfNamespace ? `namespace ${name}` : `${word} ${namespace}/${name}`
  const what = labels.isCanary
    ? `still has waypoint ${shown} for a canary, which takes nothing any more`
    : `still uses waypoint ${shown}, so that its traffic ${isOpen ? 'passes without one' : 'is refused'}`
  const remedy =
    word === 'pod'
      ? `take the label ${labels.name} from it, and from the template that it is made of`
      : `kubectl label ${word}${isOfNamespace ? '' : ` -n ${namespace}`} ${name} ${labels.name}-`
  return `${who} ${what}: ${remedy}`
}

/** Whether traffic passes a waypoint that is not there: as the object says, or else its namespace. */
function failOpenOf(api: KubeApi): (each: Labelled) => Promise<boolean> {
  const around = new Map<string, Promise<string | undefined>>()
  const ofNamespace = async (name: string): Promise<string | undefined> => {
    const found = await api.get(NAMESPACES, { name })
    // Of one that cannot be read the worse is believed.
    return found.ok ? found.value.metadata?.annotations?.[FAIL_OPEN_ANNOTATION] : undefined
  }
  return async ({ namespace, failOpen }) => {
    if (failOpen !== undefined) return failOpen === 'true'
    const known = around.get(namespace) ?? ofNamespace(namespace)
    around.set(namespace, known)
    return (await known) === 'true'
  }
}

function listing<T extends KubeObject>(resource: KubeResource<T>): Kind['list'] {
  return (api, labelSelector) => api.list(resource, { labelSelector, keep: labelled })
}

function labelled({ metadata }: KubeObject): Labelled {
  const { name = '', namespace = name, labels = {}, annotations } = metadata ?? {}
  return { name, namespace, labels, failOpen: annotations?.[FAIL_OPEN_ANNOTATION] }
}
