// SPDX-License-Identifier: Apache-2.0
// One endpoint is tried for a call: what comes of it is remembered of the endpoint.

import type { Attempt } from '../../mesh/balance/endpoint-experience.ts'
import { isEndpointsFault } from '../../mesh/balance/endpoints-fault.ts'
import type { Carriage } from './carrier.ts'

/** As `carry`; the attempt ends with the call, which knows of it. */
export async function tryOne(attempt: Attempt, carry: () => Promise<Carriage>): Promise<Carriage> {
  try {
    const carriage = await carry()
    if (carriage.kind === 'carried') return carriage
    if (isEndpointsFault(carriage.failure)) attempt.failed(carriage.failure.message)
    attempt.end()
    return carriage
  } catch (thrown) {
    attempt.end()
    throw thrown
  }
}
