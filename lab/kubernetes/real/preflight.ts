// SPDX-License-Identifier: Apache-2.0
// Looks at a real API server before a lab is made against it: whether it can be used at all, whether anything there
// is in the way, and which duties it leaves to the lab. Changes nothing.

import ipaddr from 'ipaddr.js'
import { AmbitError, type ErrorCode } from '../../../mesh/errors.ts'
import type { KubeApi } from '../../../mesh/kube/api.ts'
import type { KubeFailure } from '../../../mesh/kube/failure.ts'
import {
  CONFIG_MAPS,
  defineResource,
  type KubeObject,
  type KubeResource,
  LEASES,
  NODES,
  type Node,
  SERVICES,
} from '../../../mesh/kube/resources.ts'
import type { Result } from '../../../mesh/result.ts'
import type { ControllerParts } from '../objects/cluster-api.ts'
import {
  clusterCidrs,
  FABRIC_CIDR4,
  FABRIC_CIDR6,
  POD_NETS,
  type PodNet,
} from '../../network/addressing.ts'
import { LAB_LABEL, MESH_ROOT_CONFIG_MAP, PART_LEASES, RUN_LABEL } from '../objects/lab-marks.ts'

/** Who runs the cluster's controllers: found out, or said by a person. */
export type ControllersChoice = 'auto' | 'lab' | 'cluster'

export interface ClusterFacts {
  readonly version: string
  /** ClusterIP of default/kubernetes. */
  readonly kubernetesServiceIp: string
  /** Ranges of service addresses, where the server tells them. */
  readonly serviceRanges: readonly string[]
  /** A pod network that the cluster does not use itself. */
  readonly podNet: PodNet
  /** What the lab has to run because the cluster does not. */
  readonly parts: ControllerParts
  /** The cluster has nodes besides the lab's: its pods are not to land on the lab's by surprise. */
  readonly hasOtherNodes: boolean
}

/** Every resource the lab uses is served at the version it uses since then: autoscaling/v2 was the last to come. */
const OLDEST_MINOR = 23
/** A server that does not answer within this is not going to serve a lab. */
const DEADLINE_MS = 10_000
const DEFAULT_LEASE_SECONDS = 15

/** What the lab's own processes do with the kubeconfig's credentials, one representative of each kind. */
const NEEDED: readonly {
  readonly verb: string
  readonly group: string
  readonly resource: string
}[] = [
  { verb: 'create', group: '', resource: 'nodes' },
  { verb: 'delete', group: '', resource: 'nodes' },
  { verb: 'patch', group: '', resource: 'nodes/status' },
  { verb: 'watch', group: '', resource: 'pods' },
  { verb: 'delete', group: '', resource: 'pods' },
  { verb: 'patch', group: '', resource: 'pods/status' },
  { verb: 'create', group: '', resource: 'serviceaccounts/token' },
  { verb: 'watch', group: '', resource: 'secrets' },
  { verb: 'watch', group: '', resource: 'configmaps' },
  { verb: 'watch', group: '', resource: 'services' },
  { verb: 'watch', group: 'discovery.k8s.io', resource: 'endpointslices' },
  { verb: 'create', group: '', resource: 'events' },
  { verb: 'create', group: 'coordination.k8s.io', resource: 'leases' },
  { verb: 'create', group: '', resource: 'namespaces' },
  { verb: 'create', group: 'rbac.authorization.k8s.io', resource: 'clusterroles' },
  { verb: 'create', group: 'rbac.authorization.k8s.io', resource: 'clusterrolebindings' },
]

const ACCESS_REVIEWS = defineResource<
  KubeObject & {
    readonly spec: object
    readonly status?: { readonly allowed?: boolean }
  }
>('authorization.k8s.io', 'v1', 'selfsubjectaccessreviews', 'SelfSubjectAccessReview', 'cluster')
const SERVICE_CIDRS = defineResource<
  KubeObject & { readonly spec?: { readonly cidrs?: readonly string[] } }
>('networking.k8s.io', 'v1', 'servicecidrs', 'ServiceCIDR', 'cluster')

