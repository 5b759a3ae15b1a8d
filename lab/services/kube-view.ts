// SPDX-License-Identifier: Apache-2.0
// Reads the few fields of Services and EndpointSlices that cluster DNS and the service proxy need, and keeps
// them current from a watch. Fields that are missing or of another type read as empty: the API server
// has validated the objects, and neither reader may fall over one that it let through.

import { isIP } from 'node:net'
import type { ClusterApi, WatchEvent } from '../kubernetes/objects/cluster-api.ts'
import type { StoredObject } from '../kubernetes/objects/stored-object.ts'

export interface ServicePort {
  readonly name: string
  readonly protocol: string
  readonly port: number
}

export interface ServedPort extends ServicePort {
  readonly nodePort: number | undefined
}

export interface ServiceView {
  readonly namespace: string
  readonly name: string
  /** Empty for headless services and those of type ExternalName. */
  readonly clusterIps: readonly string[]
  /** External IPs and those of load balancers that hand packets on as they are. */
  readonly externalIps: readonly string[]
  readonly isHeadless: boolean
  readonly externalName: string | undefined
  readonly publishNotReady: boolean
  /** sessionAffinity: ClientIP. */
  readonly isSticky: boolean
  /** internalTrafficPolicy: Local, and externalTrafficPolicy: Local. */
  readonly isLocalInside: boolean
  readonly isLocalOutside: boolean
  readonly ports: readonly ServedPort[]
}

export interface EndpointView {
  readonly addresses: readonly string[]
  readonly hostname: string | undefined
  readonly isReady: boolean
  readonly isServing: boolean
  readonly isTerminating: boolean
  readonly node: string | undefined
}

export interface SliceView {
  readonly namespace: string
  readonly service: string
  readonly family: 'IPv4' | 'IPv6'
  readonly ports: readonly ServicePort[]
  readonly endpoints: readonly EndpointView[]
}

interface Fields {
  readonly [field: string]: unknown
}

/** The fields of an object; none of anything else. */
export const fieldsOf = (value: unknown): Fields =>
  typeof value === 'object' && value !== null ? (value as Fields) : {}
/** A list as it is; anything else is an empty one. */
export const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
/** A text that says something. */
export const textOf = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined
/** An IP address. Nobody may have looked: it must not become a word of a ruleset if it is none. */
export const ipOf = (value: unknown): string | undefined => {
  const text = textOf(value)
  return text === undefined || isIP(text) === 0 ? undefined : text
}
/** A port that is in use: 0 stands for none. */
export const portNumberOf = (value: unknown): number | undefined =>
  typeof value === 'number' && value > 0 ? value : undefined

function portsOf(value: unknown): readonly ServicePort[] {
  return listOf(value).flatMap((item) => {
    const { name, protocol, port } = fieldsOf(item)
    if (typeof port !== 'number') return []
    return [{ name: textOf(name) ?? '', protocol: textOf(protocol) ?? 'TCP', port }]
  })
}

function servedPorts(value: unknown): readonly ServedPort[] {
  return listOf(value).flatMap((item) =>
    portsOf([item]).map((port) => ({
      ...port,
      nodePort: portNumberOf(fieldsOf(item)['nodePort']),
    })),
  )
}

/** What a load balancer is reached by; one that is a proxy (ipMode) is to see the connections itself. */
function ingressIps(status: unknown): readonly string[] {
  const { ingress } = fieldsOf(fieldsOf(status)['loadBalancer'])
  return listOf(ingress).flatMap((item) => {
    const { ip, ipMode } = fieldsOf(item)
    return ipMode === 'Proxy' ? [] : (ipOf(ip) ?? [])
  })
}

