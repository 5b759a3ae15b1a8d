// SPDX-License-Identifier: Apache-2.0
// The objects of a waypoint, from its Gateway: an account, a Service in front of its pods, their Deployment, and a PodDisruptionBudget
// where there are several of them. An overlay changes what it names; an autoscaler there is only if an overlay has one. Pure.

import { GATEWAY_CLASS_LABEL, GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { type Fields, fieldsOf } from '../istio-api/flaw.ts'
import { MANAGED_BY, MANAGED_KINDS, MANAGED_LABEL } from './managed-object.ts'
import type { ManagedKind, ManagedObject, ProvisionFlaw } from './managed-object.ts'
import { type Overlay, overlaid } from './overlay.ts'
import { podTemplate, type ProvisionSettings } from './pod-template.ts'
import type { WaypointOrder } from './waypoint-order.ts'

/** A label's value, and a Service's name (RFC 1035). */
const LONGEST_NAME = 63
const SERVICE_NAME = /^[a-z](?:[-a-z0-9]*[a-z0-9])?$/
/** Of pods, one at a time: the others stay while a node is emptied. */
const MOST_UNAVAILABLE = 1

/** The objects, in the order in which they are to be made. */
export function desiredObjects(
  order: WaypointOrder,
  settings: ProvisionSettings,
  overlay: Overlay,
): Result<readonly ManagedObject[], ProvisionFlaw> {
  const { namespace, name } = order
  if (name.length > LONGEST_NAME || !SERVICE_NAME.test(name))
    return err({
      object: `Gateway ${namespace}/${name}`,
      field: 'metadata.name',
      reason: `a waypoint's Service has its name, so it has to be a DNS label of at most ${LONGEST_NAME} characters that begins with a letter`,
    })
  const objects: ManagedObject[] = []
  const add = (kind: ManagedKind, content: Fields): ProvisionFlaw | undefined => {
    const made = overlaid(kind, { ...head(order, kind), ...content }, overlay[kind])
    if (!made.ok) return made.error
    objects.push({ kind, object: made.value })
    return undefined
  }
  const scales = overlay.horizontalPodAutoscaler !== undefined
  const flaw =
    add('serviceAccount', {}) ??
    add('service', { spec: serviceSpec(name) }) ??
    add('deployment', { spec: deploymentSpec(order, settings, scales) })
  if (flaw !== undefined) return err(flaw)
  const selector = { matchLabels: { [GATEWAY_NAME_LABEL]: name } }
  // The two bounds of a budget exclude each other.
  const asked = fieldsOf(overlay.podDisruptionBudget?.['spec'])?.['minAvailable']
  const bound = asked === undefined ? { maxUnavailable: MOST_UNAVAILABLE } : {}
  const isSeveral = scales || replicasOf(objects) > 1
  const rest =
    (isSeveral || overlay.podDisruptionBudget !== undefined
      ? add('podDisruptionBudget', { spec: { ...bound, selector } })
      : undefined) ??
    (scales
      ? add('horizontalPodAutoscaler', { spec: { scaleTargetRef: target(name) } })
      : undefined)
  return rest === undefined ? ok(objects) : err(rest)
}

const target = (name: string): Fields => ({ apiVersion: 'apps/v1', kind: 'Deployment', name })

function head(order: WaypointOrder, kind: ManagedKind): Fields {
  const { namespace, name, uid, className, infrastructure } = order
  const { group, version, kind: objectKind } = MANAGED_KINDS[kind]
  return {
    apiVersion: group === '' ? version : `${group}/${version}`,
    kind: objectKind,
    metadata: {
      name,
      namespace,
      labels: {
        ...Object.fromEntries(infrastructure.labels),
        [GATEWAY_NAME_LABEL]: name,
        [GATEWAY_CLASS_LABEL]: className,
        [MANAGED_LABEL]: MANAGED_BY,
      },
      annotations: Object.fromEntries(infrastructure.annotations),
      // Garbage collection takes it when the Gateway goes.
      ownerReferences: [
        {
          apiVersion: 'gateway.networking.k8s.io/v1',
          kind: 'Gateway',
          name,
          uid,
          controller: true,
        },
      ],
    },
  }
}

function serviceSpec(name: string): Fields {
  const port = (portName: string, number: number): Fields => ({
    name: portName,
    port: number,
    targetPort: number,
    protocol: 'TCP',
  })
  return {
    type: 'ClusterIP',
    ipFamilyPolicy: 'PreferDualStack',
    selector: { [GATEWAY_NAME_LABEL]: name },
    ports: [port('hbone', 15_008), port('status', 15_021)],
  }
}

function deploymentSpec(
  order: WaypointOrder,
  settings: ProvisionSettings,
  scales: boolean,
): Fields {
  return {
    // An autoscaler has the number to itself.
    ...(scales ? {} : { replicas: 1 }),
    selector: { matchLabels: { [GATEWAY_NAME_LABEL]: order.name } },
    // A new pod is ready before an old one goes: there may be but one.
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
    template: podTemplate(order, settings),
  }
}

function replicasOf(objects: readonly ManagedObject[]): number {
  const deployment = objects.find(({ kind }) => kind === 'deployment')
  return Number(fieldsOf(deployment?.object['spec'])?.['replicas'] ?? 1)
}
