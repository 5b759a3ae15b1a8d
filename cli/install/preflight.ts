// SPDX-License-Identifier: Apache-2.0
// Looks at a cluster before anything is installed: what is missing, what is in the way, what had better be said differently. As far as the
// API tells: what only a node knows, its agent says when it starts. Changes nothing.

import { isRecord } from '../../daemonset/render/functions.ts'
import type { Values } from '../../daemonset/render/values.ts'
import {
  CONFIG_MAPS,
  DAEMON_SETS,
  defineResource,
  GATEWAY_CLASSES,
  type KubeApi,
  type KubeObject,
  type KubeResource,
  NAMESPACES,
  type Node,
  NODES,
  type ObjectName,
  SECRETS,
} from '../../mesh/kube/index.ts'
import { hasSameCertificates } from '../../mesh/identity/pem.ts'
import { ROOT_LABEL } from '../../mesh/model/names.ts'
import { kubeError, readIfThere } from '../cluster/kube-reads.ts'
import { absentKinds, type InstallObject, policyKinds } from './objects.ts'
import { valuesConfigMap } from './stored-values.ts'

/** `error` keeps an installation from working; `warning` is worth a thought. */
export interface Finding {
  readonly severity: 'error' | 'warning'
  readonly what: string
}

export interface PreflightOptions {
  readonly objects: readonly InstallObject[]
  readonly values: Values
  readonly namespace: string
}

const OLDEST_KUBERNETES = [1, 30] as const
const OLDEST_KERNEL = [5, 15] as const
/** Others whose CNI is not a list of plugins in a directory of the node's, by what their nodes say. */
const UNSUPPORTED: Readonly<Record<string, (node: Node) => boolean>> = {
  'OpenShift, whose pods are made by the chain of Multus': ({ metadata }) =>
    Object.keys(metadata?.labels ?? {}).some((label) => label.startsWith('node.openshift.io/')),
  'Fargate, whose nodes run no DaemonSets': ({ metadata }) =>
    metadata?.labels?.['eks.amazonaws.com/compute-type'] === 'fargate',
}
/** What a platform has of its own, where that is not only where CNI is. */
const QUIRKS: Readonly<Record<string, string>> = {
  gke: 'whose CNI directories are its own, and which lets no critical pods in without a quota',
  minikube: 'whose network namespaces may be kept elsewhere (with the docker runtime)',
}
/** To look, to apply, to take back. */
const VERBS = ['get', 'list', 'create', 'patch', 'update', 'delete'] as const
/** A platform by what its nodes say of themselves. */
const PLATFORMS: Readonly<Record<string, (node: Node) => boolean>> = {
  k3s: ({ status }) => /\+k3s/.test(status?.nodeInfo?.kubeletVersion ?? ''),
  gke: ({ status }) => /-gke\./.test(status?.nodeInfo?.kubeletVersion ?? ''),
  microk8s: ({ metadata }) => metadata?.labels?.['microk8s.io/cluster'] !== undefined,
  minikube: ({ metadata }) => metadata?.labels?.['minikube.k8s.io/name'] !== undefined,
}
const KINDS = defineResource(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'cluster',
)
const PRIORITY_CLASSES = defineResource(
  'scheduling.k8s.io',
  'v1',
  'priorityclasses',
  'PriorityClass',
  'cluster',
)
const REVIEWS = defineResource<
  KubeObject & { readonly spec: object; readonly status?: { readonly allowed?: boolean } }
>('authorization.k8s.io', 'v1', 'selfsubjectaccessreviews', 'SelfSubjectAccessReview', 'cluster')

/** What there is to say of the cluster, errors first. Throws AMB_KUBE_API, AMB_KUBE_AUTH where it cannot be asked. */
export async function preflight(
  api: KubeApi,
  options: PreflightOptions,
): Promise<readonly Finding[]> {
  const findings = await Promise.all([
    versionFindings(api),
    rightFindings(api, options),
    objectFindings(api, options),
    namedFindings(api, options),
    nodeFindings(api, String(options.values['platform'] ?? 'generic')),
    meshFindings(api, options),
    ciliumFindings(api),
    kindFindings(api),
  ])
  return findings
    .flat()
    .toSorted((one, other) =>
      one.severity < other.severity ? -1 : one.severity > other.severity ? 1 : 0,
    )
}

const error = (what: string): Finding => ({ severity: 'error', what })
const warning = (what: string): Finding => ({ severity: 'warning', what })

