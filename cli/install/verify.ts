// SPDX-License-Identifier: Apache-2.0
// Whether what is installed is there, as it was applied, of this version, and ready.

import { AmbitError } from '../../mesh/errors.ts'
import { DAEMON_SETS, DEPLOYMENTS, type KubeApi, type KubeObject } from '../../mesh/kube/index.ts'
import { chartFacts } from '../../daemonset/render/chart.ts'
import { readIfThere } from '../cluster/kube-reads.ts'
import { type InstallObject, policyKinds } from './objects.ts'
import { meshProgress, NOWHERE } from './readiness.ts'
import { refusedPods } from './refused-pods.ts'

export interface Check {
  readonly what: string
  readonly isWell: boolean
  /** What is wrong; empty where nothing is. */
  readonly why: string
}

const REMEDY = 'ambit upgrade puts it right'

/** All checks, in the order of the installation. Throws AMB_KUBE_API where the cluster cannot be asked. */
export async function verify(
  api: KubeApi,
  objects: readonly InstallObject[],
  namespace: string,
): Promise<readonly Check[]> {
  const checks = await kindChecks(api, `it is not there: ${REMEDY}`)
  for (const { resource, target, object, title } of objects) {
    const found = await readIfThere(api, resource, target)
    const why = found === undefined ? 'it is not there' : difference(object, found)
    checks.push(check(title, why === '' ? '' : `${why}: ${REMEDY}`))
  }
  return [...checks, ...(await runningChecks(api, namespace))]
}

/** Of what Helm or kubectl has installed: by which values, nobody here knows. Throws AMB_INSTALL where nothing is. */
export async function verifyOthers(api: KubeApi, namespace: string): Promise<readonly Check[]> {
  const checks = await kindChecks(api, 'it is not there')
  for (const [resource, name] of [
    [DAEMON_SETS, 'ambit-agent'],
    [DEPLOYMENTS, 'ambit-controller'],
  ] as const) {
    const found = await readIfThere(api, resource, { namespace, name })
    const title = `${resource.kind} ${namespace}/${name}`
    checks.push(check(title, found === undefined ? 'it is not there' : otherVersion(found)))
    if (found === undefined && resource === DAEMON_SETS)
      throw new AmbitError('AMB_INSTALL', `Nothing of Ambit is installed in namespace ${namespace}`)
  }
  return [...checks, ...(await runningChecks(api, namespace))]
}

/** Of the kinds of policies; `absent`: what is said of one that the cluster has not. */
async function kindChecks(api: KubeApi, absent: string): Promise<Check[]> {
  const checks: Check[] = []
  for (const { resource, target, title } of policyKinds()) {
    const found = await readIfThere(api, resource, target)
    checks.push(check(title, found === undefined ? absent : ''))
  }
  return checks
}

async function runningChecks(api: KubeApi, namespace: string): Promise<readonly Check[]> {
  const { workloads, hanging, unchained, isReady } = await meshProgress(api, namespace)
  const refused = isReady ? [] : await refusedPods(api, namespace)
  return [
    ...workloads.map(({ title, ready, wanted, isCurrent }) =>
      check(
        `${title} is ready`,
        wanted === 0
          ? NOWHERE
          : isCurrent && ready >= wanted
            ? ''
            : `${ready} of ${wanted}${isCurrent ? '' : ', updating'}`,
      ),
    ),
    ...[...refused, ...hanging].map((why) => check('pods', why)),
    ...unchained.map((why) => check('CNI', why)),
  ]
}

const check = (what: string, why: string): Check => ({ what, isWell: why === '', why })

function otherVersion(found: KubeObject): string {
  const version = found.metadata?.labels?.['app.kubernetes.io/version']
  const { AppVersion } = chartFacts()
  return version === undefined || version === AppVersion
    ? ''
    : `it is of version ${version}, this command of ${AppVersion}`
}

/** The first field that says something else; the server adds more fields, which is no difference, but nothing to a list. */
function difference(wanted: KubeObject, found: KubeObject): string {
  const version = otherVersion(found)
  if (version !== '') return version
  const path = firstDifference(wanted, found, '')
  return path === undefined ? '' : `field ${path} is not what was installed`
}

function firstDifference(wanted: unknown, found: unknown, path: string): string | undefined {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(found)) return path
    const changed = first(
      wanted.map((each, at) => firstDifference(each, found[at], `${path}[${at}]`)),
    )
    return changed ?? (found.length > wanted.length ? `${path}[${wanted.length}]` : undefined)
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
  if (wanted === found || String(wanted) === String(found)) return undefined
  // They come back in the server's own form.
  const quantity = isQuantityOf(path) ? quantityOf(wanted) : undefined
  return quantity !== undefined && quantity === quantityOf(found) ? undefined : path
}

const first = (paths: readonly (string | undefined)[]): string | undefined =>
  paths.find((path) => path !== undefined)
const isQuantityOf = (path: string): boolean => /\.(requests|limits|hard)\.|sizeLimit/.test(path)

const SUFFIXES: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
}

/** How much a quantity of Kubernetes is, to nine digits behind the point; undefined where it is none. */
function quantityOf(value: unknown): string | undefined {
  const [, number = '', suffix = ''] =
    /^([0-9.]+(?:[eE][0-9]+)?)([A-Za-z]*)$/.exec(String(value)) ?? []
  const factor = SUFFIXES[suffix]
  return number === '' || factor === undefined
    ? undefined
    : (Number(number) * factor).toPrecision(12)
}
