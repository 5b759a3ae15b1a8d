// SPDX-License-Identifier: Apache-2.0
// EndpointSlices and the older Endpoints of services with a selector, and those of default/kubernetes.

import { isDeepStrictEqual } from 'node:util'
import { familyOf } from '../apiserver/cluster-ip.ts'
import { at, records, text, texts } from '../../objects/json.ts'
import type { JsonObject, StoredObject } from '../../objects/stored-object.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
import {
  type ControlLoop,
  controllerReference,
  find,
  isDeleting,
  keyOf,
  listAll,
  problemOf,
  splitKey,
} from './controller.ts'
import { type EndpointGroup, endpointGroups, selectedPods } from './endpoint-sets.ts'

const SLICES = 'endpointslices.discovery.k8s.io'
const SERVICE_LABEL = 'kubernetes.io/service-name'
const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by'
const MANAGER = 'endpointslice-controller.k8s.io'
const HEADLESS_LABEL = 'service.kubernetes.io/headless'
/** As in Kubernetes: small enough to send on each change. */
const MAX_ENDPOINTS = 100

interface SliceContent {
  readonly addressType: string
  readonly ports: readonly JsonObject[]
  readonly endpoints: readonly JsonObject[]
}

function sliceContents(groups: readonly EndpointGroup[]): readonly SliceContent[] {
  return groups.flatMap(({ family, ports, endpoints }) => {
    const pieces = Math.max(1, Math.ceil(endpoints.length / MAX_ENDPOINTS))
    return Array.from({ length: pieces }, (_, index) => ({
      addressType: family,
      ports,
      endpoints: endpoints.slice(index * MAX_ENDPOINTS, (index + 1) * MAX_ENDPOINTS),
    }))
  })
}

const contentOf = (slice: StoredObject): SliceContent => ({
  addressType: text(slice.addressType) ?? '',
  ports: records(slice.ports) as readonly JsonObject[],
  endpoints: records(slice.endpoints) as readonly JsonObject[],
})

const isSimilar = (slice: StoredObject, content: SliceContent): boolean =>
  slice.addressType === content.addressType &&
  isDeepStrictEqual(contentOf(slice).ports, content.ports)

/** Brings the slices of a service to the wanted contents, keeping those that can stay. */
async function writeSlices(
  api: ClusterApi,
  service: StoredObject,
  contents: readonly SliceContent[],
): Promise<string | undefined> {
  const { namespace, name } = service.metadata
  const found = api.list(SLICES, {
    namespace,
    labelSelector: `${SERVICE_LABEL}=${name},${MANAGED_BY_LABEL}=${MANAGER}`,
  })
  const unused = new Set(found.ok ? found.value : [])
  const labels = {
    [SERVICE_LABEL]: name,
    [MANAGED_BY_LABEL]: MANAGER,
    ...(service.spec?.clusterIP === 'None' ? { [HEADLESS_LABEL]: '' } : {}),
  }
  for (const content of contents) {
    const slices = [...unused]
    const slice =
      slices.find((one) => isSimilar(one, content)) ??
      slices.find((one) => one.addressType === content.addressType)
    if (slice !== undefined) unused.delete(slice)
    const problem =
      slice === undefined
        ? problemOf(
            await api.create(SLICES, namespace, {
              metadata: {
                generateName: `${name}-`,
                labels,
                ownerReferences: [controllerReference(service)],
              },
              ...content,
            }),
          )
        : isDeepStrictEqual(contentOf(slice), content)
          ? undefined
          : problemOf(await api.update(SLICES, namespace, { ...slice, ...content }))
    if (problem !== undefined) return problem
  }
  for (const slice of unused) await api.delete(SLICES, namespace, slice.metadata.name)
  return undefined
}

