// SPDX-License-Identifier: Apache-2.0
// What the controller makes by itself, beside its chart, and leaves when it is taken away. Waypoints' objects are their Gateways'.

import {
  CERTIFICATE_SIGNING_REQUESTS,
  CLUSTER_TRUST_BUNDLES,
  CONFIG_MAPS,
  GATEWAY_CLASSES,
  type KubeApi,
  type KubeFailure,
  LEASES,
  type KubeResource,
  type ObjectName,
  SECRETS,
} from '../../mesh/kube/index.ts'
import { ROOT_LABEL, WAYPOINT_CONTROLLER } from '../../mesh/model/names.ts'
import type { Result } from '../../mesh/result.ts'
import { kubeError } from '../cluster/kube-reads.ts'

/** An object that is there. */
export interface MadeObject {
  readonly title: string
  readonly resource: KubeResource
  readonly target: ObjectName
}

/** What of it bears our mark anywhere in the cluster, whichever installation made it. Throws AMB_KUBE_API. */
export async function markedObjects(api: KubeApi): Promise<readonly MadeObject[]> {
  // By our label: by their name they might be another mesh's.
  const roots = must(await api.list(CONFIG_MAPS, { labelSelector: ROOT_LABEL }))
  const made: MadeObject[] = roots.items.map(
    ({ metadata: { namespace = '', name = '' } = {} }) => ({
      title: `ConfigMap ${namespace}/${name}`,
      resource: CONFIG_MAPS,
      target: { namespace, name },
    }),
  )
  for (const resource of CLUSTER_TRUST_BUNDLES) {
    const bundles = await api.list(resource, { labelSelector: ROOT_LABEL })
    if (!bundles.ok && bundles.error.kind === 'notFound') continue
    for (const { metadata: { name = '' } = {} } of must(bundles).items)
      made.push({ title: `ClusterTrustBundle ${name}`, resource, target: { name } })
    break
  }
  const classes = await api.list(GATEWAY_CLASSES)
  for (const { metadata: { name = '' } = {}, spec } of classes.ok ? classes.value.items : []) {
    const { controllerName } = (spec ?? {}) as { readonly controllerName?: unknown }
    if (controllerName === WAYPOINT_CONTROLLER)
      made.push({ title: `GatewayClass ${name}`, resource: GATEWAY_CLASSES, target: { name } })
  }
  return made
}

/** All of it, what the controller had under way when it was ended, too. Throws AMB_KUBE_API. */
export async function madeObjects(
  api: KubeApi,
  { namespace, caSecret }: { readonly namespace: string; readonly caSecret: string },
): Promise<readonly MadeObject[]> {
  const made = [...(await markedObjects(api))]
  const requests = await api.list(CERTIFICATE_SIGNING_REQUESTS, {
    labelSelector: 'app.kubernetes.io/managed-by=ambit-controller',
  })
  for (const { metadata: { name = '' } = {} } of requests.ok ? requests.value.items : [])
    made.push({
      title: `CertificateSigningRequest ${name}`,
      resource: CERTIFICATE_SIGNING_REQUESTS,
      target: { name },
    })
  for (const [resource, name] of [
    [SECRETS, caSecret],
    [LEASES, 'ambit-controller'],
  ] as const) {
    const found = await api.get(resource, { namespace, name })
    if (found.ok)
      made.push({
        title: `${resource.kind} ${namespace}/${name}`,
        resource,
        target: { namespace, name },
      })
    else if (found.error.kind !== 'notFound') throw kubeError(found.error)
  }
  return made
}

function must<T>(result: Result<T, KubeFailure>): T {
  if (result.ok) return result.value
  throw kubeError(result.error)
}
