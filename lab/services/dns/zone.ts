// SPDX-License-Identifier: Apache-2.0
// What cluster DNS answers: a pure function from a question and the cluster's services to records and a
// response code, after the Kubernetes DNS specification (without pod records).

import type { ServiceIndex, ServiceView } from '../kube-view.ts'
import { OUTSIDE_IP4, OUTSIDE_IP6, OUTSIDE_NAME } from '../../network/addressing.ts'

export const CLUSTER_DOMAIN = 'cluster.local'

/** Seconds for which clients may keep an answer: what CoreDNS gives by default in clusters is 30. */
export const TTL_SECONDS = 5

export type ZoneRecord =
  | { readonly type: 'A' | 'AAAA' | 'CNAME'; readonly name: string; readonly data: string }
  | {
      readonly type: 'SRV'
      readonly name: string
      readonly data: { readonly port: number; readonly target: string }
    }

export interface ZoneAnswer {
  readonly code: 'NOERROR' | 'NXDOMAIN'
  readonly records: readonly ZoneRecord[]
}

const NO_SUCH_NAME: ZoneAnswer = { code: 'NXDOMAIN', records: [] }
const NO_DATA: ZoneAnswer = { code: 'NOERROR', records: [] }

/** Answers one question; `name` in any case, without the final dot, is echoed as asked. */
export function answer(index: ServiceIndex, name: string, type: string): ZoneAnswer {
  const labels = name.toLowerCase().split('.')
  const domain = CLUSTER_DOMAIN.split('.')
  if (labels.slice(-domain.length).join('.') === CLUSTER_DOMAIN) {
    return answerCluster(index, name, labels.slice(0, -domain.length), type)
  }
  if (labels.join('.') === OUTSIDE_NAME) {
    return addresses(name, [OUTSIDE_IP4, OUTSIDE_IP6], type)
  }
  return NO_SUCH_NAME
}

function answerCluster(
  index: ServiceIndex,
  name: string,
  labels: readonly string[],
  type: string,
): ZoneAnswer {
  if (labels.length === 0) return NO_DATA
  if (labels.at(-1) !== 'svc') return NO_SUCH_NAME
  const [namespace, service, ...rest] = labels.slice(0, -1).toReversed()
  if (namespace === undefined) return NO_DATA
  if (service === undefined) return index.hasNamespace(namespace) ? NO_DATA : NO_SUCH_NAME
  const view = index.service(namespace, service)
  if (view === undefined) return NO_SUCH_NAME
  if (rest.length === 0) return answerService(index, view, name, type)
  const [first, second] = rest
  if (rest.length === 2 && second?.startsWith('_') === true && first?.startsWith('_') === true) {
    return answerPort(view, name, second.slice(1), first.slice(1), type)
  }
  if (rest.length === 1 && first !== undefined && view.isHeadless) {
    const named = endpointAddresses(index, view, first)
    return named.length === 0 ? NO_SUCH_NAME : addresses(name, named, type)
  }
  return NO_SUCH_NAME
}

function answerService(
  index: ServiceIndex,
  service: ServiceView,
  name: string,
  type: string,
): ZoneAnswer {
  if (service.externalName !== undefined) {
    const alias: ZoneRecord = { type: 'CNAME', name, data: service.externalName }
    const target = answer(index, service.externalName, type)
    return { code: 'NOERROR', records: [alias, ...target.records] }
  }
  const ips = service.isHeadless ? endpointAddresses(index, service) : service.clusterIps
  return addresses(name, ips, type)
}

/** `_http._tcp.web.shop.svc.cluster.local`: the port's number and the service as target. */
function answerPort(
  service: ServiceView,
  name: string,
  portName: string,
  protocol: string,
  type: string,
): ZoneAnswer {
  const port = service.ports.find(
    (each) => each.name === portName && each.protocol.toLowerCase() === protocol,
  )
  if (port === undefined) return NO_SUCH_NAME
  if (type !== 'SRV') return NO_DATA
  const target = `${service.name}.${service.namespace}.svc.${CLUSTER_DOMAIN}`
  return { code: 'NOERROR', records: [{ type, name, data: { port: port.port, target } }] }
}

/** Addresses of a headless service's ready endpoints, of those with one hostname if it is given. */
function endpointAddresses(
  index: ServiceIndex,
  service: ServiceView,
  hostname?: string,
): readonly string[] {
  const found = index
    .slices(service)
    .flatMap((slice) => slice.endpoints)
    .filter((endpoint) => endpoint.isReady || service.publishNotReady)
    .filter((endpoint) => hostname === undefined || endpoint.hostname === hostname)
    .flatMap((endpoint) => endpoint.addresses)
  return [...new Set(found)]
}

function addresses(name: string, ips: readonly string[], type: string): ZoneAnswer {
  if (type !== 'A' && type !== 'AAAA') return NO_DATA
  const wanted = ips.filter((ip) => ip.includes(':') === (type === 'AAAA'))
  return { code: 'NOERROR', records: wanted.map((data) => ({ type, name, data })) }
}
