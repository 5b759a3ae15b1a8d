// SPDX-License-Identifier: Apache-2.0
// Services without an endpoint that is ready.

import { fieldsOf } from '../../../controller/istio-api/flaw.ts'
import { SERVICE_NAME_LABEL } from '../../../mesh/model/names.ts'
import { finding } from '../finding.ts'
import { mapsOf, type RawObject, refOf, textsOf } from '../objects.ts'
import type { Check } from './check.ts'

export const UNREADY_SERVICE: Check = {
  codes: ['AMB501'],
  needs: ['Service', 'Pod', 'EndpointSlice'],
  *run({ services, objects }) {
    const endpoints = new Map<string, { all: number; ready: number }>()
    for (const slice of objects.of('EndpointSlice')) {
      const name = textsOf(fieldsOf(slice.metadata)?.['labels']).get(SERVICE_NAME_LABEL)
      if (name === undefined) continue
      const key = `${refOf('EndpointSlice', slice).namespace}/${name}`
      const counted = endpoints.get(key) ?? { all: 0, ready: 0 }
      endpoints.set(key, counted)
      const states = readiness(slice)
      counted.all += states.length
      counted.ready += states.filter(Boolean).length
    }
    for (const service of services) {
      // One without slices is not in the cluster yet, or somebody else's.
      const counted = endpoints.get(`${service.namespace}/${service.name}`)
      if (service.workloads.length === 0 || counted === undefined || counted.ready > 0) continue
      if (!objects.knows('EndpointSlice', service.namespace)) continue
      yield finding(
        'AMB501',
        service,
        'spec.selector',
        counted.all === 0
          ? 'it has no endpoint: none of the pods selected has an address'
          : `none of its ${counted.all} endpoints is ready`,
      )
    }
  },
}

/** What is not said to be unready is ready, as Kubernetes has it. */
function readiness(slice: RawObject): readonly boolean[] {
  return mapsOf(slice['endpoints']).map(
    ({ conditions }) => fieldsOf(conditions)?.['ready'] !== false,
  )
}
