// SPDX-License-Identifier: Apache-2.0
// The columns of `kubectl get` for each resource.

import {
  type Draft,
  at,
  integer,
  list,
  record,
  records,
  stringMap,
  text,
  texts,
} from '../../../objects/json.ts'
import type { StoredObject } from '../../../objects/stored-object.ts'
import type { ResourceId } from '../../../objects/cluster-api.ts'
import { age, joined } from './cells.ts'

export interface Column {
  readonly name: string
  readonly type?: 'string' | 'integer' | 'date'
  /** 0 is always shown, 1 with -o wide. */
  readonly priority?: number
  readonly value: (object: StoredObject, now: number) => unknown
}

const NAME: Column = { name: 'Name', value: (object) => object.metadata.name }
const AGE: Column = {
  name: 'Age',
  value: (object, now) => age(object.metadata.creationTimestamp, now),
}
const count = (value: unknown): number => integer(value) ?? 0
const wide = (column: Column): Column => ({ ...column, priority: 1 })

function podStatus(pod: StoredObject): string {
  const statuses = records(pod.status?.containerStatuses)
  const waiting = statuses.map((one) => text(at(one, 'state', 'waiting', 'reason'))).find(Boolean)
  const terminated = statuses
    .map((one) => text(at(one, 'state', 'terminated', 'reason')))
    .find(Boolean)
  const initStatuses = records(pod.status?.initContainerStatuses)
  const initDone = initStatuses.filter((one) => at(one, 'state', 'terminated', 'exitCode') === 0)
  if (pod.metadata.deletionTimestamp !== undefined) return 'Terminating'
  if (
    initStatuses.length > 0 &&
    initDone.length < initStatuses.length &&
    pod.status?.phase === 'Pending'
  )
    return `Init:${initDone.length}/${initStatuses.length}`
  return text(pod.status?.reason) ?? waiting ?? terminated ?? text(pod.status?.phase) ?? 'Unknown'
}

const restarts = (pod: StoredObject): number =>
  records(pod.status?.containerStatuses).reduce((sum, one) => sum + count(one.restartCount), 0)

function servicePorts(service: StoredObject): string {
  return joined(
    records(service.spec?.ports).map((port) =>
      port.nodePort === undefined
        ? `${String(port.port)}/${String(port.protocol)}`
        : `${String(port.port)}:${String(port.nodePort)}/${String(port.protocol)}`,
    ),
  )
}

function externalAddress(service: StoredObject): string {
  if (service.spec?.type === 'ExternalName') return text(service.spec.externalName) ?? ''
  const ingress = records(at(service, 'status', 'loadBalancer', 'ingress')).map(
    (one) => text(one.ip) ?? text(one.hostname) ?? '',
  )
  const addresses = [...ingress, ...texts(service.spec?.externalIPs)]
  if (addresses.length > 0) return addresses.join(',')
  return service.spec?.type === 'LoadBalancer' ? '<pending>' : '<none>'
}

const selectorText = (labels: unknown): string =>
  joined(Object.entries(stringMap(labels)).map(([key, value]) => `${key}=${value}`))

const templateContainers = (object: StoredObject): readonly Draft[] =>
  records(at(object, 'spec', 'template', 'spec', 'containers'))

const TEMPLATE_COLUMNS: readonly Column[] = [
  wide({
    name: 'Containers',
    value: (object) => joined(templateContainers(object).map((one) => String(one.name))),
  }),
  wide({
    name: 'Images',
    value: (object) => joined(templateContainers(object).map((one) => String(one.image))),
  }),
  wide({
    name: 'Selector',
    value: (object) => selectorText(at(object, 'spec', 'selector', 'matchLabels')),
  }),
]

function nodeStatus(node: StoredObject): string {
  const ready = records(node.status?.conditions).find((condition) => condition.type === 'Ready')
  const state = ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady'
  return node.spec?.unschedulable === true ? `${state},SchedulingDisabled` : state
}

function nodeRoles(node: StoredObject): string {
  const prefix = 'node-role.kubernetes.io/'
  return joined(
    Object.keys(node.metadata.labels ?? {})
      .filter((label) => label.startsWith(prefix))
      .map((label) => label.slice(prefix.length)),
  )
}

const nodeAddress = (node: StoredObject, type: string): string =>
  text(records(node.status?.addresses).find((one) => one.type === type)?.address) ?? '<none>'

/** Ready endpoint addresses with ports, shortened as kubectl shortens them. */
function endpointsText(object: StoredObject): string {
  const all = records(object.subsets).flatMap((subset) =>
    records(subset.addresses).flatMap((address) =>
      records(subset.ports).map((port) => `${String(address.ip)}:${String(port.port)}`),
    ),
  )
  const shown = 3
  return all.length > shown
    ? `${all.slice(0, shown).join(',')} + ${all.length - shown} more...`
    : joined(all)
}

const size = (value: unknown): number => Object.keys(record(value) ?? {}).length