async function versionFindings(api: KubeApi): Promise<readonly Finding[]> {
  const version = await api.raw<{ readonly gitVersion?: string }>({
    method: 'GET',
    path: '/version',
    call: 'read the version',
  })
  if (!version.ok) throw kubeError(version.error)
  const { gitVersion = '' } = version.value
  return isBefore(gitVersion, OLDEST_KUBERNETES)
    ? [error(`the cluster is Kubernetes ${gitVersion}: 1.30 or later is needed`)]
    : []
}

/** Whether the caller may do all of it: half an installation helps nobody. */
async function rightFindings(
  api: KubeApi,
  { objects, namespace }: PreflightOptions,
): Promise<readonly Finding[]> {
  const all = [...objects, ...(await absentKinds(api)), valuesConfigMap(namespace)]
  const wanted = new Map(
    all.flatMap(({ resource: { group, plural: resource }, target: { namespace = '' } }) =>
      VERBS.map((verb) => [`${verb} ${resource}`, { group, resource, namespace, verb }] as const),
    ),
  )
  const denied = await Promise.all(
    [...wanted].map(async ([title, resourceAttributes]) => {
      const review = await api.create(REVIEWS, { spec: { resourceAttributes } })
      if (!review.ok) throw kubeError(review.error)
      return review.value.status?.allowed === true ? [] : [title]
    }),
  )
  const lacking = denied.flat()
  return lacking.length === 0 ? [] : [error(`these credentials may not ${lacking.join(', ')}`)]
}

async function nodeFindings(api: KubeApi, platform: string): Promise<readonly Finding[]> {
  const nodes = await api.list(NODES)
  if (!nodes.ok) throw kubeError(nodes.error)
  const linux = nodes.value.items.filter(
    ({ status }) => (status?.nodeInfo?.operatingSystem ?? 'linux') === 'linux',
  )
  return [
    ...linux.flatMap((node) => {
      const name = node.metadata?.name ?? ''
      const { kernelVersion = '', architecture = '' } = node.status?.nodeInfo ?? {}
      return [
        ...(isBefore(kernelVersion, OLDEST_KERNEL)
          ? [error(`node ${name} has kernel ${kernelVersion}: 5.15 or later is needed`)]
          : []),
        ...(/^(amd64|arm64|)$/.test(architecture)
          ? []
          : [error(`node ${name} is ${architecture}: there are images for amd64 and arm64`)]),
      ]
    }),
    ...Object.entries(UNSUPPORTED).flatMap(([what, fits]) => {
      const names = linux.filter(fits).map(({ metadata }) => metadata?.name ?? '')
      if (names.length === 0) return []
      const all = names.length === linux.length
      const told = `${names.slice(0, 3).join(', ')}${names.length > 3 ? ' and others' : ''}: ${what}`
      return [
        all
          ? error(`not supported: ${told}`)
          : warning(`not supported, and left out of the mesh: ${told}`),
      ]
    }),
    ...Object.entries(PLATFORMS).flatMap(([name, fits]) =>
      platform !== name && linux.some(fits) && !(name === 'k3s' && platform === 'k3d')
        ? [
            warning(
              `this looks like ${name}, ${QUIRKS[name] ?? 'whose CNI directories are its own'}: --set platform=${name}`,
            ),
          ]
        : [],
    ),
  ]
}

