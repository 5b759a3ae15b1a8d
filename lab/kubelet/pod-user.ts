// SPDX-License-Identifier: Apache-2.0
// Whom a pod's containers run as, and whose the token files of the pod are for that: pure.

import type { Pod } from '../../mesh/kube/resources.ts'
import type { Container } from './environment.ts'
import type { ContainerUser } from './start-script.ts'

/** A token file's mode and owner. */
export interface FileAccess {
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** Users that a container without runAsUser and runAsGroup has: those of the image `host`. */
const ROOT = 0

/** The user of a container by its own security context and its pod's. */
export function containerUser(pod: Pod, container: Container): ContainerUser {
  const ofPod = pod.spec?.securityContext
  const { runAsUser, runAsGroup } = { ...ofPod, ...container.securityContext }
  const { fsGroup, supplementalGroups = [] } = ofPod ?? {}
  return {
    user: runAsUser,
    group: runAsGroup,
    groups: [...(fsGroup === undefined ? [] : [fsGroup]), ...supplementalGroups],
  }
}

/**
 * Who may read the tokens of a pod, as the kubelet sees to it: the one user that all of its containers run as, or the
 * members of fsGroup. Containers of several users share their files only if everyone of the pod may read them (`mode`
 * then is what the volume asks for); the directories above keep others out.
 */
export function tokenAccess(pod: Pod, mode: number): FileAccess {
  const containers = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])]
  const users = new Set(containers.map((each) => containerUser(pod, each).user ?? ROOT))
  const [uid = ROOT] = users
  const fsGroup = pod.spec?.securityContext?.fsGroup
  if (fsGroup !== undefined) {
    return { mode: 0o640, uid: users.size === 1 ? uid : ROOT, gid: fsGroup }
  }
  return users.size <= 1 ? { mode: 0o600, uid, gid: ROOT } : { mode, uid: ROOT, gid: ROOT }
}
