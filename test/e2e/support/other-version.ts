// SPDX-License-Identifier: Apache-2.0
// Another version of Ambit, as a built checkout of it, whose controller, agents and waypoints a lab runs: each version brings its own
// chart, programs and plugin, as its image would.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../../../lab/cluster/index.ts'
import { records } from '../../../lab/kubernetes/objects/json.ts'
import { command } from '../../../lab/machine/command.ts'
import { parseManifests } from '../../../lab/machine/manifests.ts'
import {
  DAEMON_SETS,
  DEPLOYMENTS,
  type KubeObject,
  type KubeResource,
  type Pod,
  PODS,
} from '../../../mesh/kube/index.ts'
import { objectsIn } from './objects.ts'

/** Names the checkout. */
const VARIABLE = 'AMBIT_PREVIOUS'
/** What a build makes, and a version cannot do without. */
const BUILT = ['bpf/build/capture.bpf.o', 'native/build/ambit-cni', 'node_modules']

export interface Version {
  /** For people. */
  readonly name: string
  /** Where its checkout is. */
  readonly root: string
}

/** This one. */
export const PRESENT: Version = {
  name: 'this version',
  root: fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, ''),
}

/** The one that AMBIT_PREVIOUS names; ask missingPrevious() first. */
export const previousVersion = (): Version => ({
  name: 'the previous version',
  root: process.env[VARIABLE] ?? '',
})

/** For tap's `skip` option: why there is no previous version. */
export function missingPrevious(): string | false {
  const root = process.env[VARIABLE]
  if (root === undefined)
    return `${VARIABLE} names no built checkout of an earlier version (CONTRIBUTING, "With an earlier version")`
  const absent = BUILT.filter((path) => !existsSync(join(root, path)))
  return absent.length > 0 && `${VARIABLE}=${root} is not built: it lacks ${absent.join(', ')}`
}

type Fields = Readonly<Record<string, unknown>>

/** What a version would have in this lab. */
interface Mesh {
  /** Kinds that the cluster lacks. */
  readonly kinds: readonly Fields[]
  /** Its objects, as its own chart has them. */
  readonly objects: readonly Fields[]
}

/** Run in the checkout by the same Node: the version's own chart and lab know its flags, mounts and capabilities. */
const PRINT_MESH = `
  const [root, kubeconfig, name] = process.argv.slice(1)
  const of = (file) => import(root + '/' + file)
  const { absentKinds, meshManifests } = await of('lab/cluster/mesh.ts')
  const { labLayout } = await of('lab/machine/layout.ts')
  const { createKubeApi, loadKubeConfig } = await of('mesh/kube/index.ts')
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const objects = (manifests) => manifests.map(({ object }) => object)
  const kinds = objects(await absentKinds(createKubeApi(access.value)))
  console.log(JSON.stringify({ kinds, objects: objects(await meshManifests(labLayout(name))) }))
  process.exit(0)
`

async function meshOf(lab: Lab, { root }: Version): Promise<Mesh> {
  const script = ['--input-type=module', '--eval', PRINT_MESH, root, lab.kubeconfig, lab.name]
  return JSON.parse(await command([process.execPath, ...script])) as Mesh
}

/** Defines the kinds that a version reads, as far as the cluster lacks them. */
export async function installKinds(lab: Lab, version: Version): Promise<void> {
  await apply(lab, (await meshOf(lab, version)).kinds)
}

/** Brings rights to a version, and leaves all programs as they are. */
export async function installRights(lab: Lab, version: Version): Promise<void> {
  const { objects } = await meshOf(lab, version)
  await apply(
    lab,
    objects.filter((each) => !isWorkload(each)),
  )
}

/** Brings controller and agents to a version, and leaves their rights as they are. */
export async function installPrograms(lab: Lab, version: Version, drainS: number): Promise<void> {
  const { objects } = await meshOf(lab, version)
  const workloads = objects.filter(isWorkload)
  await apply(
    lab,
    workloads.map((each) => (isAgents(each) ? patient(each, drainS) : each)),
  )
}