async function meshFindings(
  api: KubeApi,
  { namespace, values }: PreflightOptions,
): Promise<readonly Finding[]> {
  const [sets, classes, roots] = await Promise.all([
    api.list(DAEMON_SETS),
    api.list(GATEWAY_CLASSES),
    api.list(CONFIG_MAPS, { fieldSelector: 'metadata.name=istio-ca-root-cert' }),
  ])
  if (!sets.ok) throw kubeError(sets.error)
  if (!roots.ok) throw kubeError(roots.error)
  const named = (wanted: string) =>
    sets.value.items.find(({ metadata }) => metadata?.name === wanted)
  const { namespaceSelector } = isRecord(values['mesh']) ? values['mesh'] : {}
  const isSelecting = typeof namespaceSelector === 'string' && namespaceSelector !== ''
  const findings: Finding[] = []
  if (named('istio-cni-node') !== undefined)
    findings.push(
      warning(
        isSelecting
          ? "Istio's CNI agent is here: what mesh.namespaceSelector selects must be out of its enablementSelectors (docs/migration.md)"
          : "Istio's CNI agent is here, and captures namespaces of the same label: set mesh.namespaceSelector, and keep Istio's agent from what it selects (docs/migration.md)",
      ),
    )
  if (named('ztunnel') !== undefined)
    findings.push(
      warning(
        "Istio's ztunnel is here: one of the two meshes captures a pod, whichever comes first",
      ),
    )
  const isOurs = sets.value.items.some(({ metadata }) => metadata?.name === 'ambit-agent')
  const other = sets.value.items.find(
    ({ metadata }) => metadata?.name === 'ambit-agent' && metadata.namespace !== namespace,
  )
  if (other !== undefined)
    findings.push(
      error(
        `Ambit is installed in namespace ${other.metadata?.namespace ?? ''} already: there is one for each cluster`,
      ),
    )
  // What is left of an Ambit that was here is no other mesh's.
  const root = roots.value.items.find(
    ({ metadata }) => metadata?.labels?.[ROOT_LABEL] === undefined,
  )
  if (root !== undefined && !isOurs) {
    const where = `in every namespace (ConfigMap ${root.metadata?.namespace ?? ''}/istio-ca-root-cert)`
    const ours = await ownRoots(api, namespace, values)
    findings.push(
      hasSameCertificates(root.data?.['root-cert.pem'] ?? '', ours)
        ? warning(`another mesh publishes its root ${where}, which is this one's as well`)
        : error(
            `another mesh publishes its root ${where}: two would overwrite each other's. Give both the same (docs/migration.md)`,
          ),
    )
  }
  const istioClass = classes.ok ? classes.value.items.find(isIstioClass) : undefined
  if (istioClass !== undefined)
    findings.push(
      warning(
        `GatewayClass ${istioClass.metadata?.name ?? ''} is Istio's: waypoints of Ambit are those of class ambit-waypoint alone`,
      ),
    )
  return findings
}

/** The roots that this mesh is going to publish, where a Secret says them before it is installed; else nothing. */
async function ownRoots(api: KubeApi, namespace: string, values: Values): Promise<string> {
  const { plugInCaSecret, caSecret } = isRecord(values['controller']) ? values['controller'] : {}
  for (const name of [plugInCaSecret, caSecret]) {
    if (typeof name !== 'string') continue
    const secret = await api.get(SECRETS, { namespace, name })
    const { data = {} } = secret.ok ? secret.value : {}
    const roots = data['root-cert.pem'] ?? data['ca-cert.pem']
    if (roots !== undefined) return Buffer.from(roots, 'base64').toString('utf8')
  }
  return ''
}

function isIstioClass({ spec }: { readonly spec?: unknown }): boolean {
  const { controllerName } = (spec ?? {}) as { readonly controllerName?: unknown }
  return typeof controllerName === 'string' && controllerName.startsWith('istio.io/')
}

async function ciliumFindings(api: KubeApi): Promise<readonly Finding[]> {
  const found = await api.get(CONFIG_MAPS, { namespace: 'kube-system', name: 'cilium-config' })
  if (!found.ok) {
    if (found.error.kind === 'notFound') return []
    throw kubeError(found.error)
  }
  const { data = {} } = found.value
  return [
    ...(data['cni-exclusive'] === 'false'
      ? []
      : [
          warning(
            'Cilium takes other plugins out of the CNI configuration: set cni.exclusive=false there',
          ),
        ]),
    // In the host's namespace alone it leaves what pods ask for as it is.
    ...((data['bpf-lb-sock'] === 'true' || data['kube-proxy-replacement'] === 'true') &&
    data['bpf-lb-sock-hostns-only'] !== 'true'
      ? [
          warning(
            'Cilium balances Services at connect(): agents attach before it, which kernels before 6.15 only do below its cgroup',
          ),
        ]
      : []),
  ]
}

async function kindFindings(api: KubeApi): Promise<readonly Finding[]> {
  const gateways = await api.get(KINDS, { name: 'gateways.gateway.networking.k8s.io' })
  if (gateways.ok) return []
  if (gateways.error.kind !== 'notFound') throw kubeError(gateways.error)
  return [
    warning(
      'the cluster has no kinds of the Gateway API: there are no waypoints until they are installed (https://gateway-api.sigs.k8s.io)',
    ),
  ]
}

