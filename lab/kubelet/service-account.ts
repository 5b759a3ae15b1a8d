// SPDX-License-Identifier: Apache-2.0
// Gives a pod the volume with its service account's token, as the ServiceAccount admission of a real API server
// would: pure. Here the kubelet does it, so that stored pods stay as their authors wrote them.

import type { Pod } from '../../mesh/kube/resources.ts'
import type { Container } from './environment.ts'

const SERVICE_ACCOUNT_MOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

const VOLUME = 'kube-api-access'
/** What Kubernetes asks for: an hour and a few seconds, by which it knows its own requests. */
const TOKEN_SECONDS = 3607

/** The pod with that volume mounted into each container that has nothing else in its place. */
export function withServiceAccountVolume(pod: Pod): Pod {
  const { spec } = pod
  if (spec === undefined || spec.automountServiceAccountToken === false) return pod
  let isMissing = false
  const mount = (container: Container): Container => {
    const mounts = container.volumeMounts ?? []
    if (mounts.some((each) => each.mountPath === SERVICE_ACCOUNT_MOUNT)) return container
    const added = { name: VOLUME, mountPath: SERVICE_ACCOUNT_MOUNT, readOnly: true }
    isMissing = true
    return { ...container, volumeMounts: [...mounts, added] }
  }
  const containers = spec.containers.map(mount)
  const initContainers = spec.initContainers?.map(mount)
  // A real API server has done all this at admission.
  if (!isMissing) return pod
  const volume = {
    name: VOLUME,
    projected: {
      sources: [
        { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
        { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
        {
          downwardAPI: {
            items: [{ path: 'namespace', fieldRef: { fieldPath: 'metadata.namespace' } }],
          },
        },
      ],
    },
  }
  return {
    ...pod,
    spec: {
      ...spec,
      volumes: [...(spec.volumes ?? []), volume],
      containers,
      ...(initContainers === undefined ? {} : { initContainers }),
    },
  }
}
