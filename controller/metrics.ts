// SPDX-License-Identifier: Apache-2.0
// What the controller counts about itself.

import { Counter, Gauge, Registry, collectDefaultMetrics } from 'prom-client'

export interface ControllerMetrics {
  readonly registry: Registry
  certificateOutcome(outcome: string): void
  rootWritten(): void
  setLeader(isLeader: boolean): void
  setRootExpiry(notAfter: Date): void
}

/** Makes the metrics in a registry of their own, so that two controllers in one process do not clash. */
export function createMetrics(): ControllerMetrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const certificates = new Counter({
    name: 'ambit_controller_certificate_requests_total',
    help: 'Certificate requests by outcome: issued, or why refused.',
    labelNames: ['outcome'],
    registers: [registry],
  })
  const rootWrites = new Counter({
    name: 'ambit_controller_root_config_map_writes_total',
    help: 'Times the root was written into a namespace.',
    registers: [registry],
  })
  const leader = new Gauge({
    name: 'ambit_controller_is_leader',
    help: '1 on the replica that writes.',
    registers: [registry],
  })
  const rootExpiry = new Gauge({
    name: 'ambit_controller_root_not_after_seconds',
    help: 'When the root expires, in seconds since the epoch.',
    registers: [registry],
  })
  return {
    registry,
    certificateOutcome: (outcome) => certificates.inc({ outcome }),
    rootWritten: () => rootWrites.inc(),
    setLeader: (isLeader) => leader.set(isLeader ? 1 : 0),
    setRootExpiry: (notAfter) => rootExpiry.set(notAfter.getTime() / 1000),
  }
}
