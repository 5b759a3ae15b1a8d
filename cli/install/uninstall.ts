// SPDX-License-Identifier: Apache-2.0
// Takes the mesh off a cluster. The DaemonSet goes first and alone: each agent that is ended by that gives its node's pods back and takes
// its plugin out, for which it still has its rights. Then everything else goes, what the controller has made included.

import { setTimeout as pause } from 'node:timers/promises'
import { AmbitError } from '../../mesh/errors.ts'
import {
  CERTIFICATE_SIGNING_REQUESTS,
  CLUSTER_TRUST_BUNDLES,
  CONFIG_MAPS,
  DAEMON_SETS,
  GATEWAY_CLASSES,
  GATEWAYS,
  type KubeApi,
  type KubeFailure,
  LEASES,
  NODES,
  type KubeResource,
  type ObjectName,
  type Pod,
  PODS,
  SECRETS,
} from '../../mesh/kube/index.ts'
import { ROOT_LABEL, WAYPOINT_CONTROLLER } from '../../mesh/model/names.ts'
import type { Result } from '../../mesh/result.ts'
import { kubeError } from '../waypoint/read-waypoints.ts'
import { type InstallObject, policyKinds } from './objects.ts'
import { VALUES_CONFIG_MAP } from './stored-values.ts'

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

const POLL_MS = 500

/**
 * Throws AMB_INSTALL where nothing is installed, and where agents do not end, before anything else is removed. What helm uninstall, or a kubectl delete
 * of the manifests, has left of what the controller made is taken away as well.
 */
export async function uninstall(api: KubeApi, options: UninstallOptions): Promise<void> {
  const { namespace, objects, report, isDryRun } = options
  if (!(await isInstalled(api, objects)) && !(await hasLeftSomething(api)))
    throw new AmbitError('AMB_INSTALL', `Cannot uninstall: nothing of Ambit is in ${namespace}`)
  const isHelms = await managedByHelm(api, namespace)
  if (isHelms)
    throw new AmbitError(
      'AMB_INSTALL',
      `Cannot uninstall: the mesh in ${namespace} is Helm's (helm uninstall)`,
    )
  const remove = async (
    title: string,
    resource: KubeResource,
    target: ObjectName,
  ): Promise<void> => {
    const found = await api.get(resource, target)
    if (!found.ok && isAbsent(found.error)) return
    if (isDryRun) {
      report(`${title} would be removed`)
      return
    }
    const done = await api.delete(resource, target, { propagationPolicy: 'Background' })
    if (!done.ok && !isAbsent(done.error)) throw kubeError(done.error)
    report(`${title} removed`)
  }
  const [agents, others] = [
    objects.filter(isDaemonSet),
    objects.filter((each) => !isDaemonSet(each)),
  ]
  for (const { title, resource, target } of agents) await remove(title, resource, target)
  if (!isDryRun) await awaitGone(api, 'ambit-agent', options)
  for (const { title, resource, target } of others
    .filter((each) => !isNamespace(each))
    .toReversed())
    await remove(title, resource, target)
  // Who makes the mesh's objects must not make them anew.
  if (!isDryRun) await awaitGone(api, 'ambit-controller', options)
  await removeMade(api, options, remove)
  await tellGateways(api, report)
  if (options.isPurge)
    for (const { title, resource, target } of policyKinds()) await remove(title, resource, target)
  for (const item of others.filter(isNamespace)) {
    const { title, resource, target } = item
    if (options.takesNamespace) await remove(title, resource, target)
    else report(`${title} stays: ambit install has not made it`)
    if (options.takesNamespace && !isDryRun) await awaitEmptied(api, item, options)
  }
}

/** A namespace is gone once everything in it is: until then nothing can be installed there again. */
async function awaitEmptied(
  api: KubeApi,
  { title, resource, target }: InstallObject,
  { timeoutMs, report }: UninstallOptions,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const found = await api.get(resource, target)
    if (!found.ok && isAbsent(found.error)) return
    if (performance.now() > deadline) {
      report(`${title} is still ending: something in it has not ended`)
      return
    }
    await pause(POLL_MS)
  }
}

const isDaemonSet = ({ resource }: InstallObject): boolean => resource.kind === 'DaemonSet'
const isNamespace = ({ resource }: InstallObject): boolean => resource.kind === 'Namespace'
const isAbsent = ({ kind }: KubeFailure): boolean => kind === 'notFound'

/** Where it is not, what bears a name of Istio's is another mesh's. */
async function isInstalled(api: KubeApi, objects: readonly InstallObject[]): Promise<boolean> {
  const found = await Promise.all(
    objects
      .filter((each) => !isNamespace(each))
      .map(({ resource, target }) => api.get(resource, target)),
  )
  return found.some(({ ok }) => ok)
}