/** Looks; throws a coded error for the first thing that makes a lab impossible. */
export async function inspectCluster(
  api: KubeApi,
  options: {
    readonly nodes: readonly string[]
    readonly controllers: ControllersChoice
    /** Objects that the lab would make and that nobody else may have made. */
    readonly exclusive: readonly ExclusiveObject[]
  },
): Promise<ClusterFacts> {
  const version = await readVersion(api)
  await requirePermissions(api)
  const nodes = must(api, await api.list(NODES, { deadlineMs: DEADLINE_MS })).items
  refuseNodeClash(nodes, options.nodes)
  if (options.exclusive.length > 0) await refuseOtherMesh(api)
  await refuseObjects(api, options.exclusive)
  const kubernetes = must(
    api,
    await api.get(
      SERVICES,
      { namespace: 'default', name: 'kubernetes' },
      { deadlineMs: DEADLINE_MS },
    ),
  )
  const kubernetesServiceIp = kubernetes.spec?.clusterIP ?? ''
  const ranges = await api.list(SERVICE_CIDRS, { deadlineMs: DEADLINE_MS })
  // Served since Kubernetes 1.33; before that nobody tells.
  const serviceRanges = ranges.ok
    ? ranges.value.items.flatMap((each) => each.spec?.cidrs ?? [])
    : []
  const podNet = freePodNet(
    api,
    serviceRanges.length > 0 ? serviceRanges : [kubernetesServiceIp],
    nodes,
  )
  const parts = await dutiesLeft(api, options.controllers)
  return {
    version,
    kubernetesServiceIp,
    serviceRanges,
    podNet,
    parts,
    hasOtherNodes: nodes.length > 0,
  }
}

async function readVersion(api: KubeApi): Promise<string> {
  const { major, minor, gitVersion } = must(
    api,
    await api.raw<{
      readonly major?: string
      readonly minor?: string
      readonly gitVersion?: string
    }>({
      method: 'GET',
      path: '/version',
      call: 'read the version',
      deadlineMs: DEADLINE_MS,
    }),
  )
  const [majorNumber, minorNumber] = [major, minor].map((part) => Number.parseInt(part ?? '', 10))
  if (
    majorNumber === undefined ||
    minorNumber === undefined ||
    Number.isNaN(majorNumber + minorNumber)
  )
    throw failed(api, 'AMB_KUBE_API', 'what answers there is no Kubernetes API server')
  if (majorNumber === 1 && minorNumber < OLDEST_MINOR)
    throw failed(
      api,
      'AMB_KUBE_VERSION',
      `it is Kubernetes ${gitVersion ?? `${major ?? ''}.${minor ?? ''}`}; a lab needs 1.${OLDEST_MINOR} or later`,
    )
  return gitVersion ?? `v${majorNumber}.${minorNumber}`
}

async function requirePermissions(api: KubeApi): Promise<void> {
  const answers = await Promise.all(
    NEEDED.map(async ({ verb, group, resource }) => {
      const [name = '', subresource = ''] = resource.split('/')
      const resourceAttributes = { verb, group, resource: name, subresource }
      const review = must(
        api,
        await api.create(
          ACCESS_REVIEWS,
          { spec: { resourceAttributes } },
          { deadlineMs: DEADLINE_MS },
        ),
      )
      return review.status?.allowed === true ? [] : [`${verb} ${resource}`]
    }),
  )
  const denied = answers.flat()
  if (denied.length > 0)
    throw failed(api, 'AMB_KUBE_AUTH', `these credentials may not ${denied.join(', ')}`)
}

function refuseNodeClash(present: readonly Node[], wanted: readonly string[]): void {
  for (const { metadata } of present) {
    const name = metadata?.name ?? ''
    if (!wanted.includes(name)) continue
    const labName = metadata?.labels?.[LAB_LABEL]
    const run = metadata?.labels?.[RUN_LABEL]
    const owner =
      labName === undefined
        ? ''
        : ` of a lab named "${labName}"${run === undefined ? '' : ` (label ${RUN_LABEL}=${run})`}`
    throw clash(`the cluster has a node "${name}"${owner} already`)
  }
}

/** An object of which there may be one only, and the lab is about to make it. */
export interface ExclusiveObject {
  readonly resource: KubeResource
  readonly name: string
}

/** A mesh's controller writes its root into every namespace: it must not be written over another's. */
async function refuseOtherMesh(api: KubeApi): Promise<void> {
  const fieldSelector = `metadata.name=${MESH_ROOT_CONFIG_MAP}`
  const found = must(api, await api.list(CONFIG_MAPS, { fieldSelector, deadlineMs: DEADLINE_MS }))
  const namespace = found.items[0]?.metadata?.namespace
  if (namespace === undefined) return
  throw clash(
    `the cluster has a mesh of its own: ConfigMap ${namespace}/${MESH_ROOT_CONFIG_MAP} (--no-mesh makes a lab without one)`,
  )
}

