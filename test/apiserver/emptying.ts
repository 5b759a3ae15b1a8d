// SPDX-License-Identifier: Apache-2.0
// A true server serves the stories of a file one after the other: what is there before each, and how what it made goes.

import { BUILT_IN_TYPES } from '../../lab/kubernetes/objects/resource-types.ts'
import type { KubeApi } from '../../mesh/kube/api.ts'
import { until } from '../support/until.ts'
import { resourceOf, target } from './api-under-test.ts'

/** A namespace with all in it goes by itself, step by step. */
const EMPTY_WITHIN_MS = 30_000
const CRDS = 'customresourcedefinitions.apiextensions.k8s.io'
/** Of these a server keeps its own: it makes them again, or they are not ours to judge. */
const KEPT = new Set(['events', 'leases.coordination.k8s.io'])

/** Every namespace gets an account and the root: what is made again whenever it is taken away is part of the empty cluster. */
export async function untilFurnished(api: KubeApi): Promise<void> {
  await until(async () => {
    const spaces = await api.list(resourceOf('namespaces'), {})
    if (!spaces.ok) throw new Error(spaces.error.message)
    const answers = await Promise.all(
      spaces.value.items.flatMap(({ metadata }) => [
        api.get(resourceOf('serviceaccounts'), target(metadata?.name, 'default')),
        api.get(resourceOf('configmaps'), target(metadata?.name, 'kube-root-ca.crt')),
      ]),
    )
    return answers.every((answer) => answer.ok)
  }, 'the controllers to furnish every namespace')
}

/** Of every object that is there. */
export async function uids(api: KubeApi): Promise<ReadonlySet<string>> {
  const seen = new Set<string>()
  for (const type of BUILT_IN_TYPES) {
    const found = await api.list(type, {})
    if (found.ok) for (const { metadata } of found.value.items) seen.add(metadata?.uid ?? '')
  }
  return seen
}

/** Takes away what a story has made: namespaces with all in them, and the rest without grace. */
export async function empty(api: KubeApi, before: ReadonlySet<string>): Promise<void> {
  let left: readonly string[] = []
  await until(
    async () => {
      left = await takeAway(api, before)
      return left.length === 0
    },
    () => `a story to leave nothing; it leaves ${left.join(', ')}`,
    EMPTY_WITHIN_MS,
  )
}

/** Asks for all to be deleted that is there and was not before; what that was. */
async function takeAway(api: KubeApi, before: ReadonlySet<string>): Promise<readonly string[]> {
  const left: string[] = []
  for (const type of BUILT_IN_TYPES.toSorted((one, other) => rank(one.id) - rank(other.id))) {
    if (KEPT.has(type.id)) continue
    const found = await api.list(type, {})
    if (!found.ok) continue
    for (const { metadata = {} } of found.value.items) {
      const { namespace, name = '', uid = '', finalizers = [] } = metadata
      if (before.has(uid)) continue
      left.push(`${type.id} ${namespace ?? ''}/${name}`)
      if (finalizers.some((each) => each.startsWith('test/')))
        await api.patch(type, target(namespace, name), { metadata: { finalizers: null } })
      await api.delete(type, target(namespace, name), { gracePeriodSeconds: 0 })
    }
  }
  return left
}

/** Owners before what they own, so that nothing is made again. */
const rank = (id: string): number =>
  id === 'namespaces' || id === CRDS ? 0 : id.endsWith('.apps') || id === 'services' ? 1 : 2
