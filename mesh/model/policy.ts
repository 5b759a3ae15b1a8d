// SPDX-License-Identifier: Apache-2.0
// An authorization policy as far as it is read today: whom it concerns. Its rules are not (istio.security.Authorization has
// them in field 5), and nothing here says what it allows.

import { FLAG, single, TEXT, word } from './codec/kind.ts'
import { derived, field, record } from './codec/record.ts'

/** Key of a policy, `<namespace>/<name>`: as workloads name it in `authorizationPolicies`. */
export type PolicyKey = string & { readonly __brand: 'PolicyKey' }

/** `workload`: those that name it. */
export type PolicyScope = 'mesh' | 'namespace' | 'workload'

export interface Policy {
  readonly key: PolicyKey
  readonly namespace: string
  readonly name: string
  readonly scope: PolicyScope
  /** To be evaluated and reported, never to be enforced. */
  readonly isDryRun: boolean
}

export const POLICY = record<Policy>({
  key: derived(
    '' as PolicyKey,
    ({ namespace, name }: Policy) => `${namespace}/${name}` as PolicyKey,
    {
      dump: () => ({}),
    },
  ),
  name: field('name', 1, single(TEXT), { isRequired: true }),
  namespace: field('namespace', 2, single(TEXT), { isShared: true }),
  scope: field('scope', 3, single(word<PolicyScope>(['mesh', 'namespace', 'workload'])), {
    dump: (scope) => ({
      scope: { mesh: 'Global', namespace: 'Namespace', workload: 'WorkloadSelector' }[scope],
    }),
  }),
  isDryRun: field('dry_run', 6, single(FLAG), { dump: (dryRun) => ({ dryRun }) }),
})
