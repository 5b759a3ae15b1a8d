// SPDX-License-Identifier: Apache-2.0
// Waits until a waypoint is programmed: the controller has made it and a pod of it is ready.

import { AmbitError } from '../../mesh/errors.ts'
import { GATEWAYS, type KubeApi, watchResource } from '../../mesh/kube/index.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import {
  isProgrammed,
  waypointReport,
  whyNotProgrammed,
  type WaypointReport,
} from './waypoint-report.ts'

/** Resolves with what its Gateway says then. Throws AMB_WAYPOINT_NOT_READY with what it says at the end of the time. */
export async function awaitProgrammed(
  api: KubeApi,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  timeoutMs: number,
): Promise<WaypointReport> {
  const { promise, resolve } = Promise.withResolvers<WaypointReport>()
  let last: WaypointReport | undefined
  const look = (report: WaypointReport): void => {
    last = report
    if (isProgrammed(report)) resolve(report)
  }
  const watch = watchResource(api, GATEWAYS, {
    namespace,
    fieldSelector: `metadata.name=${name}`,
    logger: createLogger('waypoint', 'silent'),
    keep: waypointReport,
    added: look,
    updated: (_previous, current) => look(current),
    deleted: () => {
      last = undefined
    },
  })
  const late = AbortSignal.timeout(timeoutMs)
  const expired = new Promise<undefined>((settle) => {
    late.addEventListener('abort', () => settle(undefined), { once: true })
  })
  try {
    const programmed = await Promise.race([promise, expired])
    if (programmed !== undefined) return programmed
    const why = last === undefined ? 'there is no such Gateway' : whyNotProgrammed(last)
    throw new AmbitError(
      'AMB_WAYPOINT_NOT_READY',
      `Waypoint ${namespace}/${name} is not ready after ${Math.round(timeoutMs / 1000)} s: ${why}`,
    )
  } finally {
    await watch.close()
  }
}
