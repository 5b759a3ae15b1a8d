// SPDX-License-Identifier: Apache-2.0
// Takes the mesh off a cluster. The DaemonSet goes first and alone: each agent that is ended by that gives its node's pods back and takes
// its plugin out, for which it still has its rights. Then everything else goes, what the controller has made included.

import { AmbitError } from '../../mesh/errors.ts'
import { DAEMON_SETS, GATEWAYS, type KubeApi } from '../../mesh/kube/index.ts'
import { kubeError } from '../cluster/kube-reads.ts'
import { awaitEmptied, requireGone } from './await-gone.ts'
import { type MadeObject, madeObjects, markedObjects } from './made-objects.ts'
import {
  FIELD_MANAGER,
  type InstallObject,
  isApplied,
  isOwnKind,
  labelledObjects,
  policyKinds,
} from './objects.ts'
import { valuesConfigMap } from './stored-values.ts'

export interface UninstallOptions {
  readonly namespace: string
  readonly objects: readonly InstallObject[]
  /** The Secret with the root that the mesh has made for itself (controller.caSecret). */
  readonly caSecret: string
  /** The namespace goes, too, with whatever else is in it. */
  readonly takesNamespace: boolean
  /** The kinds of policies go, too, and with them every policy. */
  readonly isPurge: boolean
  readonly isDryRun: boolean
  readonly timeoutMs: number
  readonly report: (line: string) => void
}

/**
 * Throws AMB_INSTALL where nothing is installed, and where agents do not end, before anything else is removed. What helm uninstall, or a kubectl delete
 * of the manifests, has left of what the controller made is taken away as well.
 */
export async function uninstall(api: KubeApi, options: UninstallOptions): Promise<void> {
  const { namespace, report, isDryRun } = options
  const objects = await withOthers(api, options.objects, namespace)
  if (!(await isInstalled(api, objects)) && (await markedObjects(api)).length === 0)
    throw new AmbitError('AMB_INSTALL', `Cannot uninstall: nothing of Ambit is in ${namespace}`)
  const isHelms = await managedByHelm(api, namespace)
  if (isHelms)
    throw new AmbitError(
      'AMB_INSTALL',
      `Cannot uninstall: the mesh in ${namespace} is Helm's (helm uninstall)`,
    )
  const remove = async ({ title, resource, target }: MadeObject): Promise<void> => {
    const found = await api.get(resource, target)
    if (!found.ok && found.error.kind === 'notFound') return
    if (isDryRun) {
      report(`${title} would be removed`)
      return
    }
    const done = await api.delete(resource, target, { propagationPolicy: 'Background' })
    if (!done.ok && done.error.kind !== 'notFound') throw kubeError(done.error)
    report(`${title} removed`)
  }
  const [agents, others] = [
    objects.filter(isDaemonSet),
    objects.filter((each) => !isDaemonSet(each)),
  ]
  for (const item of agents) await remove(item)
  if (!isDryRun) await requireGone(api, 'ambit-agent', options)
  for (const item of others.filter((each) => !isNamespace(each)).toReversed()) await remove(item)
  // Who makes the mesh's objects must not make them anew.
  if (!isDryRun) await requireGone(api, 'ambit-controller', options)
  for (const item of await madeObjects(api, options)) await remove(item)
  await tellGateways(api, report)
  if (options.isPurge) await removeKinds(api, remove, report)
  for (const item of others.filter(isNamespace)) {
    if (options.takesNamespace) await remove(item)
    else {
      if (!isDryRun) await giveUpLabels(api, item)
      report(`${item.title} stays: ambit install has not made it`)
    }
  }
  // It says whether the namespace goes: an uninstallation that was cut off before that is taken up again.
  await remove(valuesConfigMap(namespace))
  if (options.takesNamespace && !isDryRun)
    for (const item of others.filter(isNamespace)) await awaitEmptied(api, item, options)
}

/** Takes off a namespace that stays what ambit install has set there, and nobody else: by applying that it sets nothing. */
async function giveUpLabels(
  api: KubeApi,
  { resource, target, object }: InstallObject,
): Promise<void> {
  const found = await api.get(resource, target)
  if (!found.ok || !isApplied(found.value)) return
  const { apiVersion, kind } = object
  const nothing = { apiVersion, kind, metadata: target }
  const done = await api.patch(resource, target, nothing, {
    type: 'apply',
    fieldManager: FIELD_MANAGER,
    force: true,
  })
  if (!done.ok && done.error.kind !== 'notFound') throw kubeError(done.error)
}

/** With what the cluster has of an installation by other values, or of another version: its labels say so. */
async function withOthers(
  api: KubeApi,
  objects: readonly InstallObject[],
  namespace: string,
): Promise<readonly InstallObject[]> {
  const known = new Set(objects.map(({ title }) => title))
  const labelled = await labelledObjects(api, namespace)
  return [...objects, ...labelled.filter(({ title }) => !known.has(title))]
}

/** Policies of a kind that another mesh has brought are that mesh's. */
async function removeKinds(
  api: KubeApi,
  remove: (item: MadeObject) => Promise<void>,
  report: (line: string) => void,
): Promise<void> {
  for (const item of policyKinds()) {
    const found = await api.get(item.resource, item.target)
    if (found.ok && !isOwnKind(found.value))
      report(`${item.title} stays, with its policies: it is none that Ambit has brought`)
    else await remove(item)
  }
}

const isDaemonSet = ({ resource }: InstallObject): boolean => resource.kind === 'DaemonSet'
const isNamespace = ({ resource }: InstallObject): boolean => resource.kind === 'Namespace'

/** Where it is not, what bears a name of Istio's is another mesh's. */
async function isInstalled(api: KubeApi, objects: readonly InstallObject[]): Promise<boolean> {
  const found = await Promise.all(
    objects
      .filter((each) => !isNamespace(each))
      .map(({ resource, target }) => api.get(resource, target)),
  )
  return found.some(({ ok }) => ok)
}

async function managedByHelm(api: KubeApi, namespace: string): Promise<boolean> {
  const found = await api.get(DAEMON_SETS, { namespace, name: 'ambit-agent' })
  return found.ok && found.value.metadata?.labels?.['app.kubernetes.io/managed-by'] === 'Helm'
}

/** Gateways are somebody's: their waypoints' pods run on, and serve nobody. */
async function tellGateways(api: KubeApi, report: (line: string) => void): Promise<void> {
  const gateways = await api.list(GATEWAYS)
  for (const { metadata, spec } of gateways.ok ? gateways.value.items : []) {
    const { gatewayClassName } = (spec ?? {}) as { readonly gatewayClassName?: unknown }
    if (gatewayClassName === 'ambit-waypoint')
      report(
        `Gateway ${metadata?.namespace ?? ''}/${metadata?.name ?? ''} stays, with its waypoint: delete it where nobody wants it`,
      )
  }
}