/** What values name, and pods cannot be without. */
async function namedFindings(
  api: KubeApi,
  { values, namespace }: PreflightOptions,
): Promise<readonly Finding[]> {
  const valueAt = (...path: readonly string[]): unknown =>
    path.reduce<unknown>((value, name) => (isRecord(value) ? value[name] : undefined), values)
  const absent = async (resource: KubeResource, target: ObjectName): Promise<boolean> => {
    const found = await api.get(resource, target)
    // Who may not look is told by pods.
    return !found.ok && found.error.kind === 'notFound'
  }
  const classes = ['agent', 'controller'].map(async (program): Promise<readonly Finding[]> => {
    const name = valueAt(program, 'priorityClassName')
    if (typeof name !== 'string' || name === '' || name.startsWith('system-')) return []
    return (await absent(PRIORITY_CLASSES, { name }))
      ? [error(`${program}.priorityClassName: the cluster has no PriorityClass ${name}`)]
      : []
  })
  const exported = valueAt('otlp', 'secretName')
  const pull = valueAt('image', 'pullSecrets')
  const secrets = [
    ...(typeof exported === 'string' && exported !== ''
      ? [[exported, error, 'otlp.secretName', 'no pod starts without it'] as const]
      : []),
    ...(Array.isArray(pull) ? pull : []).map(
      (name) =>
        [String(name), warning, 'image.pullSecrets', 'nodes fetch the image without it'] as const,
    ),
  ].map(
    async ([name, finding, path, why]): Promise<readonly Finding[]> =>
      (await absent(SECRETS, { namespace, name }))
        ? [finding(`${path}: there is no Secret ${namespace}/${name}: ${why}`)]
        : [],
  )
  return (await Promise.all([...classes, ...secrets])).flat()
}

/** Of what is there already: whether it goes, and whose it is. */
async function objectFindings(
  api: KubeApi,
  { objects, namespace }: PreflightOptions,
): Promise<readonly Finding[]> {
  const own = objects.filter(({ resource }) => resource.kind !== 'Namespace')
  const shared: readonly Omit<InstallObject, 'object'>[] = [
    { resource: NAMESPACES, target: { name: namespace }, title: `namespace ${namespace}` },
    ...policyKinds(),
  ]
  const read = async (item: Omit<InstallObject, 'object'>, isOwn: boolean) => {
    const found = await readIfThere(api, item.resource, item.target)
    if (found === undefined) return []
    return [...goingFindings(item, found), ...(isOwn ? ownerFindings(item, found) : [])]
  }
  const findings = await Promise.all([
    ...shared.map((item) => read(item, false)),
    ...own.map((item) => read(item, true)),
  ])
  return findings.flat()
}

/** What is going is there still, and gone a moment later: nothing is made in such a namespace, and such a kind is not made anew. */
function goingFindings(
  { resource, target, title }: Omit<InstallObject, 'object'>,
  { metadata }: KubeObject,
): readonly Finding[] {
  if (metadata?.deletionTimestamp === undefined) return []
  const where = target.namespace === undefined ? '' : ` -n ${target.namespace}`
  const wait = `kubectl wait --for=delete ${resource.plural}/${target.name}${where}`
  return [error(`${title} is being deleted: install once it is gone (${wait})`)]
}

/** What Helm made is Helm's to change, and what somebody else made is theirs. */
function ownerFindings(
  { title }: Omit<InstallObject, 'object'>,
  { metadata }: KubeObject,
): readonly Finding[] {
  const { labels = {}, annotations = {} } = metadata ?? {}
  if (labels['app.kubernetes.io/managed-by'] === 'Helm') {
    const release = annotations['meta.helm.sh/release-name']
    const whose = release === undefined ? '' : ` (release ${release})`
    return [error(`${title} is Helm's${whose}: upgrade and uninstall with helm`)]
  }
  return labels['app.kubernetes.io/name'] === 'ambit'
    ? []
    : [
        error(
          `${title} is there, and none of Ambit's by its labels: it would be overwritten. Rename or delete it`,
        ),
      ]
}

/** Whether a version, as v1.30.2 or 5.15.0-91-generic, comes before another; one that cannot be read does not. */
function isBefore(version: string, [major, minor]: readonly [number, number]): boolean {
  const [, one, two] = /^v?(\d+)\.(\d+)/.exec(version) ?? []
  if (one === undefined || two === undefined) return false
  return Number(one) < major || (Number(one) === major && Number(two) < minor)
}
