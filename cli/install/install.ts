// SPDX-License-Identifier: Apache-2.0
// Installs and upgrades: looks first, applies, waits, and takes everything back when any of it fails.

import type { Values } from '../../daemonset/render/values.ts'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { type KubeApi, NAMESPACES } from '../../mesh/kube/index.ts'
import { awaitReady } from './await-ready.ts'
import { Journal } from './journal.ts'
import { type InstallObject, policyKinds } from './objects.ts'
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

/** Brings the cluster to what the plan says. Throws AMB_INSTALL, AMB_KUBE_API; then everything is as it was, or the error says what is not. */
export async function install(
  api: KubeApi,
  plan: InstallPlan,
  options: InstallOptions,
): Promise<void> {
  const { report } = options
  await requireFit(api, plan, options)
  const all = [
    ...(await absentKinds(api)),
    ...plan.objects,
    storedInstallation(plan.namespace, {
      values: plan.given,
      hasMadeNamespace: await makesNamespace(api, plan.namespace),
    }),
  ]
  if (options.isDryRun) {
    for (const { resource, target, title } of all) {
      const found = await api.get(resource, target)
      report(`${title} would be ${found.ok ? 'applied' : 'created'}`)
    }
    return
  }
  const journal = new Journal(api)
  let areAgentsNew = false
  try {
    for (const item of all) {
      options.signal?.throwIfAborted()
      const done = await journal.apply(item)
      areAgentsNew ||= done === 'created' && item.resource.kind === 'DaemonSet'
      report(`${item.title} ${done}`)
    }
    await awaitReady(api, { ...options, namespace: plan.namespace, areAgentsNew })
  } catch (thrown) {
    report('taking it back')
    const left = await journal.rollBack(report)
    const rest =
      left.length === 0 ? 'everything is as it was before' : `not taken back: ${left.join('; ')}`
    throw new AmbitError('AMB_INSTALL', `Cannot install: ${errorMessage(thrown)}; ${rest}`, {
      cause: thrown,
    })
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

/** Those of somebody else, Istio's above all, are left as they are. */
async function absentKinds(api: KubeApi): Promise<readonly InstallObject[]> {
  const absent: InstallObject[] = []
  for (const kind of policyKinds()) {
    const found = await api.get(kind.resource, kind.target)
    if (!found.ok && found.error.kind === 'notFound') absent.push(kind)
  }
  return absent
}

/** Whether the namespace is the mesh's own: not there before this installation, or before the one that this follows. */
async function makesNamespace(api: KubeApi, namespace: string): Promise<boolean> {
  const found = await api.get(NAMESPACES, { name: namespace })
  if (!found.ok) return found.error.kind === 'notFound'
  return (await readInstallation(api, namespace))?.hasMadeNamespace === true
}
