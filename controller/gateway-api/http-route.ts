// SPDX-License-Identifier: Apache-2.0
// Reads an HTTPRoute (gateway.networking.k8s.io/v1).

import type { Origin } from '../core/origin.ts'
import type { FlawReader } from '../istio-api/flaw.ts'
import type { PolicyObject } from '../istio-api/seen-object.ts'
import type { Reading } from '../reading/object-reader.ts'
import { readMap } from './route-fields.ts'
import { type FilterFacts, HTTP_FILTERS, readFilters } from './route-filters.ts'
import { readMatches } from './route-matches.ts'
import {
  readBackends,
  readRoute,
  type RouteFacts,
  type RouteForm,
  type RuleContent,
} from './route-object.ts'
import { NO_TIMEOUTS, readRetry, readSession, readTimeouts } from './rule-settings.ts'

const RULE_FIELDS = [
  'name',
  'matches',
  'filters',
  'backendRefs',
  'timeouts',
  'retry',
  'sessionPersistence',
]

const FORM: RouteForm = {
  kind: 'HTTPRoute',
  readRule: ({ reader, namespace }, field, rule, id) => {
    const context = { reader, namespace, types: HTTP_FILTERS }
    readMap(reader, field, rule, RULE_FIELDS)
    const content: RuleContent = {
      matches: readMatches(reader, `${field}.matches`, rule.matches),
      filters: readFilters(context, `${field}.filters`, rule.filters),
      backends: readBackends(context, `${field}.backendRefs`, rule.backendRefs),
      timeouts: readTimeouts(reader, `${field}.timeouts`, rule.timeouts),
      retry: readRetry(reader, `${field}.retry`, rule.retry),
      session: readSession(reader, `${field}.sessionPersistence`, rule.sessionPersistence, id),
    }
    checkTogether(reader, field, content)
    return content
  },
  // As the API server fills it in.
  withoutRules: [
    {
      name: '0',
      matches: [
        {
          path: { kind: 'prefix', value: '/' },
          method: undefined,
          headers: [],
          queryParams: [],
        },
      ],
      filters: [],
      backends: [],
      timeouts: NO_TIMEOUTS,
      retry: undefined,
      session: undefined,
      fault: undefined,
    },
  ],
}

/** Reads an HTTPRoute. */
export function readHttpRoute(object: PolicyObject, origin: Origin): Reading<RouteFacts> {
  return readRoute(FORM, object, origin)
}

/** What is well said in each place and makes no sense together. */
function checkTogether(reader: FlawReader, field: string, content: RuleContent): void {
  const { matches, filters, backends } = content
  if (backends.length > 0 && filters.some(({ kind }) => kind === 'redirect'))
    reader.note(`${field}.filters`, 'has a redirect beside backendRefs, of which one is to answer')
  const all = [...filters, ...backends.flatMap((each) => each.filters)]
  if (all.some(replacesPrefix) && matches.some(({ path }) => path.kind !== 'prefix'))
    reader.note(
      `${field}.filters`,
      'replaces the prefix that matches, and not every match of the rule is by prefix',
    )
}

function replacesPrefix(filter: FilterFacts): boolean {
  return (filter.kind === 'redirect' || filter.kind === 'rewrite') && filter.path?.kind === 'prefix'
}
