// SPDX-License-Identifier: Apache-2.0
// Makes the classes of our waypoints where they are not there. `ambit-waypoint` is ours. `istio-waypoint` is Istio's name, which manifests
// written for Istio have: it is made with our controller's name only in a cluster where no class is one of Istio's, for istiod makes its
// classes by itself and has them back at once when they are deleted. A class that is there is never changed: whose it is it says itself.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import type { Collection } from '../../mesh/collections/index.ts'
import { GATEWAY_CLASSES, type KubeApi } from '../../mesh/kube/index.ts'
import { WAYPOINT_CONTROLLER } from '../../mesh/model/names.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { ObjectKey } from '../core/origin.ts'
import type { GatewayClassFacts } from '../gateway-api/gateway-class.ts'

const OWN_CLASS = 'ambit-waypoint'
const ISTIO_CLASS = 'istio-waypoint'
const ISTIO_CONTROLLERS = 'istio.io/'
/** The kind itself may come later, with the Gateway API. */
const RETRIES = { firstMs: 1_000, longestMs: 10_000 }

export interface ClassKeeperOptions {
  readonly classes: Collection<ObjectKey, GatewayClassFacts>
  /** The cluster of `api`. */
  readonly cluster: string
  readonly log: Logger
  /** Ends it. */
  readonly signal: AbortSignal
}

/** The classes that are to be made. Pure. */
export function absentClasses(
  classes: Iterable<Pick<GatewayClassFacts, 'name' | 'controllerName'>>,
): readonly string[] {
  const known = [...classes]
  const isThere = (wanted: string): boolean => known.some(({ name }) => name === wanted)
  const isIstioThere = known.some(({ controllerName }) =>
    controllerName.startsWith(ISTIO_CONTROLLERS),
  )
  return [
    ...(isThere(OWN_CLASS) ? [] : [OWN_CLASS]),
    ...(isThere(ISTIO_CLASS) || isIstioThere ? [] : [ISTIO_CLASS]),
  ]
}

/** Keeps them until the signal aborts. */
export async function keepGatewayClasses(api: KubeApi, options: ClassKeeperOptions): Promise<void> {
  const { classes, cluster, log, signal } = options
  const backoff = new Backoff(RETRIES)
  let changed = Promise.withResolvers<void>()
  const unsubscribe = classes.subscribe(() => changed.resolve())
  const onAbort = (): void => changed.resolve()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    while (!signal.aborted) {
      const wake = changed.promise
      const ofCluster = [...classes.values()].filter((each) => each.cluster === cluster)
      const absent = classes.isSynced ? absentClasses(ofCluster) : []
      let hasFailed = false
      for (const name of absent) {
        const created = await api.create(
          GATEWAY_CLASSES,
          { metadata: { name }, spec: { controllerName: WAYPOINT_CONTROLLER } },
          { signal, fieldManager: OWN_CLASS },
        )
        if (created.ok || created.error.kind === 'alreadyExists') continue
        hasFailed = true
        // A cluster without the Gateway API has no waypoints, and nobody misses them.
        const level = created.error.kind === 'notFound' ? 'debug' : 'warn'
        log[level]({ name, reason: created.error.message }, 'cannot make a GatewayClass')
      }
      if (!hasFailed) backoff.reset()
      await Promise.race([wake, ...(hasFailed ? [delay(backoff.next(), signal)] : [])])
      changed = Promise.withResolvers()
    }
  } finally {
    unsubscribe()
    signal.removeEventListener('abort', onAbort)
  }
}