/** Whether anything is there that bears our mark and that the controller of an installation made which is gone. */
async function hasLeftSomething(api: KubeApi): Promise<boolean> {
  const roots = must(await api.list(CONFIG_MAPS, { labelSelector: ROOT_LABEL }))
  if (roots.items.length > 0) return true
  for (const version of CLUSTER_TRUST_BUNDLES) {
    const bundles = await api.list(version, { labelSelector: ROOT_LABEL })
    if (bundles.ok && bundles.value.items.length > 0) return true
  }
  return (await ourClasses(api)).length > 0
}

async function ourClasses(api: KubeApi): Promise<readonly string[]> {
  const classes = await api.list(GATEWAY_CLASSES)
  return (classes.ok ? classes.value.items : []).flatMap(({ metadata, spec }) => {
    const { controllerName } = (spec ?? {}) as { readonly controllerName?: unknown }
    return controllerName === WAYPOINT_CONTROLLER ? [metadata?.name ?? ''] : []
  })
}

async function managedByHelm(api: KubeApi, namespace: string): Promise<boolean> {
  const found = await api.get(DAEMON_SETS, { namespace, name: 'ambit-agent' })
  return found.ok && found.value.metadata?.labels?.['app.kubernetes.io/managed-by'] === 'Helm'
}

/**
 * Waits for pods to end, agents within their drain. One whose node is off never ends, and its node keeps what is there: that is said, and
 * nothing that comes later is removed.
 */
async function awaitGone(
  api: KubeApi,
  app: string,
  { namespace, timeoutMs, report }: UninstallOptions,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  let told = -1
  for (;;) {
    const pods = must(await api.list(PODS, { namespace, labelSelector: `app=${app}` })).items
    if (pods.length === 0) return
    if (pods.length !== told) report(`${pods.length} pods of ${app} are ending`)
    told = pods.length
    if (performance.now() > deadline) {
      const where = await standingOf(api, pods)
      throw new AmbitError(
        'AMB_INSTALL',
        `Cannot uninstall: pods of ${app} have not ended after ${Math.round(timeoutMs / 1000)} s: ${where.join('; ')}`,
      )
    }
    await pause(POLL_MS)
  }
}

async function standingOf(api: KubeApi, pods: readonly Pod[]): Promise<readonly string[]> {
  const nodes = must(await api.list(NODES)).items
  return pods.map(({ metadata, spec }) => {
    const node = nodes.find((each) => each.metadata?.name === spec?.nodeName)
    const isReady = node?.status?.conditions?.some(
      ({ type, status }) => type === 'Ready' && status === 'True',
    )
    const state = isReady === true ? '' : ', which is not ready'
    return `${metadata?.name ?? ''} on ${spec?.nodeName ?? 'no node'}${state}`
  })
}

/** What the controller has made by itself, and the command; what it had under way when it was ended, too. Waypoints' objects are their Gateways'. */
async function removeMade(
  api: KubeApi,
  { namespace, caSecret }: UninstallOptions,
  remove: (title: string, resource: KubeResource, target: ObjectName) => Promise<void>,
): Promise<void> {
  // By our label: by their name they might be another mesh's.
  const roots = must(await api.list(CONFIG_MAPS, { labelSelector: ROOT_LABEL }))
  for (const { metadata: { namespace: where = '', name = '' } = {} } of roots.items)
    await remove(`ConfigMap ${where}/${name}`, CONFIG_MAPS, { namespace: where, name })
  for (const version of CLUSTER_TRUST_BUNDLES) {
    const bundles = await api.list(version, { labelSelector: ROOT_LABEL })
    if (!bundles.ok && isAbsent(bundles.error)) continue
    for (const { metadata: { name = '' } = {} } of must(bundles).items)
      await remove(`ClusterTrustBundle ${name}`, version, { name })
    break
  }
  for (const name of await ourClasses(api))
    await remove(`GatewayClass ${name}`, GATEWAY_CLASSES, { name })
  const requests = await api.list(CERTIFICATE_SIGNING_REQUESTS, {
    labelSelector: 'app.kubernetes.io/managed-by=ambit-controller',
  })
  for (const { metadata: { name = '' } = {} } of requests.ok ? requests.value.items : [])
    await remove(`CertificateSigningRequest ${name}`, CERTIFICATE_SIGNING_REQUESTS, { name })
  await remove(`Secret ${namespace}/${caSecret}`, SECRETS, { namespace, name: caSecret })
  await remove(`Lease ${namespace}/ambit-controller`, LEASES, {
    namespace,
    name: 'ambit-controller',
  })
  await remove(`ConfigMap ${namespace}/${VALUES_CONFIG_MAP}`, CONFIG_MAPS, {
    namespace,
    name: VALUES_CONFIG_MAP,
  })
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

function must<T>(result: Result<T, KubeFailure>): T {
  if (result.ok) return result.value
  throw kubeError(result.error)
}
