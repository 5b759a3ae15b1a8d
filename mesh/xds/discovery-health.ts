// SPDX-License-Identifier: Apache-2.0
// How a process stands with the control plane, for the admin API.

import type { XdsConnectionState } from './client.ts'
import type { HeldResources } from './digest.ts'

export interface DiscoveryReport {
  readonly address: string
  readonly state: XdsConnectionState['kind']
  /** When it became so. */
  readonly since: string
  /** Why there is no connection. */
  readonly reason?: string
  /** Whether everything has been told once. */
  readonly isSynced: boolean
  readonly resources: Readonly<Record<string, HeldResources>>
}

/** What the discovery client tells of itself. */
export interface DiscoveryReporter {
  readonly isSynced: boolean
  held(): Readonly<Record<string, HeldResources>>
}

export class DiscoveryHealth {
  readonly #address: string
  #state: XdsConnectionState = { kind: 'connecting' }
  #since = new Date()
  #client: DiscoveryReporter | undefined

  constructor(address: string) {
    this.#address = address
  }

  /** The client that is asked for what it holds. */
  of(client: DiscoveryReporter): void {
    this.#client = client
  }

  /** A change of its connection; attempts that fail one after the other are one outage. */
  noted(state: XdsConnectionState): void {
    const isOutage = (kind: XdsConnectionState['kind']): boolean => kind !== 'connected'
    if (isOutage(state.kind) !== isOutage(this.#state.kind)) this.#since = new Date()
    if (state.kind === 'connecting' && this.#state.kind === 'disconnected') return
    this.#state = state
  }

  report(): DiscoveryReport {
    return {
      address: this.#address,
      state: this.#state.kind,
      since: this.#since.toISOString(),
      ...(this.#state.kind === 'disconnected' ? { reason: this.#state.reason } : {}),
      isSynced: this.#client?.isSynced ?? false,
      resources: this.#client?.held() ?? {},
    }
  }
}
