// SPDX-License-Identifier: Apache-2.0
// The objects of an installation as the API has them: what the chart makes of the values, each with its resource.

import { chartKinds, type ChartObject, renderChart } from '../../daemonset/render/chart.ts'
import { setValues } from '../../daemonset/render/set-values.ts'
import { overlayValues, readValuesFile, type Values } from '../../daemonset/render/values.ts'
import {
  defineResource,
  type KubeApi,
  type KubeObject,
  type KubeResource,
} from '../../mesh/kube/index.ts'
import { kubeError, readIfThere } from '../cluster/kube-reads.ts'
import { requireFlags } from './require-flags.ts'

/** What a person says of the values, in the order in which Helm takes them. */
export interface ValueFlags {
  readonly values?: readonly string[]
  readonly set?: readonly string[]
  readonly setString?: readonly string[]
}

/** An object to apply. */
export interface InstallObject {
  readonly resource: KubeResource
  readonly target: { readonly namespace?: string; readonly name: string }
  readonly object: KubeObject
  /** `kind namespace/name`, as lines name it. */
  readonly title: string
}

/** In the order in which they are made. */
const RESOURCES: Readonly<
  Record<string, readonly [plural: string, scope: 'namespaced' | 'cluster', apiVersion: string]>
> = {
  Namespace: ['namespaces', 'cluster', 'v1'],
  ResourceQuota: ['resourcequotas', 'namespaced', 'v1'],
  ServiceAccount: ['serviceaccounts', 'namespaced', 'v1'],
  ClusterRole: ['clusterroles', 'cluster', 'rbac.authorization.k8s.io/v1'],
  ClusterRoleBinding: ['clusterrolebindings', 'cluster', 'rbac.authorization.k8s.io/v1'],
  Role: ['roles', 'namespaced', 'rbac.authorization.k8s.io/v1'],
  RoleBinding: ['rolebindings', 'namespaced', 'rbac.authorization.k8s.io/v1'],
  Service: ['services', 'namespaced', 'v1'],
  PodDisruptionBudget: ['poddisruptionbudgets', 'namespaced', 'policy/v1'],
  Deployment: ['deployments', 'namespaced', 'apps/v1'],
  DaemonSet: ['daemonsets', 'namespaced', 'apps/v1'],
  CustomResourceDefinition: ['customresourcedefinitions', 'cluster', 'apiextensions.k8s.io/v1'],
}
/** The owner of the fields that the command sets. */
export const FIELD_MANAGER = 'ambit-install'
const PART_OF = 'app.kubernetes.io/part-of'

/** The values of files and --set over those that are known already. Throws AMB_CHART_VALUES. */
export function valuesOf(flags: ValueFlags, known: Values = {}): Values {
  const ofFiles = (flags.values ?? []).map(readValuesFile).reduce(overlayValues, known)
  const set = (flags.set ?? []).reduce((all, text) => setValues(all, text), ofFiles)
  return (flags.setString ?? []).reduce((all, text) => setValues(all, text, true), set)
}

/** What these values make, with the notes of the chart. Throws AMB_CHART_VALUES. */
export async function installObjects(
  values: Values,
  namespace: string,
): Promise<{
  readonly objects: readonly InstallObject[]
  readonly notes: string
  readonly texts: readonly string[]
  readonly used: Values
}> {
  const chart = await renderChart({ createNamespace: true, ...values }, { namespace })
  await requireFlags(chart.objects, chart.values)
  return {
    objects: chart.objects.map(installObject),
    texts: chart.objects.map(({ text }) => text),
    notes: chart.notes,
    used: chart.values,
  }
}

/** The kinds of policies, for a cluster that has none. */
export const policyKinds = (): readonly InstallObject[] => chartKinds().map(installObject)

/** The kinds of policies that the cluster has not: those of somebody else, Istio's above all, are left as they are. Throws AMB_KUBE_API. */
export async function absentKinds(api: KubeApi): Promise<readonly InstallObject[]> {
  const absent: InstallObject[] = []
  for (const kind of policyKinds())
    if ((await readIfThere(api, kind.resource, kind.target)) === undefined) absent.push(kind)
  return absent
}

/** The Secret with the root that the mesh makes for itself, by its values. */
export function caSecretOf({ controller }: Values): string {
  const { caSecret } = (controller ?? {}) as { readonly caSecret?: unknown }
  return typeof caSecret === 'string' ? caSecret : 'ambit-ca-secret'
}

/** Whether a kind of policies is one that Ambit has brought, and no other mesh. */
export const isOwnKind = (kind: KubeObject): boolean =>
  kind.metadata?.labels?.[PART_OF] === 'ambit' || isApplied(kind)

/** Whether the command has applied it. */
export const isApplied = ({ metadata }: KubeObject): boolean =>
  metadata?.managedFields?.some(({ manager }) => manager === FIELD_MANAGER) === true

/** What is in the cluster of an installation in this namespace, whatever values and version it is of; without the namespace. Throws AMB_KUBE_API. */
export async function labelledObjects(
  api: KubeApi,
  namespace: string,
): Promise<readonly InstallObject[]> {
  const found: InstallObject[] = []
  for (const [kind, [plural, scope, apiVersion]] of Object.entries(RESOURCES)) {
    if (kind === 'Namespace' || kind === 'CustomResourceDefinition') continue
    const resource = resourceOf(apiVersion, plural, kind, scope)
    const listed = await api.list<KubeObject>(resource, {
      labelSelector: `${PART_OF}=ambit,app.kubernetes.io/managed-by=ambit`,
      ...(scope === 'namespaced' && { namespace }),
    })
    // A server without the kind has none of it.
    if (!listed.ok && listed.error.kind === 'notFound') continue
    if (!listed.ok) throw kubeError(listed.error)
    for (const object of listed.value.items) {
      const { name = '', namespace: where } = object.metadata ?? {}
      found.push(asInstallObject(resource, name, where, object))
    }
  }
  return found
}

function installObject({ apiVersion, kind, name, object }: ChartObject): InstallObject {
  const [plural, scope] = RESOURCES[kind] ?? []
  if (plural === undefined || scope === undefined)
    throw new Error(`the chart has a ${kind}, which nobody installs`)
  // A template of the chart: what it says of itself has been read.
  const typed = object as KubeObject
  const resource = resourceOf(apiVersion, plural, kind, scope)
  return asInstallObject(resource, name, typed.metadata?.namespace, typed)
}

function resourceOf(
  apiVersion: string,
  plural: string,
  kind: string,
  scope: 'namespaced' | 'cluster',
): KubeResource {
  const [version = '', group = ''] = apiVersion.split('/').toReversed()
  return defineResource(group, version, plural, kind, scope)
}

function asInstallObject(
  resource: KubeResource,
  name: string,
  namespace: string | undefined,
  object: KubeObject,
): InstallObject {
  return {
    resource,
    target: { name, ...(namespace === undefined ? {} : { namespace }) },
    object,
    title: `${resource.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`,
  }
}
