// SPDX-License-Identifier: Apache-2.0
// Installs and upgrades: looks first, applies, waits, and takes everything back when any of it fails.

import type { Values } from '../../daemonset/render/values.ts'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { type KubeApi, NAMESPACES } from '../../mesh/kube/index.ts'
import { awaitEmptied, awaitGone } from './await-gone.ts'
import { awaitReady } from './await-ready.ts'
import { Journal } from './journal.ts'
import { madeObjects } from './made-objects.ts'
import { absentKinds, caSecretOf, type InstallObject, labelledObjects } from './objects.ts'
import { patientApi } from './patient-api.ts'
import { preflight } from './preflight.ts'
import { readInstallation, storedInstallation } from './stored-values.ts'

export interface InstallPlan {
  readonly namespace: string
  readonly objects: readonly InstallObject[]
  /** As a person has given them, to be kept. */
  readonly given: Values
  /** With the chart's own. */
  readonly used: Values
}

export interface InstallOptions {
  readonly timeoutMs: number
  readonly isDryRun: boolean
  readonly ignoresPreflight: boolean
  readonly report: (line: string) => void
  readonly signal?: AbortSignal | undefined
}

/** An agent's drain, and what it does besides, before what it needs for that is taken away. */
const GONE_TIMEOUT_MS = 120_000

/** Brings the cluster to what the plan says. Throws AMB_INSTALL, AMB_KUBE_API; then everything is as it was, or the error says what is not. */
export async function install(
  api: KubeApi,
  plan: InstallPlan,
  options: InstallOptions,
): Promise<void> {
  const { report, signal } = options
  await requireFit(api, plan, options)
  const all = [
    ...(await absentKinds(api)),
    ...plan.objects,
    storedInstallation(plan.namespace, {
      values: plan.given,
      hasMadeNamespace: await makesNamespace(api, plan.namespace),
    }),
  ]
  const stale = await staleObjects(api, plan)
  if (options.isDryRun) {
    for (const { resource, target, title } of all) {
      const found = await api.get(resource, target)
      report(`${title} would be ${found.ok ? 'applied' : 'created'}`)
    }
    for (const { title } of stale) report(`${title} would be removed`)
    return
  }
  const journal = new Journal()
  const made = new Set((await madeObjects(api, makerOf(plan))).map(({ title }) => title))
  let areAgentsNew = false
  try {
    const applying = patientApi(api, { report, signal })
    for (const item of all) {
      signal?.throwIfAborted()
      const done = await journal.apply(applying, item)
      areAgentsNew ||= done === 'created' && item.resource.kind === 'DaemonSet'
      report(`${item.title} ${done}`)
    }
    const waiting = patientApi(api, { report, signal, forMs: options.timeoutMs })
    await awaitReady(waiting, { ...options, namespace: plan.namespace, areAgentsNew })
  } catch (thrown) {
    report('taking it back; who ends this as well leaves it half done')
    const left = await takeBack(api, { ...options, journal, made, plan })
    const rest =
      left.length === 0 ? 'everything is as it was before' : `not taken back: ${left.join('; ')}`
    // Of whatever it was that the signal has ended, nobody wants to know.
    const cause: unknown = signal?.aborted === true ? signal.reason : thrown
    throw new AmbitError('AMB_INSTALL', `Cannot install: ${errorMessage(cause)}; ${rest}`, {
      cause,
    })
  }
  await removeStale(api, stale, report)
}

const makerOf = ({ namespace, used }: InstallPlan): Parameters<typeof madeObjects>[1] => ({
  namespace,
  caSecret: caSecretOf(used),
})

/** Gives what could not be taken back. */
async function takeBack(
  api: KubeApi,
  {
    journal,
    made,
    plan,
    report,
    timeoutMs,
  }: {
    readonly journal: Journal
    /** What a controller had made before this one. */
    readonly made: ReadonlySet<string>
    readonly plan: InstallPlan
    readonly report: (line: string) => void
    readonly timeoutMs: number
  },
): Promise<readonly string[]> {
  const { namespace } = plan
  const patient = patientApi(api, { report })
  const gone = { namespace, timeoutMs: Math.min(timeoutMs, GONE_TIMEOUT_MS), report }
  const removed = async (item: InstallObject): Promise<readonly string[]> => {
    switch (item.resource.kind) {
      case 'DaemonSet':
        // Each takes the mesh off its node, for which it still needs its rights.
        return (await awaitGone(patient, 'ambit-agent', gone)).map(unended)
      case 'Deployment':
        return [
          ...(await awaitGone(patient, 'ambit-controller', gone)).map(unended),
          ...(await removeMade(patient, { made, plan, report })),
        ]
      case 'Namespace':
        return (await awaitEmptied(patient, item, gone)) ? [] : [`${item.title} is still ending`]
      default:
        return []
    }
  }
  return journal.rollBack(patient, {
    report,
    removed: (item) =>
      removed(item).catch((thrown: unknown) => [`${item.title}: ${errorMessage(thrown)}`]),
  })
}

const unended = (pod: string): string => `still ending: pod ${pod}`

/** What the controller of this installation has made: not what there was before it. */
async function removeMade(
  api: KubeApi,
  {
    made,
    plan,
    report,
  }: {
    readonly made: ReadonlySet<string>
    readonly plan: InstallPlan
    readonly report: (line: string) => void
  },
): Promise<readonly string[]> {
  const left: string[] = []
  for (const { title, resource, target } of await madeObjects(api, makerOf(plan))) {
    if (made.has(title)) continue
    const done = await api.delete(resource, target, { propagationPolicy: 'Background' })
    if (done.ok || done.error.kind === 'notFound') report(`${title} removed`)
    else left.push(`${title}: ${done.error.message}`)
  }
  return left
}

/** What an installation by other values, or of another version, has and this one has not. */
async function staleObjects(api: KubeApi, plan: InstallPlan): Promise<readonly InstallObject[]> {
  const wanted = new Set(plan.objects.map(({ title }) => title))
  const labelled = await labelledObjects(api, plan.namespace)
  return labelled.filter(({ title }) => !wanted.has(title)).toReversed()
}

/** The mesh is ready without them: one that stays is no failure of the installation. */
async function removeStale(
  api: KubeApi,
  stale: readonly InstallObject[],
  report: (line: string) => void,
): Promise<void> {
  for (const { title, resource, target, object } of stale) {
    const uid = object.metadata?.uid
    const done = await api.delete(resource, target, {
      propagationPolicy: 'Background',
      ...(uid === undefined ? {} : { uid }),
    })
    report(
      done.ok || done.error.kind === 'notFound'
        ? `${title} removed`
        : `warning: ${title} is of an installation before this one and stays: ${done.error.message}`,
    )
  }
}

async function requireFit(api: KubeApi, plan: InstallPlan, options: InstallOptions): Promise<void> {
  const findings = await preflight(api, { ...plan, values: plan.used })
  for (const { severity, what } of findings) options.report(`${severity}: ${what}`)
  const errors = findings.filter(({ severity }) => severity === 'error')
  if (errors.length === 0 || options.ignoresPreflight) return
  throw new AmbitError(
    'AMB_INSTALL',
    `Cannot install: ${errors.map(({ what }) => what).join('; ')}`,
  )
}

/** Whether the namespace is the mesh's own: not there before this installation, or before the one that this follows. */
async function makesNamespace(api: KubeApi, namespace: string): Promise<boolean> {
  const found = await api.get(NAMESPACES, { name: namespace })
  if (!found.ok) return found.error.kind === 'notFound'
  return (await readInstallation(api, namespace))?.hasMadeNamespace === true
}
