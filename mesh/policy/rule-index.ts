// SPDX-License-Identifier: Apache-2.0
// Rules found by what a call is: each is filed under the values of that one of its clauses which the fewest other rules name, so that
// a call looks only at rules that name something of it. Rules that name nothing (negations alone, presence) are looked at by every call.

import type { Policy, PolicyRule } from '../model/policy.ts'
import type { CallFacts } from './call-facts.ts'
import type { CompiledMatch, CompiledRule, FieldTest } from './field-test.ts'
import { truthOfRule } from './match.ts'
import { RangeTable, taken, TextTable } from './value-tables.ts'

export interface IndexedRule {
  readonly policy: Policy
  readonly rule: PolicyRule
  readonly compiled: CompiledRule
}

/** The rules filed under one value, by their places in the whole list, ascending. */
interface Bucket {
  /** How many fields name the value: what is asked while filing. */
  named: number
  readonly places: number[]
}

const NOWHERE = Infinity

export class RuleIndex {
  readonly #rules: readonly IndexedRule[]
  readonly #principals = new TextTable<Bucket>()
  readonly #namespaces = new TextTable<Bucket>()
  readonly #accounts = new Map<string, Bucket>()
  readonly #sources = new RangeTable<Bucket>()
  readonly #destinations = new RangeTable<Bucket>()
  readonly #ports = new Map<number, Bucket>()
  readonly #unfiled: Bucket = { named: 0, places: [] }
  /** What the last call found: kept, so that a call allocates nothing. */
  readonly #found: Bucket[] = []

  constructor(rules: readonly IndexedRule[]) {
    this.#rules = rules
    const choices = rules.map(({ compiled }) => this.#choicesOf(compiled))
    for (const [place, choice] of choices.entries()) {
      if (choice === 'never') continue
      // One rule may name a value twice.
      for (const bucket of leastNamed(choice) ?? [this.#unfiled])
        if (bucket.places.at(-1) !== place) bucket.places.push(place)
    }
    this.#seal()
  }

  /** The first rule that certainly matches; if there is none, the first of which it cannot be told. Hot: once per call and action. */
  first(
    facts: CallFacts,
  ): { readonly truth: 'yes' | 'unknown'; readonly rule: IndexedRule } | undefined {
    let yes = NOWHERE
    let unknown = NOWHERE
    for (const { places } of this.#bucketsOf(facts)) {
      for (const place of places) {
        if (place >= yes) break
        const truth = this.#truthOf(place, facts)
        if (truth === 'yes') yes = place
        else if (truth === 'unknown' && place < unknown) unknown = place
      }
    }
    const rule = this.#rules[yes === NOWHERE ? unknown : yes]
    return rule === undefined ? undefined : { truth: yes === NOWHERE ? 'unknown' : 'yes', rule }
  }

  /** All rules that certainly match, in their order. */
  all(facts: CallFacts): readonly IndexedRule[] {
    const places = new Set(this.#bucketsOf(facts).flatMap((bucket) => bucket.places))
    return [...places]
      .filter((place) => this.#truthOf(place, facts) === 'yes')
      .sort((left, right) => left - right)
      .flatMap((place) => this.#rules[place] ?? [])
  }

  #truthOf(place: number, facts: CallFacts): ReturnType<typeof truthOfRule> {
    const rule = this.#rules[place]
    return rule === undefined ? 'no' : truthOfRule(rule.compiled, facts)
  }

  /** The buckets in which there are all the rules that may match. */
  #bucketsOf(facts: CallFacts): readonly Bucket[] {
    const found = this.#found
    found.length = 0
    if (facts.principal !== '') this.#principals.collect(facts.principal, found)
    this.#namespaces.collect(facts.namespace, found)
    const account = this.#accounts.size > 0 ? this.#accounts.get(facts.account) : undefined
    if (account !== undefined) found.push(account)
    this.#sources.collect(facts.source, found)
    this.#destinations.collect(facts.destination, found)
    const port = this.#ports.get(facts.port)
    if (port !== undefined) found.push(port)
    found.push(this.#unfiled)
    return found
  }

  /** The ways to file a rule, one a clause that can be filed: the values of one field of each of its matches. */
  #choicesOf(rule: CompiledRule): Choice | 'never' {
    const clauses: Choice = []
    for (const clause of rule) {
      // What says nothing does not match; a clause without matches does.
      const matches = clause.filter(saysSomething)
      if (matches.length < clause.length && matches.length === 0) return 'never'
      const fields = matches.map((match) => this.#fieldsOf(match))
      if (fields.length > 0 && fields.every((each) => each.length > 0)) clauses.push(fields)
    }
    return clauses
  }

  #fieldsOf(match: CompiledMatch): readonly (readonly Bucket[])[] {
    return match.tests.flatMap((test) => {
      const buckets = this.#bucketsNamed(test)
      if (buckets === undefined) return []
      for (const bucket of buckets) bucket.named += 1
      return [buckets]
    })
  }

  /** The buckets of a field's values; undefined when they rule too little out. */
  #bucketsNamed(test: FieldTest): readonly Bucket[] | undefined {
    if (test.isNegated) return undefined
    switch (test.asks) {
      case 'principal':
      case 'namespace': {
        const table = test.asks === 'principal' ? this.#principals : this.#namespaces
        const buckets: Bucket[] = []
        for (const value of test.values) {
          if (value.kind === 'present' || value.text === '') return undefined
          buckets.push(table.take(value, emptyBucket))
        }
        return buckets
      }
      case 'account':
        return test.values.map((value) => taken(this.#accounts, value, emptyBucket))
      case 'source':
      case 'destination': {
        const table = test.asks === 'source' ? this.#sources : this.#destinations
        if (test.values.some(({ length }) => length === 0)) return undefined
        return test.values.map((value) => table.take(value, emptyBucket))
      }
      case 'port':
        return test.values.map((value) => taken(this.#ports, value, emptyBucket))
    }
  }

  #seal(): void {
    this.#principals.seal(isUsed)
    this.#namespaces.seal(isUsed)
    this.#sources.seal(isUsed)
    this.#destinations.seal(isUsed)
    for (const [key, bucket] of this.#accounts) if (!isUsed(bucket)) this.#accounts.delete(key)
    for (const [key, bucket] of this.#ports) if (!isUsed(bucket)) this.#ports.delete(key)
  }
}

/** Of clauses, of their matches, of their fields: the buckets. */
type Choice = (readonly (readonly (readonly Bucket[])[])[])[]

const emptyBucket = (): Bucket => ({ named: 0, places: [] })
const isUsed = ({ places }: Bucket): boolean => places.length > 0
const saysSomething = ({ tests, isPartlyUnread }: CompiledMatch): boolean =>
  tests.length > 0 || isPartlyUnread

/** What a rule is filed under: the clause whose most named value is named least. Undefined without clauses that can be filed. */
function leastNamed(clauses: Choice): readonly Bucket[] | undefined {
  let best: { readonly named: number; readonly buckets: readonly Bucket[] } | undefined
  for (const matches of clauses) {
    let named = 0
    const buckets: Bucket[] = []
    for (const fields of matches) {
      const field = fields.reduce((left, right) =>
        mostNamed(right) < mostNamed(left) ? right : left,
      )
      named = Math.max(named, mostNamed(field))
      buckets.push(...field)
    }
    if (best === undefined || named < best.named) best = { named, buckets }
  }
  return best?.buckets
}

function mostNamed(buckets: readonly Bucket[]): number {
  return buckets.reduce((most, { named }) => Math.max(most, named), 0)
}
