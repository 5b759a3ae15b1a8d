// SPDX-License-Identifier: Apache-2.0
// Labels that ask for a waypoint which does not exist, which takes nothing now, or which is for other traffic.

import { isOurs, readGatewayClass } from '../../../controller/gateway-api/gateway-class.ts'
import { readGateway } from '../../../controller/gateway-api/gateway.ts'
import {
  DEFAULT_TRAFFIC,
  takes,
  type WaypointTraffic,
} from '../../../controller/gateway-api/waypoint-traffic.ts'
import { fieldsOf } from '../../../controller/istio-api/flaw.ts'
import {
  CANARY,
  namedWaypoint,
  PRIMARY,
  type WaypointLabels,
} from '../../../controller/gateway-api/waypoint-use.ts'
import { WAYPOINT_FOR_LABEL } from '../../../mesh/model/names.ts'
import { type Finding, finding, type ObjectRef, refName } from '../finding.ts'
import { mapsOf, type Objects, type RawObject, refOf, textOf, textsOf } from '../objects.ts'
import type { World } from '../world.ts'
import type { Check } from './check.ts'

/** What of a Gateway decides about those who name it. */
interface GatewayFacts {
  /** Undefined where its class cannot be read, and it does not say itself. */
  readonly traffic: WaypointTraffic | undefined
  /** Why it serves nobody; undefined when it does, or nobody can tell. */
  readonly flaw: string | undefined
}

/** What a label wants of a waypoint. */
interface Wish {
  readonly ref: ObjectRef
  readonly field: string
  readonly labels: ReadonlyMap<string, string>
  /** Which of them name it. */
  readonly by: WaypointLabels
  readonly namespace: string
  /** A namespace wants one for whatever is in it. */
  readonly target: 'service' | 'workload' | 'any'
}

export const MISSING_WAYPOINT: Check = {
  codes: ['AMB107', 'AMB108', 'AMB109'],
  needs: ['Gateway', 'GatewayClass'],
  *run(world) {
    const gateways = readGateways(world.objects)
    for (const wish of wishesOf(world)) yield* judge(world, gateways, wish)
  },
}

function* wishesOf({ objects, services, workloads }: World): Generator<Wish> {
  const field = 'metadata.labels'
  for (const object of objects.of('Namespace')) {
    const ref = refOf('Namespace', object)
    const labels = textsOf(fieldsOf(object.metadata)?.['labels'])
    const wish = { ref, field, labels, namespace: ref.name } as const
    yield { ...wish, by: PRIMARY, target: 'any' }
    yield { ...wish, by: CANARY, target: 'service' }
  }
  for (const service of services) {
    const { labels, namespace } = service
    for (const by of [PRIMARY, CANARY])
      yield { ref: service, field, labels, by, namespace, target: 'service' }
  }
  for (const workload of workloads) {
    const { labels, namespace, kind } = workload
    const place = kind === 'Pod' ? field : 'spec.template.metadata.labels'
    yield { ref: workload, field: place, labels, by: PRIMARY, namespace, target: 'workload' }
  }
}

function* judge(
  { has }: World,
  gateways: ReadonlyMap<string, GatewayFacts>,
  { ref, field: labelsField, labels, by, namespace: own, target }: Wish,
): Generator<Finding> {
  const wanted = namedWaypoint(labels, by, own)
  if (wanted === undefined || wanted === 'none') return
  const { namespace, name } = wanted
  const field = `${labelsField}[${by.name}]`
  const named = `Gateway ${namespace}/${name}`
  if (has('Gateway', namespace, name) === false) {
    yield finding('AMB107', ref, field, `there is no ${named}`)
    return
  }
  const gateway = gateways.get(refName({ namespace, name }))
  if (gateway === undefined) return
  const { flaw, traffic } = gateway
  if (flaw !== undefined) yield finding('AMB108', ref, field, `${named} ${flaw}`)
  if (traffic === undefined || isFor(traffic, target)) return
  const whom = target === 'any' ? 'anything' : `traffic to ${target}s`
  const word = `its ${WAYPOINT_FOR_LABEL} is ${traffic}`
  yield finding('AMB109', ref, field, `${named} is not for ${whom}: ${word}`)
}

function isFor(traffic: WaypointTraffic, target: Wish['target']): boolean {
  return target === 'any' ? traffic !== 'none' : takes(traffic, target)
}

/** By `namespace/name`. */
function readGateways(objects: Objects): ReadonlyMap<string, GatewayFacts> {
  const origin = { cluster: '', clusterDomain: '' }
  const classes = new Map(
    objects.of('GatewayClass').flatMap((object) => {
      const { facts } = readGatewayClass(object, origin)
      return facts === undefined ? [] : [[facts.name, facts] as const]
    }),
  )
  return new Map(
    objects.of('Gateway').flatMap((object) => {
      const { facts } = readGateway(object, origin)
      if (facts === undefined) return []
      const itsClass = classes.get(facts.className)
      const isForeign = itsClass !== undefined && !isOurs(itsClass)
      // The controller makes its classes, so that one of which there is nothing may come with the mesh.
      const isSaidByClass = itsClass !== undefined || objects.knows('GatewayClass')
      const byClass = isSaidByClass ? (itsClass?.traffic ?? DEFAULT_TRAFFIC) : undefined
      const flaw = isForeign
        ? `is of class ${facts.className}, which is not the mesh's`
        : notProgrammed(object)
      const traffic = isForeign ? undefined : (facts.traffic ?? byClass)
      return [[refName(facts), { traffic, flaw }] as const]
    }),
  )
}

/** What its status says of it; nothing where nobody has written one, as of what is still a file. */
function notProgrammed({ status }: RawObject): string | undefined {
  const conditions = mapsOf(fieldsOf(status)?.['conditions'])
  const programmed = conditions.find(({ type }) => type === 'Programmed')
  if (programmed === undefined || programmed['status'] === 'True') return undefined
  const { reason, message } = programmed
  return `is not Programmed: ${textOf(message) || textOf(reason) || 'no reason is given'}`
}
