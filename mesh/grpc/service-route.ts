// SPDX-License-Identifier: Apache-2.0
// The way to a Service while the cluster's DNS does not answer: what carries a cluster's traffic must not wait for a pod of the cluster. The
// kubelet tells a pod where the Services of its namespace are that were there before it (Kubernetes: Service, "Environment variables").

import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { formatHostPort, parseHostPort } from '../model/host-port.ts'
import type { Logger } from '../telemetry/log.ts'

export interface ServiceRouteOptions {
  /** The pod's own: of others the kubelet says nothing. */
  readonly namespace: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly logger: Logger
  /** Resolves when the name has an address; tests pass their own. */
  readonly resolve?: (host: string) => Promise<unknown>
}

/** Whom to dial, and the name that the certificate there must bear if that is not the host. */
export interface Dialled {
  readonly address: string
  readonly serverName?: string
}

/** A resolver that is there answers within milliseconds; one that is not keeps getaddrinfo(3) waiting for ten seconds and more. */
const PATIENCE_MS = 1_000

export class ServiceRoute {
  readonly #options: ServiceRouteOptions
  /** One question a name, however many ask: each has a thread of the process waiting. */
  readonly #asking = new Map<string, Promise<boolean>>()
  readonly #told = new Set<string>()

  constructor(options: ServiceRouteOptions) {
    this.#options = options
  }

  /** Where to dial host:port now: by its name where that is known, else by the Service's address. */
  async dial(address: string): Promise<Dialled> {
    const target = parseHostPort(address)
    if (target === undefined || isIP(target.host) !== 0) return { address }
    const { host, port } = target
    const serviceAddress = this.#serviceAddress(host)
    if (serviceAddress === undefined || (await this.#isKnown(host))) {
      this.#told.delete(host)
      return { address }
    }
    const reached = formatHostPort({ host: serviceAddress, port })
    if (!this.#told.has(host))
      this.#options.logger.warn(
        { name: host, address: reached },
        'DNS does not answer: the Service is called by its address',
      )
    this.#told.add(host)
    return { address: reached, serverName: host }
  }

  #serviceAddress(host: string): string | undefined {
    const [service = '', namespace, kind] = host.split('.')
    if (kind !== 'svc' || namespace !== this.#options.namespace) return undefined
    const variable = `${service.toUpperCase().replaceAll('-', '_')}_SERVICE_HOST`
    const value = this.#options.environment[variable] ?? ''
    return isIP(value) === 0 ? undefined : value
  }

  async #isKnown(host: string): Promise<boolean> {
    const { resolve = lookup } = this.#options
    const asking =
      this.#asking.get(host) ??
      resolve(host)
        .then(
          () => true,
          () => false,
        )
        .finally(() => this.#asking.delete(host))
    this.#asking.set(host, asking)
    const waiting = Promise.withResolvers<boolean>()
    const timer = setTimeout(() => waiting.resolve(false), PATIENCE_MS)
    try {
      return await Promise.race([asking, waiting.promise])
    } finally {
      clearTimeout(timer)
    }
  }
}