/** Brings kinds, rights and the controller to a version: all but the agents. */
export async function installController(lab: Lab, version: Version): Promise<void> {
  const { kinds, objects } = await meshOf(lab, version)
  await apply(lab, [...kinds, ...objects.filter((each) => !isAgents(each))])
}

/** Brings the agents to a version. They may let connections end for so many seconds. */
export async function installAgents(lab: Lab, version: Version, drainS: number): Promise<void> {
  const { objects } = await meshOf(lab, version)
  await apply(
    lab,
    objects.filter(isAgents).map((each) => patient(each, drainS)),
  )
}

const isAgents = ({ kind }: Fields): boolean => kind === 'DaemonSet'
const isWorkload = ({ kind }: Fields): boolean => WORKLOADS.some((each) => each.kind === kind)

/** More than the drain, for the rest of the end. Seconds. */
const REST_S = 5

function patient(agents: Fields, drainS: number): Fields {
  const changed = structuredClone(agents) as {
    readonly spec: { readonly template: { readonly spec: Record<string, unknown> } }
  }
  const { spec } = changed.spec.template
  spec['terminationGracePeriodSeconds'] = drainS + REST_S
  spec['containers'] = records(spec['containers']).map((container) => ({
    ...container,
    args: (container['args'] as readonly string[]).map((word) =>
      word.replace(/^--drain-deadline=\d+$/, `--drain-deadline=${drainS}`),
    ),
  }))
  return changed
}

/**
 * As Helm does it: what the object of the other version had and this one has not goes, with what the API server had made of it. After a
 * server-side apply the lab's own server keeps its defaults.
 */
async function apply(lab: Lab, items: readonly Fields[]): Promise<void> {
  const fresh: Fields[] = []
  for (const item of items) if (!(await replace(lab, item))) fresh.push(item)
  const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: fresh })
  await lab.applyManifests(parseManifests(list, 'mesh'))
}

const WORKLOADS: readonly KubeResource[] = [DEPLOYMENTS, DAEMON_SETS]

/** Puts a workload in the place of the one that is there; false where none is, or it is no workload. */
async function replace(lab: Lab, item: Fields): Promise<boolean> {
  const resource = WORKLOADS.find(({ kind }) => kind === item['kind'])
  const { namespace = '', name = '' } = (item as KubeObject).metadata ?? {}
  if (resource === undefined) return false
  const found = await lab.api.get(resource, { namespace, name })
  if (!found.ok && found.error.kind === 'notFound') return false
  if (!found.ok) throw new Error(found.error.message)
  // Whatever its status became meanwhile.
  const put = await lab.api.update(resource, item)
  if (!put.ok) throw new Error(put.error.message)
  return true
}

/** Whether the pod runs that checkout. */
export function isOf({ root }: Version, pod: Pod): boolean {
  const command = pod.spec?.containers[0]?.command ?? []
  return command.some((word) => word.includes(`${root}/cli/bin/ambit`))
}

function isFit({ status }: Pod): boolean {
  return (
    status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true
  )
}

/** Whether it was told to end. */
export function isGoing({ metadata }: Pod): boolean {
  return metadata?.deletionTimestamp !== undefined
}

/** Waits until every pod of this kind that stays is of the version, and ready. */
export async function areOf(
  lab: Lab,
  what: string,
  namespace: string,
  label: string,
  version: Version,
  count: number,
  patienceMs: number,
): Promise<void> {
  await lab.waitFor(
    `${what} of ${version.name}`,
    async () => {
      const staying = (await objectsIn(lab, PODS, namespace, label)).filter((pod) => !isGoing(pod))
      const isDone =
        staying.length === count && staying.every((pod) => isOf(version, pod) && isFit(pod))
      return isDone ? true : undefined
    },
    patienceMs,
  )
}