async function refuseObjects(api: KubeApi, exclusive: readonly ExclusiveObject[]): Promise<void> {
  for (const { resource, name } of exclusive) {
    const found = await api.get(resource, { name }, { deadlineMs: DEADLINE_MS })
    if (!found.ok && found.error.kind === 'notFound') continue
    const { metadata } = must(api, found)
    const state = metadata?.deletionTimestamp === undefined ? '' : ', which is being deleted'
    throw clash(`the cluster has a ${resource.kind} "${name}" already${state}`)
  }
}

/** The fabric's addresses are the same in every lab; of pod networks there are some to choose from. */
function freePodNet(
  api: KubeApi,
  serviceRanges: readonly string[],
  nodes: readonly Node[],
): PodNet {
  const podRanges = nodes.flatMap(
    ({ spec }) => spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]),
  )
  const taken = [...serviceRanges, ...podRanges]
  for (const own of [FABRIC_CIDR4, FABRIC_CIDR6]) {
    const hit = taken.find((range) => overlaps(own, range))
    if (hit === undefined) continue
    const reason = `its range ${hit} overlaps with the lab's own network ${own}`
    throw failed(api, 'AMB_LAB_CLASH', reason)
  }
  const free = POD_NETS.find((podNet) =>
    Object.values(clusterCidrs(podNet)).every(
      (own) => !taken.some((range) => overlaps(own, range)),
    ),
  )
  if (free !== undefined) return free
  const all = POD_NETS.map((podNet) => clusterCidrs(podNet).ip4).join(', ')
  throw failed(api, 'AMB_LAB_CLASH', `its services and pods use all that a lab can: ${all}`)
}

/** Whether two ranges (or addresses) of one family share an address. */
export function overlaps(one: string, other: string): boolean {
  const [first, second] = [one, other].map((range) =>
    range.includes('/')
      ? ipaddr.parseCIDR(range)
      : ipaddr.parseCIDR(`${range}/${range.includes(':') ? 128 : 32}`),
  )
  if (first === undefined || second === undefined || first[0].kind() !== second[0].kind())
    return false
  const shorter = first[1] <= second[1] ? first : second
  const longer = shorter === first ? second : first
  return longer[0].match(shorter[0], shorter[1])
}

/** A cluster's own controllers say that they live by renewing their leases. */
async function dutiesLeft(api: KubeApi, choice: ControllersChoice): Promise<ControllerParts> {
  if (choice !== 'auto') return { manager: choice === 'lab', scheduler: choice === 'lab' }
  const [manager, scheduler] = await Promise.all([
    holdsFreshLease(api, PART_LEASES.manager),
    holdsFreshLease(api, PART_LEASES.scheduler),
  ])
  return { manager: !manager, scheduler: !scheduler }
}

async function holdsFreshLease(api: KubeApi, name: string): Promise<boolean> {
  const lease = await api.get(
    LEASES,
    { namespace: 'kube-system', name },
    { deadlineMs: DEADLINE_MS },
  )
  if (!lease.ok && lease.error.kind === 'notFound') return false
  const { holderIdentity, renewTime, leaseDurationSeconds } = must(api, lease).spec ?? {}
  if (holderIdentity === undefined || holderIdentity === '' || renewTime === undefined) return false
  const lifetimeMs = (leaseDurationSeconds ?? DEFAULT_LEASE_SECONDS) * 1000
  return Date.parse(renewTime) + lifetimeMs > Date.now()
}

/** The value, or the failure as an error that says what to do about it. */
function must<T>(api: KubeApi, result: Result<T, KubeFailure>): T {
  if (result.ok) return result.value
  const { kind, message } = result.error
  const isAnonymous = kind === 'forbidden' && message.includes('system:anonymous')
  const code: ErrorCode =
    kind === 'untrusted'
      ? 'AMB_KUBE_TLS'
      : kind === 'unauthorized' || kind === 'forbidden'
        ? 'AMB_KUBE_AUTH'
        : 'AMB_KUBE_API'
  const reason = isAnonymous ? `the context brings no credentials (${message})` : message
  throw failed(api, code, reason)
}

const failed = (api: KubeApi, code: ErrorCode, reason: string): AmbitError =>
  new AmbitError(code, `Cannot use API server ${api.access.server.origin}: ${reason}`)

const clash = (reason: string): AmbitError =>
  new AmbitError('AMB_LAB_CLASH', `Cannot make a lab there: ${reason}`)
