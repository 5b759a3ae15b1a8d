// SPDX-License-Identifier: Apache-2.0
// What a program counts of its talk with the control plane, by Istio's names.

import { Counter, type Registry } from 'prom-client'

export class DiscoveryCounters {
  readonly #terminations: Counter<'reason'>
  readonly #messages: Counter<'url'>
  readonly #messageBytes: Counter<'url'>

  constructor(registry: Registry) {
    const registers = [registry]
    this.#terminations = new Counter({
      name: 'istio_xds_connection_terminations_total',
      help: 'Streams to the control plane that ended, or could not be had.',
      labelNames: ['reason'],
      registers,
    })
    this.#messages = new Counter({
      name: 'istio_xds_message_total',
      help: 'Responses of the control plane, by type of resource.',
      labelNames: ['url'],
      registers,
    })
    this.#messageBytes = new Counter({
      name: 'istio_xds_message_bytes_total',
      help: 'Bytes of the resources in responses of the control plane.',
      labelNames: ['url'],
      registers,
    })
  }

  /** A stream to the control plane ended. */
  ended(reason: string): void {
    this.#terminations.inc({ reason })
  }

  /** The control plane has told of resources of this type. */
  told(url: string, bytes: number): void {
    this.#messages.inc({ url })
    this.#messageBytes.inc({ url }, bytes)
  }
}
