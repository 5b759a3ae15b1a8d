// SPDX-License-Identifier: Apache-2.0
// What the agent reads of the objects that enrolment watches. The watches keep this much of each and no more: an agent should
// not pay for managedFields and container statuses of apps, nor for every annotation of every namespace.

import type { Namespace, Pod } from '../../mesh/kube/index.ts'
import {
  OWN_REDIRECTION_ANNOTATION,
  REDIRECTION_ANNOTATION,
  SIDECAR_ANNOTATION,
} from '../../mesh/model/names.ts'

/** The annotations that eligibility, sandbox look-up and redirection read. */
const ANNOTATIONS = [
  SIDECAR_ANNOTATION,
  REDIRECTION_ANNOTATION,
  OWN_REDIRECTION_ANNOTATION,
  'kubernetes.io/config.hash',
  'kubernetes.io/config.mirror',
] as const

/** A Pod with what enrolment reads of it. */
export function seenPod({ metadata, spec, status }: Pod): Pod {
  const annotations: Record<string, string> = {}
  for (const name of ANNOTATIONS) {
    const value = metadata?.annotations?.[name]
    if (value !== undefined) annotations[name] = value
  }
  return {
    metadata: {
      ...defined('uid', metadata?.uid),
      ...defined('namespace', metadata?.namespace),
      ...defined('name', metadata?.name),
      ...defined('labels', metadata?.labels),
      ...defined('creationTimestamp', metadata?.creationTimestamp),
      ...defined('deletionTimestamp', metadata?.deletionTimestamp),
      ...defined('ownerReferences', metadata?.ownerReferences),
      annotations,
    },
    spec: {
      containers: [],
      ...defined('hostNetwork', spec?.hostNetwork),
      ...defined('serviceAccountName', spec?.serviceAccountName),
      ...defined('runtimeClassName', spec?.runtimeClassName),
      ...defined('hostUsers', spec?.hostUsers),
      // Whether an agent that is to follow this one says for itself that it serves.
      ...(spec?.hostNetwork === true && defined('readinessGates', spec.readinessGates)),
    },
    status: {
      ...defined('phase', status?.phase),
      ...defined('podIP', status?.podIP),
      ...defined('podIPs', status?.podIPs),
      // Whether an agent that is to follow this one fails to start: of no other pod is it asked.
      ...(spec?.hostNetwork === true &&
        defined('containerStatuses', status?.containerStatuses?.map(seenContainer))),
    },
  }
}

type ContainerStatus = NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number]

function seenContainer({ name, ready, restartCount, state }: ContainerStatus): ContainerStatus {
  return { name, ready, restartCount, image: '', imageID: '', ...defined('state', state) }
}

/** A Namespace with what enrolment reads of it. */
export function seenNamespace({ metadata }: Namespace): Namespace {
  return {
    metadata: { ...defined('name', metadata?.name), ...defined('labels', metadata?.labels) },
  }
}

function defined<Name extends string, T>(
  name: Name,
  value: T | undefined,
): { readonly [Key in Name]?: T } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [Key in Name]: T })
}
