// SPDX-License-Identifier: Apache-2.0
// Canaries of waypoints that take nothing whatever Gateways there are: beside no waypoint, beside themselves, or with a share that is none.

import {
  CANARY,
  canaryShare,
  namedWaypoint,
  PRIMARY,
} from '../../../controller/gateway-api/waypoint-use.ts'
import { fieldsOf } from '../../../controller/istio-api/flaw.ts'
import { CANARY_WAYPOINT_WEIGHT } from '../../../mesh/model/names.ts'
import { type Finding, finding, type ObjectRef, refName } from '../finding.ts'
import { type RawObject, refOf, textsOf } from '../objects.ts'
import type { Check } from './check.ts'

/** What an object says of waypoints, with what its namespace says where it names none itself. */
interface Said {
  readonly ref: ObjectRef
  readonly namespace: string
  readonly labels: ReadonlyMap<string, string>
  readonly annotations: ReadonlyMap<string, string>
  readonly around: ReadonlyMap<string, string>
}

export const CANARY_WAYPOINT: Check = {
  codes: ['AMB114'],
  needs: [],
  *run({ objects }) {
    const namespaces = objects.of('Namespace')
    const around = new Map(
      namespaces.map((each) => [refOf('Namespace', each).name, labelsOf(each)]),
    )
    for (const object of namespaces) {
      const ref = refOf('Namespace', object)
      yield* judge(said(ref, ref.name, object, new Map()))
    }
    for (const object of objects.of('Service')) {
      const ref = refOf('Service', object)
      const { namespace } = ref
      yield* judge(said(ref, namespace, object, around.get(namespace) ?? new Map()))
    }
  },
}

function* judge({ ref, namespace, labels, annotations, around }: Said): Generator<Finding> {
  const share = annotations.get(CANARY_WAYPOINT_WEIGHT)
  if (canaryShare(share) === undefined)
    yield finding(
      'AMB114',
      ref,
      `metadata.annotations[${CANARY_WAYPOINT_WEIGHT}]`,
      `"${share}" is no whole number from 0 to 100`,
    )
  const canary = namedWaypoint(labels, CANARY, namespace) ?? 'none'
  if (canary === 'none') return
  const field = `metadata.labels[${CANARY.name}]`
  const beside =
    namedWaypoint(labels, PRIMARY, namespace) ?? namedWaypoint(around, PRIMARY, namespace) ?? 'none'
  if (beside === 'none') yield finding('AMB114', ref, field, 'no waypoint is named beside it')
  else if (refName(beside) === refName(canary))
    yield finding(
      'AMB114',
      ref,
      field,
      `Gateway ${refName(canary)} is the waypoint that it stands beside`,
    )
}

function said(
  ref: ObjectRef,
  namespace: string,
  object: RawObject,
  around: ReadonlyMap<string, string>,
): Said {
  const annotations = textsOf(fieldsOf(object.metadata)?.['annotations'])
  return { ref, namespace, labels: labelsOf(object), annotations, around }
}

function labelsOf({ metadata }: RawObject): ReadonlyMap<string, string> {
  return textsOf(fieldsOf(metadata)?.['labels'])
}