/** Reads a Service. */
function serviceView(object: StoredObject): ServiceView {
  const spec = fieldsOf(object.spec)
  const clusterIps = [...new Set([spec['clusterIP'], ...listOf(spec['clusterIPs'])])].flatMap(
    (ip) => textOf(ip) ?? [],
  )
  const isExternal = spec['type'] === 'ExternalName'
  return {
    namespace: object.metadata.namespace ?? 'default',
    name: object.metadata.name,
    clusterIps: isExternal ? [] : clusterIps.filter((ip) => ip !== 'None'),
    externalIps: isExternal
      ? []
      : [
          ...new Set([
            ...listOf(spec['externalIPs']).flatMap((ip) => ipOf(ip) ?? []),
            ...ingressIps(object.status),
          ]),
        ],
    isHeadless: clusterIps.includes('None'),
    externalName: isExternal ? textOf(spec['externalName']) : undefined,
    publishNotReady: spec['publishNotReadyAddresses'] === true,
    isSticky: spec['sessionAffinity'] === 'ClientIP',
    isLocalInside: spec['internalTrafficPolicy'] === 'Local',
    isLocalOutside: spec['externalTrafficPolicy'] === 'Local',
    ports: servedPorts(spec['ports']),
  }
}

/** Reads an EndpointSlice; undefined when it belongs to no service or holds no IP addresses. */
function sliceView(object: StoredObject): SliceView | undefined {
  const service = object.metadata.labels?.['kubernetes.io/service-name']
  const family = object['addressType']
  if (service === undefined || (family !== 'IPv4' && family !== 'IPv6')) return undefined
  return {
    namespace: object.metadata.namespace ?? 'default',
    service,
    family,
    ports: portsOf(object['ports']),
    endpoints: listOf(object['endpoints']).map((item) => {
      const { addresses, hostname, nodeName, conditions } = fieldsOf(item)
      const { ready, serving, terminating } = fieldsOf(conditions)
      return {
        addresses: listOf(addresses).flatMap((address) => ipOf(address) ?? []),
        hostname: textOf(hostname),
        // The EndpointSlice API: an absent condition is to be read as true.
        isReady: ready !== false,
        isServing: serving !== false,
        isTerminating: terminating === true,
        node: textOf(nodeName),
      }
    }),
  }
}

/** The services of a cluster and the endpoints behind them, kept current. */
export class ServiceIndex {
  readonly #services = new Map<string, ServiceView>()
  readonly #slices = new Map<string, Map<string, SliceView>>()
  readonly #stops: readonly (() => void)[]

  /** Calls `onChange` after each change, the first ones before this returns. */
  constructor(api: Pick<ClusterApi, 'watch'>, onChange: () => void) {
    this.#stops = [
      api.watch('services', {}, (event) => {
        this.#applyService(event)
        onChange()
      }),
      api.watch('endpointslices.discovery.k8s.io', {}, (event) => {
        this.#applySlice(event)
        onChange()
      }),
    ]
  }

  services(): IterableIterator<ServiceView> {
    return this.#services.values()
  }

  service(namespace: string, name: string): ServiceView | undefined {
    return this.#services.get(`${namespace}/${name}`)
  }

  slices(service: { readonly namespace: string; readonly name: string }): readonly SliceView[] {
    return [...(this.#slices.get(`${service.namespace}/${service.name}`)?.values() ?? [])]
  }

  /** Whether any service is in the namespace: DNS needs to know which names are empty and which do not exist. */
  hasNamespace(namespace: string): boolean {
    for (const service of this.#services.values()) if (service.namespace === namespace) return true
    return false
  }

  stop(): void {
    for (const stop of this.#stops) stop()
  }

  #applyService({ type, object }: WatchEvent): void {
    const view = serviceView(object)
    const key = `${view.namespace}/${view.name}`
    if (type === 'DELETED') this.#services.delete(key)
    else this.#services.set(key, view)
  }

  #applySlice({ type, object }: WatchEvent): void {
    const { name, namespace = 'default' } = object.metadata
    const id = `${namespace}/${name}`
    const view = type === 'DELETED' ? undefined : sliceView(object)
    for (const [key, slices] of this.#slices) {
      if (slices.delete(id) && slices.size === 0) this.#slices.delete(key)
    }
    if (view === undefined) return
    const key = `${view.namespace}/${view.service}`
    const slices = this.#slices.get(key) ?? new Map<string, SliceView>()
    this.#slices.set(key, slices.set(id, view))
  }
}
