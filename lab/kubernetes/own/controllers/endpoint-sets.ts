// SPDX-License-Identifier: Apache-2.0
// Which pods stand behind a service, as pure data: grouped by family and by the ports they resolve to.

import { type IpFamily, familyOf } from '../apiserver/cluster-ip.ts'
import { integer, records, stringMap, text, texts } from '../../objects/json.ts'
import type { JsonObject, StoredObject } from '../../objects/stored-object.ts'
import { isDeleting, isFinished, isReady } from './controller.ts'

/** An alias, not an interface: only that is JSON to the compiler. */
export type EndpointPort = {
  readonly name: string
  readonly protocol: string
  readonly port: number
  readonly appProtocol?: string | undefined
}

/** Endpoints of one family that share their ports. */
export interface EndpointGroup {
  readonly family: IpFamily
  readonly ports: readonly EndpointPort[]
  readonly endpoints: readonly JsonObject[]
}

/** The pods a service selects; none without a selector. */
export function selectedPods(
  service: StoredObject,
  pods: readonly StoredObject[],
): readonly StoredObject[] {
  const selector = Object.entries(stringMap(service.spec?.selector))
  if (selector.length === 0) return []
  return pods.filter(
    (pod) =>
      !isFinished(pod) && selector.every(([key, value]) => pod.metadata.labels?.[key] === value),
  )
}

/** The number a target port has in a pod: itself, or that of the container port of the name. */
function resolvePort(pod: StoredObject, target: unknown, protocol: string): number | undefined {
  if (typeof target === 'number') return target
  if (/^\d+$/.test(text(target) ?? '')) return Number(target)
  // As Kubernetes: of the init containers those that go on running.
  const sidecars = records(pod.spec?.initContainers).filter(
    (container) => container.restartPolicy === 'Always',
  )
  return integer(
    [...records(pod.spec?.containers), ...sidecars]
      .flatMap((container) => records(container.ports))
      .find((port) => port.name === target && (port.protocol ?? 'TCP') === protocol)?.containerPort,
  )
}

function portsOf(service: StoredObject, pod: StoredObject): readonly EndpointPort[] {
  return records(service.spec?.ports).flatMap((port) => {
    const protocol = text(port.protocol) ?? 'TCP'
    const number = resolvePort(pod, port.targetPort ?? port.port, protocol)
    if (number === undefined) return []
    const appProtocol = text(port.appProtocol)
    return [
      {
        name: text(port.name) ?? '',
        protocol,
        port: number,
        ...(appProtocol === undefined ? {} : { appProtocol }),
      },
    ]
  })
}

function addressOf(pod: StoredObject, family: IpFamily): string | undefined {
  const addresses = records(pod.status?.podIPs).map((one) => text(one.ip) ?? '')
  const all = addresses.length > 0 ? addresses : texts([pod.status?.podIP])
  return all.find((address) => familyOf(address) === family)
}

function endpointOf(service: StoredObject, pod: StoredObject, address: string): JsonObject {
  const isTerminating = isDeleting(pod)
  const isServing = isReady(pod)
  const publishNotReady = service.spec?.publishNotReadyAddresses === true
  const hostname = text(pod.spec?.hostname)
  const isNamed = hostname !== undefined && pod.spec?.subdomain === service.metadata.name
  const nodeName = text(pod.spec?.nodeName)
  return {
    addresses: [address],
    conditions: {
      ready: publishNotReady || (isServing && !isTerminating),
      serving: publishNotReady || isServing,
      terminating: isTerminating,
    },
    ...(isNamed ? { hostname } : {}),
    ...(nodeName === undefined ? {} : { nodeName }),
    targetRef: {
      kind: 'Pod',
      namespace: pod.metadata.namespace,
      name: pod.metadata.name,
      uid: pod.metadata.uid,
    },
  }
}

/** All endpoints of a service; a family without any has one group without ports. */
export function endpointGroups(
  service: StoredObject,
  pods: readonly StoredObject[],
): readonly EndpointGroup[] {
  const families = texts(service.spec?.ipFamilies).filter(
    (family): family is IpFamily => family === 'IPv4' || family === 'IPv6',
  )
  return families.flatMap((family) => {
    const byPorts = new Map<string, { ports: readonly EndpointPort[]; endpoints: JsonObject[] }>()
    for (const pod of selectedPods(service, pods)) {
      const address = addressOf(pod, family)
      if (address === undefined) continue
      const ports = portsOf(service, pod)
      const key = JSON.stringify(ports)
      const group = byPorts.get(key) ?? { ports, endpoints: [] }
      group.endpoints.push(endpointOf(service, pod, address))
      byPorts.set(key, group)
    }
    const groups = [...byPorts.values()].map((group) => ({ family, ...group }))
    return groups.length === 0 ? [{ family, ports: [], endpoints: [] }] : groups
  })
}
