// SPDX-License-Identifier: Apache-2.0
// Webhooks and aggregated APIs whose pods refuse the API server, which has no identity of the mesh.

import { fieldsOf } from '../../../controller/istio-api/flaw.ts'
import { type Finding, finding, type ObjectRef } from '../finding.ts'
import { mapsOf, refOf, textOf } from '../objects.ts'
import type { ServiceFacts } from '../services.ts'
import type { World } from '../world.ts'
import type { Check } from './check.ts'
import { isStrictPort, strictBy } from './strict.ts'

/** Where neither says it. */
const HTTPS_PORT = 443

export const STRICT_WEBHOOK: Check = {
  codes: ['AMB402'],
  needs: [
    'Namespace',
    'Pod',
    'Service',
    'PeerAuthentication',
    'MutatingWebhookConfiguration',
    'ValidatingWebhookConfiguration',
    'APIService',
  ],
  *run(world) {
    const { objects, services } = world
    const byName = new Map(services.map((each) => [`${each.namespace}/${each.name}`, each]))
    for (const kind of ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'] as const)
      for (const object of objects.of(kind))
        for (const [at, { clientConfig }] of mapsOf(object['webhooks']).entries())
          yield* refused(
            world,
            byName,
            refOf(kind, object),
            `webhooks[${at}].clientConfig.service`,
            fieldsOf(clientConfig)?.['service'],
          )
    for (const object of objects.of('APIService'))
      yield* refused(
        world,
        byName,
        refOf('APIService', object),
        'spec.service',
        fieldsOf(object.spec)?.['service'],
      )
  },
}

function* refused(
  world: World,
  services: ReadonlyMap<string, ServiceFacts>,
  ref: ObjectRef,
  field: string,
  backend: unknown,
): Generator<Finding> {
  const { namespace, name, port = HTTPS_PORT } = fieldsOf(backend) ?? {}
  const key = `${textOf(namespace)}/${textOf(name)}`
  const service = services.get(key)
  const servicePort = service?.ports.find((each) => each.port === port)
  if (service === undefined || servicePort === undefined) return
  if (isStrictPort(world, service, servicePort))
    yield finding(
      'AMB402',
      ref,
      field,
      `the pods of Service ${key} refuse the API server at port ${servicePort.port}, by ${strictBy(world, service)}`,
    )
}
