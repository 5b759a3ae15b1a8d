// SPDX-License-Identifier: Apache-2.0
// Whether what is installed is there, as it was applied, of this version, and ready.

import type { KubeApi, KubeObject } from '../../mesh/kube/index.ts'
import { chartFacts } from '../../daemonset/render/chart.ts'
import { kubeError } from '../waypoint/read-waypoints.ts'
import type { InstallObject } from './objects.ts'
import { meshProgress } from './readiness.ts'

export interface Check {
  readonly what: string
  readonly isWell: boolean
  /** What is wrong; empty where nothing is. */
  readonly why: string
}

/** All checks, in the order of the installation. Throws AMB_KUBE_API where the cluster cannot be asked. */
export async function verify(
  api: KubeApi,
  objects: readonly InstallObject[],
  namespace: string,
): Promise<readonly Check[]> {
  const checks: Check[] = []
  for (const { resource, target, object, title } of objects) {
    const found = await api.get<KubeObject>(resource, target)
    if (!found.ok && found.error.kind !== 'notFound') throw kubeError(found.error)
    checks.push(check(title, found.ok ? difference(object, found.value) : 'it is not there'))
  }
  const { workloads, hanging, unchained } = await meshProgress(api, namespace)
  for (const { title, ready, wanted, isCurrent } of workloads)
    checks.push(
      check(
        `${title} is ready`,
        isCurrent && ready >= wanted ? '' : `${ready} of ${wanted}${isCurrent ? '' : ', updating'}`,
      ),
    )
  checks.push(...hanging.map((why) => check('pods', why)))
  checks.push(...unchained.map((why) => check('CNI', why)))
  return checks
}

const check = (what: string, why: string): Check => ({ what, isWell: why === '', why })

/** The first field that says something else; the server adds more, which is no difference. */
function difference(wanted: KubeObject, found: KubeObject): string {
  const version = found.metadata?.labels?.['app.kubernetes.io/version']
  const { AppVersion } = chartFacts()
  if (version !== undefined && version !== AppVersion)
    return `it is of version ${version}, this command of ${AppVersion}`
  const path = firstDifference(wanted, found, '')
  return path === undefined ? '' : `field ${path} is not what was installed`
}

function firstDifference(wanted: unknown, found: unknown, path: string): string | undefined {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(found) || found.length < wanted.length) return path
    return first(wanted.map((each, at) => firstDifference(each, found[at], `${path}[${at}]`)))
  }
  if (typeof wanted === 'object' && wanted !== null) {
    if (typeof found !== 'object' || found === null)
      return Object.keys(wanted).length === 0 ? undefined : path
    const fields: Readonly<Record<string, unknown>> = { ...found }
    return first(
      Object.entries(wanted).map(([name, value]) =>
        firstDifference(value, fields[name], path === '' ? name : `${path}.${name}`),
      ),
    )
  }
  // Quantities and numbers come back in the server's own form.
  return wanted === found || String(wanted) === String(found) || isQuantityOf(path)
    ? undefined
    : path
}

const first = (paths: readonly (string | undefined)[]): string | undefined =>
  paths.find((path) => path !== undefined)
const isQuantityOf = (path: string): boolean => /\.(requests|limits|hard)\.|sizeLimit/.test(path)
