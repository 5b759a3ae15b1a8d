// SPDX-License-Identifier: Apache-2.0
// Rules that name sources of namespaces or service accounts which do not exist.

import { fieldsOf } from '../../../controller/istio-api/flaw.ts'
import { type Finding, finding } from '../finding.ts'
import { mapsOf, type RawObject, textOf } from '../objects.ts'
import type { World } from '../world.ts'
import type { Check } from './check.ts'

type Namer = 'principal' | 'namespace' | 'account'

interface Named {
  readonly field: string
  readonly namespace: string
  readonly account: string | undefined
}

const FIELDS: Readonly<Record<string, Namer>> = {
  principals: 'principal',
  notPrincipals: 'principal',
  namespaces: 'namespace',
  notNamespaces: 'namespace',
  serviceAccounts: 'account',
  notServiceAccounts: 'account',
}
const KEYS: Readonly<Record<string, Namer>> = {
  'source.principal': 'principal',
  'source.namespace': 'namespace',
  'source.serviceAccount': 'account',
}
const PRINCIPAL = /^([^/*]+)\/ns\/([^/*]+)\/sa\/([^/*]+)$/
/** How principals name the mesh's own trust domain, whatever it is called. */
const OWN_DOMAIN = 'cluster.local'
/** Of one policy; what follows is the same again. */
const MOST = 10

export const MISSING_SOURCE: Check = {
  codes: ['AMB103', 'AMB104'],
  needs: ['Namespace', 'ServiceAccount'],
  *run(world) {
    for (const policy of world.policies.authorizations) {
      const found: Finding[] = []
      const seen = new Set<string>()
      for (const named of sourcesOf(policy.object, policy.namespace, world)) {
        const key = `${named.namespace}/${named.account ?? ''}`
        if (seen.has(key)) continue
        seen.add(key)
        const missing = missingOf(world, named)
        if (missing === undefined) continue
        found.push(finding(missing.code, policy, named.field, missing.what))
        if (found.length === MOST) break
      }
      yield* found
    }
  },
}

function missingOf(
  { objects, namespaces, accounts }: World,
  { namespace, account }: Named,
): { readonly code: 'AMB103' | 'AMB104'; readonly what: string } | undefined {
  if (!namespaces.has(namespace) && objects.knows('Namespace', namespace))
    return { code: 'AMB103', what: `there is no namespace ${namespace}` }
  if (account === undefined || !namespaces.has(namespace)) return undefined
  // Every namespace has this one, sooner or later.
  if (account === 'default' || accounts.has(`${namespace}/${account}`)) return undefined
  if (!objects.knows('ServiceAccount', namespace)) return undefined
  return { code: 'AMB104', what: `there is no service account ${namespace}/${account}` }
}

/** What is named as a whole: who is meant by a pattern may come later. */
function* sourcesOf(
  { spec }: RawObject,
  ownNamespace: string,
  { config }: World,
): Generator<Named> {
  const read = (field: string, by: Namer, text: string): Named | undefined => {
    if (text === '' || text.includes('*')) return undefined
    if (by === 'namespace') return { field, namespace: text, account: undefined }
    if (by === 'account') {
      const [first = '', second] = text.split('/')
      return second === undefined
        ? { field, namespace: ownNamespace, account: first }
        : { field, namespace: first, account: second }
    }
    const [, domain, namespace, account] = PRINCIPAL.exec(text) ?? []
    // Of another trust domain nothing is known here.
    if (namespace === undefined || (domain !== OWN_DOMAIN && domain !== config.trustDomain))
      return undefined
    return { field, namespace, account }
  }
  function* list(field: string, by: Namer | undefined, values: unknown): Generator<Named> {
    if (by === undefined || !Array.isArray(values)) return
    for (const [at, value] of values.entries()) {
      const named = read(`${field}[${at}]`, by, textOf(value))
      if (named !== undefined) yield named
    }
  }
  for (const [place, rule] of mapsOf(fieldsOf(spec)?.['rules']).entries()) {
    for (const [at, { source }] of mapsOf(rule['from']).entries())
      for (const [name, values] of Object.entries(fieldsOf(source) ?? {}))
        yield* list(`spec.rules[${place}].from[${at}].source.${name}`, FIELDS[name], values)
    for (const [at, { key, values, notValues }] of mapsOf(rule['when']).entries()) {
      const field = `spec.rules[${place}].when[${at}]`
      yield* list(`${field}.values`, KEYS[textOf(key)], values)
      yield* list(`${field}.notValues`, KEYS[textOf(key)], notValues)
    }
  }
}