/** Columns by resource; NAME and AGE for all others. */
export const COLUMNS: { readonly [resource: ResourceId]: readonly Column[] } = {
  pods: [
    NAME,
    {
      name: 'Ready',
      value: (pod) => {
        const ready = records(pod.status?.containerStatuses).filter((one) => one.ready === true)
        return `${ready.length}/${records(pod.spec?.containers).length}`
      },
    },
    { name: 'Status', value: podStatus },
    { name: 'Restarts', value: (pod) => String(restarts(pod)) },
    AGE,
    wide({ name: 'IP', value: (pod) => text(pod.status?.podIP) ?? '<none>' }),
    wide({ name: 'Node', value: (pod) => text(pod.spec?.nodeName) ?? '<none>' }),
    wide({
      name: 'Nominated Node',
      value: (pod) => text(pod.status?.nominatedNodeName) ?? '<none>',
    }),
    wide({ name: 'Readiness Gates', value: () => '<none>' }),
  ],
  services: [
    NAME,
    { name: 'Type', value: (service) => service.spec?.type },
    { name: 'Cluster-IP', value: (service) => text(service.spec?.clusterIP) ?? '<none>' },
    { name: 'External-IP', value: externalAddress },
    { name: 'Port(s)', value: servicePorts },
    AGE,
    wide({ name: 'Selector', value: (service) => selectorText(service.spec?.selector) }),
  ],
  namespaces: [NAME, { name: 'Status', value: (space) => space.status?.phase }, AGE],
  nodes: [
    NAME,
    { name: 'Status', value: nodeStatus },
    { name: 'Roles', value: nodeRoles },
    AGE,
    {
      name: 'Version',
      value: (node) => text(at(node, 'status', 'nodeInfo', 'kubeletVersion')) ?? '',
    },
    wide({ name: 'Internal-IP', value: (node) => nodeAddress(node, 'InternalIP') }),
    wide({ name: 'External-IP', value: (node) => nodeAddress(node, 'ExternalIP') }),
    wide({
      name: 'OS-Image',
      value: (node) => text(at(node, 'status', 'nodeInfo', 'osImage')) ?? '<unknown>',
    }),
    wide({
      name: 'Kernel-Version',
      value: (node) => text(at(node, 'status', 'nodeInfo', 'kernelVersion')) ?? '<unknown>',
    }),
    wide({
      name: 'Container-Runtime',
      value: (node) =>
        text(at(node, 'status', 'nodeInfo', 'containerRuntimeVersion')) ?? '<unknown>',
    }),
  ],
  'deployments.apps': [
    NAME,
    {
      name: 'Ready',
      value: ({ spec, status }) => `${count(status?.readyReplicas)}/${count(spec?.replicas)}`,
    },
    { name: 'Up-to-date', type: 'integer', value: ({ status }) => count(status?.updatedReplicas) },
    { name: 'Available', type: 'integer', value: ({ status }) => count(status?.availableReplicas) },
    AGE,
    ...TEMPLATE_COLUMNS,
  ],
  'replicasets.apps': [
    NAME,
    { name: 'Desired', type: 'integer', value: ({ spec }) => count(spec?.replicas) },
    { name: 'Current', type: 'integer', value: ({ status }) => count(status?.replicas) },
    { name: 'Ready', type: 'integer', value: ({ status }) => count(status?.readyReplicas) },
    AGE,
    ...TEMPLATE_COLUMNS,
  ],
  'daemonsets.apps': [
    NAME,
    {
      name: 'Desired',
      type: 'integer',
      value: ({ status }) => count(status?.desiredNumberScheduled),
    },
    {
      name: 'Current',
      type: 'integer',
      value: ({ status }) => count(status?.currentNumberScheduled),
    },
    { name: 'Ready', type: 'integer', value: ({ status }) => count(status?.numberReady) },
    {
      name: 'Up-to-date',
      type: 'integer',
      value: ({ status }) => count(status?.updatedNumberScheduled),
    },
    { name: 'Available', type: 'integer', value: ({ status }) => count(status?.numberAvailable) },
    {
      name: 'Node Selector',
      value: (object) => selectorText(at(object, 'spec', 'template', 'spec', 'nodeSelector')),
    },
    AGE,
    ...TEMPLATE_COLUMNS,
  ],
  endpoints: [NAME, { name: 'Endpoints', value: endpointsText }, AGE],
  'endpointslices.discovery.k8s.io': [
    NAME,
    { name: 'AddressType', value: (slice) => slice.addressType },
    {
      name: 'Ports',
      value: (slice) => joined(records(slice.ports).map((port) => String(port.port))),
    },
    {
      name: 'Endpoints',
      value: (slice) =>
        joined(records(slice.endpoints).flatMap((endpoint) => texts(endpoint.addresses))),
    },
    AGE,
  ],
  configmaps: [
    NAME,
    {
      name: 'Data',
      type: 'integer',
      value: (object) => size(object.data) + size(object.binaryData),
    },
    AGE,
  ],
  secrets: [
    NAME,
    { name: 'Type', value: (object) => object.type },
    { name: 'Data', type: 'integer', value: (object) => size(object.data) },
    AGE,
  ],
  serviceaccounts: [
    NAME,
    { name: 'Secrets', type: 'integer', value: (object) => list(object.secrets).length },
    AGE,
  ],
  events: [
    {
      name: 'Last Seen',
      value: (event, now) =>
        age(event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp, now),
    },
    { name: 'Type', value: (event) => event.type },
    { name: 'Reason', value: (event) => event.reason },
    {
      name: 'Object',
      value: (event) =>
        `${String(at(event, 'involvedObject', 'kind')).toLowerCase()}/${String(at(event, 'involvedObject', 'name'))}`,
    },
    { name: 'Message', value: (event) => text(event.message)?.trim() ?? '' },
  ],
  'leases.coordination.k8s.io': [
    NAME,
    { name: 'Holder', value: (lease) => text(lease.spec?.holderIdentity) ?? '' },
    AGE,
  ],
  'networkpolicies.networking.k8s.io': [
    NAME,
    {
      name: 'Pod-Selector',
      value: (policy) => selectorText(at(policy, 'spec', 'podSelector', 'matchLabels')),
    },
    AGE,
  ],
  'customresourcedefinitions.apiextensions.k8s.io': [
    NAME,
    { name: 'Created At', type: 'date', value: (object) => object.metadata.creationTimestamp },
  ],
}

export const GENERAL_COLUMNS: readonly Column[] = [NAME, AGE]