/** The older form has one family and tells ready addresses from the others. */
function subsets(groups: readonly EndpointGroup[], family: string): readonly JsonObject[] {
  return groups
    .filter((group) => group.family === family && group.endpoints.length > 0)
    .map((group) => {
      const pick = (isReady: boolean): readonly JsonObject[] =>
        group.endpoints
          .filter(
            (endpoint) =>
              (at(endpoint, 'conditions', 'ready') === true) === isReady &&
              at(endpoint, 'conditions', 'terminating') !== true,
          )
          .map((endpoint) => ({
            ip: texts(endpoint.addresses)[0],
            ...(endpoint.hostname === undefined ? {} : { hostname: endpoint.hostname }),
            ...(endpoint.nodeName === undefined ? {} : { nodeName: endpoint.nodeName }),
            targetRef: endpoint.targetRef,
          }))
      const [addresses, notReadyAddresses] = [pick(true), pick(false)]
      return {
        ...(addresses.length === 0 ? {} : { addresses }),
        ...(notReadyAddresses.length === 0 ? {} : { notReadyAddresses }),
        ports: group.ports,
      }
    })
    .filter((subset) => subset.addresses !== undefined || subset.notReadyAddresses !== undefined)
}

async function writeEndpoints(
  api: ClusterApi,
  service: StoredObject,
  wanted: readonly JsonObject[],
): Promise<string | undefined> {
  const { namespace, name } = service.metadata
  const existing = find(api, 'endpoints', namespace, name)
  if (existing === undefined)
    return problemOf(
      await api.create('endpoints', namespace, {
        metadata: {
          name,
          labels: service.metadata.labels,
          ownerReferences: [controllerReference(service)],
        },
        subsets: wanted,
      }),
    )
  if (isDeepStrictEqual(existing.subsets, wanted)) return undefined
  return problemOf(await api.update('endpoints', namespace, { ...existing, subsets: wanted }))
}

export function endpointSliceLoop(api: ClusterApi): ControlLoop {
  return {
    name: 'endpointslices',
    feeds: [
      { resource: 'services', keysOf: ({ object }) => [keyOf(object)] },
      {
        resource: 'pods',
        // A pod that changed its labels must leave the services that selected it: ask them all.
        keysOf: ({ object }) => listAll(api, 'services', object.metadata.namespace).map(keyOf),
      },
    ],
    reconcile: async (key) => {
      const { namespace, name } = splitKey(key)
      const service = find(api, 'services', namespace, name)
      if (service === undefined || isDeleting(service)) return undefined
      if (service.spec?.selector === undefined || service.spec.type === 'ExternalName')
        return undefined
      const pods = selectedPods(service, listAll(api, 'pods', namespace))
      const groups = endpointGroups(service, pods)
      const problem = await writeSlices(api, service, sliceContents(groups))
      const family = texts(service.spec.ipFamilies)[0] ?? 'IPv4'
      return problem ?? (await writeEndpoints(api, service, subsets(groups, family)))
    },
  }
}

/** Publishes where the API server itself listens. */
export async function publishKubernetesEndpoints(
  api: ClusterApi,
  endpoints: readonly { readonly ip: string; readonly port: number }[],
): Promise<string | undefined> {
  const service = find(api, 'services', 'default', 'kubernetes')
  const usable = endpoints.filter(({ ip }) => familyOf(ip) === 'IPv4')
  const [first] = usable
  if (service === undefined || first === undefined) return undefined
  const ports = [{ name: 'https', protocol: 'TCP', port: first.port }]
  const content = {
    addressType: 'IPv4',
    ports,
    endpoints: usable.map(({ ip }) => ({ addresses: [ip], conditions: { ready: true } })),
  }
  const existing = find(api, SLICES, 'default', 'kubernetes')
  const slice = {
    metadata: { name: 'kubernetes', labels: { [SERVICE_LABEL]: 'kubernetes' } },
    ...content,
  }
  const problem = problemOf(
    existing === undefined
      ? await api.create(SLICES, 'default', slice)
      : await api.update(SLICES, 'default', { ...existing, ...content }),
  )
  const addresses = usable.map(({ ip }) => ({ ip }))
  return problem ?? (await writeEndpoints(api, service, [{ addresses, ports }]))
}
