// SPDX-License-Identifier: Apache-2.0
// The objects of an installation as the API has them: what the chart makes of the values, each with its resource.

import { chartKinds, type ChartObject, renderChart } from '../../daemonset/render/chart.ts'
import { setValues } from '../../daemonset/render/set-values.ts'
import { mergeValues, readValuesFile, type Values } from '../../daemonset/render/values.ts'
import { defineResource, type KubeObject, type KubeResource } from '../../mesh/kube/index.ts'
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

const RESOURCES: Readonly<
  Record<string, readonly [plural: string, scope: 'namespaced' | 'cluster']>
> = {
  Namespace: ['namespaces', 'cluster'],
  ResourceQuota: ['resourcequotas', 'namespaced'],
  ServiceAccount: ['serviceaccounts', 'namespaced'],
  ClusterRole: ['clusterroles', 'cluster'],
  ClusterRoleBinding: ['clusterrolebindings', 'cluster'],
  Role: ['roles', 'namespaced'],
  RoleBinding: ['rolebindings', 'namespaced'],
  Service: ['services', 'namespaced'],
  PodDisruptionBudget: ['poddisruptionbudgets', 'namespaced'],
  Deployment: ['deployments', 'namespaced'],
  DaemonSet: ['daemonsets', 'namespaced'],
  CustomResourceDefinition: ['customresourcedefinitions', 'cluster'],
}

/** The values of files and --set over those that are known already. Throws AMB_CHART_VALUES. */
export function valuesOf(flags: ValueFlags, known: Values = {}): Values {
  const ofFiles = (flags.values ?? []).map(readValuesFile).reduce(mergeValues, known)
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

function installObject({ apiVersion, kind, name, object }: ChartObject): InstallObject {
  const [plural, scope] = RESOURCES[kind] ?? []
  if (plural === undefined || scope === undefined)
    throw new Error(`the chart has a ${kind}, which nobody installs`)
  const [version = '', group = ''] = apiVersion.split('/').toReversed()
  // A template of the chart: what it says of itself has been read.
  const typed = object as KubeObject
  const namespace = typed.metadata?.namespace
  return {
    resource: defineResource(group, version, plural, kind, scope),
    target: { name, ...(namespace === undefined ? {} : { namespace }) },
    object: typed,
    title: `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`,
  }
}
