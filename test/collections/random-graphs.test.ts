// SPDX-License-Identifier: Apache-2.0
// Whatever graph is built and in whatever order its sources change, every collection holds what computing everything
// from scratch would give, subscribers were told exactly the differences, and nothing was computed twice in a commit.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import {
  type Collection,
  type Fetch,
  Graph,
  type Index,
  type Source,
} from '../../mesh/collections/index.ts'

/** A value: a number, and words that indexes and fetches go by. */
interface Value {
  readonly n: number
  readonly words: readonly string[]
}

const KEYS = ['a', 'b', 'c', 'd', 'e'] as const
const SOURCES = 3

/** What one derived collection does; numbers are taken modulo what there is. */
interface Plan {
  readonly input: number
  /** Fetches by value words, from collections or (odd) from indexes of them. */
  readonly fetches: readonly number[]
  /** Reads further only if what it read first was something. */
  readonly isConditional: boolean
  readonly output: 'same' | 'word' | 'shared' | 'none' | 'many'
  /** Coarse results are often equal to what they were. */
  readonly modulus: number
  /** Throws for values divisible by this. */
  readonly throwsAt: number
}

type Step =
  | { readonly source: number; readonly key: string; readonly value: Value | undefined }
  | { readonly complete: number }

const word = fc.constantFrom(...KEYS)
const value: fc.Arbitrary<Value> = fc.record(
  { n: fc.nat(9), words: fc.array(word, { maxLength: 3 }) },
  { noNullPrototype: true },
)
const plan: fc.Arbitrary<Plan> = fc.record({
  input: fc.nat(20),
  fetches: fc.array(fc.nat(40), { maxLength: 3 }),
  isConditional: fc.boolean(),
  output: fc.constantFrom('same', 'same', 'word', 'shared', 'none', 'many'),
  modulus: fc.integer({ min: 1, max: 50 }),
  throwsAt: fc.integer({ min: 5, max: 60 }),
})
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      source: fc.nat(SOURCES - 1),
      key: word,
      value: fc.option(value, { nil: undefined, freq: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ complete: fc.nat(SOURCES - 1) }) },
)

type Read = (from: number, byIndex: boolean, key: string) => Value | readonly Value[] | undefined

/** The transformation of a plan, over any way of reading: the graph's or the naive one. */
function apply(
  plan: Plan,
  position: number,
  read: Read,
  input: Value,
  key: string,
): (readonly [string, Value])[] {
  let sum = input.n
  const seen: string[] = []
  for (const [index, fetch] of plan.fetches.entries()) {
    const found = read((fetch >> 1) % position, fetch % 2 === 1, input.words[index] ?? 'a')
    const values = found === undefined ? [] : 'n' in found ? [found] : found
    if (plan.isConditional && values.length === 0) break
    for (const each of values) {
      sum += each.n
      seen.push(...each.words)
    }
  }
  if (sum % plan.throwsAt === plan.throwsAt - 1) throw new Error('this sum is not liked')
  const result = { n: sum % plan.modulus, words: seen.slice(0, 3) }
  switch (plan.output) {
    case 'same':
      return [[key, result]]
    case 'word':
      return [[input.words[0] ?? 'a', result]]
    case 'shared':
      return [['shared', result]]
    case 'none':
      return []
    case 'many':
      return input.words.map((each) => [each, { ...result, words: [key] }] as const)
  }
}

/** All collections from scratch; undefined for those that wait for a source. */
function naive(
  sources: readonly ReadonlyMap<string, Value>[],
  completed: ReadonlySet<number>,
  plans: readonly Plan[],
): (ReadonlyMap<string, Value> | undefined)[] {
  const all: ReadonlyMap<string, Value>[] = [...sources]
  for (const [index, plan] of plans.entries()) {
    const position = SOURCES + index
    const outputs = new Map<string, Value>()
    const read: Read = (from, byIndex, key) => {
      const entries = [...(all[from] ?? [])].sort(([left], [right]) => (left < right ? -1 : 1))
      if (!byIndex) return all[from]?.get(key)
      return entries.filter(([, { words }]) => words.includes(key)).map(([, each]) => each)
    }
    const inputs = [...(all[plan.input % position] ?? [])]
    // The input with the first key has a contested output.
    for (const [key, input] of inputs.sort(([left], [right]) => (left < right ? 1 : -1)))
      try {
        for (const [outKey, output] of apply(plan, position, read, input, key))
          outputs.set(outKey, output)
      } catch {
        // Such an input has no outputs.
      }
    all.push(outputs)
  }
  const isReady = completed.size === SOURCES
  return all.map((each, index) => (index < SOURCES || isReady ? each : undefined))
}

function build(plans: readonly Plan[]) {
  const graph = new Graph({
    // A listener's throw is an assertion of this test.
    onFault: ({ key, error }) => {
      if (key === '') throw error
    },
  })
  const computed = new Map<string, number>()
  const sources = Array.from({ length: SOURCES }, (_, index) =>
    graph.source<string, Value>(`source ${index}`),
  )
  const collections: Collection<string, Value>[] = [...sources]
  const indexes = new Map<number, Index<string, Value>>()
  const indexOf = (position: number): Index<string, Value> | undefined => {
    const known = indexes.get(position)
    const made = known ?? collections[position]?.index((each) => each.words)
    if (made !== undefined) indexes.set(position, made)
    return made
  }
  for (const [index, plan] of plans.entries()) {
    const position = SOURCES + index
    const input = collections[plan.input % position]
    if (input === undefined) throw new Error('a plan without input')
    collections.push(
      graph.derive(`derived ${index}`, input, (fetch: Fetch, each: Value, key: string) => {
        const name = `${position} ${key}`
        computed.set(name, (computed.get(name) ?? 0) + 1)
        const read: Read = (from, byIndex, wanted) => {
          const readable = byIndex ? indexOf(from) : collections[from]
          return readable === undefined
            ? undefined
            : fetch<string, Value | readonly Value[] | undefined>(readable, wanted)
        }
        return apply(plan, position, read, each, key)
      }),
    )
  }
  return { graph, sources, collections, computed }
}

function take(sources: readonly Source<string, Value>[], step: Step): void {
  if ('complete' in step) sources[step.complete]?.complete()
  else if (step.value === undefined) sources[step.source]?.delete(step.key)
  else sources[step.source]?.set(step.key, step.value)
}

void t.test('any graph after any batches holds what computing from scratch gives', async (t) => {
  let compared = 0
  fc.assert(
    fc.property(
      fc.array(plan, { minLength: 1, maxLength: 6 }),
      fc.array(fc.array(step, { minLength: 1, maxLength: 5 }), { maxLength: 25 }),
      (plans, batches) => {
        const { graph, sources, collections, computed } = build(plans)
        const told = collections.map((collection) => {
          const mirror = new Map<string, Value>()
          let calls = 0
          collection.subscribe((changes) => {
            calls += 1
            for (const { key, previous, current } of changes) {
              assert.deepEqual(mirror.get(key), previous)
              assert.notDeepEqual(previous, current)
              if (current === undefined) mirror.delete(key)
              else mirror.set(key, current)
            }
          })
          return { mirror, calls: () => calls }
        })
        const expected = sources.map(() => new Map<string, Value>())
        const completed = new Set<number>()
        const finish: Step[] = sources.map((_, index) => ({ complete: index }))
        for (const batch of [...batches, finish]) {
          for (const each of batch)
            if ('complete' in each) completed.add(each.complete)
            else if (each.value === undefined) expected[each.source]?.delete(each.key)
            else expected[each.source]?.set(each.key, each.value)
          computed.clear()
          const calls = told.map((each) => each.calls())
          graph.batch(() => {
            for (const each of batch) take(sources, each)
          })
          for (const [index, entries] of naive(expected, completed, plans).entries()) {
            const collection = collections[index]
            const isSynced = index < SOURCES ? completed.has(index) : entries !== undefined
            assert.equal(collection?.isSynced, isSynced)
            if (entries === undefined) continue
            const held = new Map(
              [...(collection?.keys() ?? [])].map((key) => [key, collection?.get(key)]),
            )
            assert.deepEqual(held, entries)
            if (isSynced) assert.deepEqual(told[index]?.mirror, entries)
            compared += 1
          }
          for (const [name, times] of computed) assert.equal(times, 1, `computed: ${name}`)
          for (const [index, each] of told.entries())
            assert.ok(each.calls() - (calls[index] ?? 0) <= 1, `collection ${index} told twice`)
        }
      },
    ),
    { numRuns: 300 },
  )
  t.ok(compared > 1000)
})

void t.test('the order in which sources are told the same makes no difference', async (t) => {
  let compared = 0
  fc.assert(
    fc.property(
      fc.array(plan, { minLength: 1, maxLength: 6 }),
      fc.uniqueArray(fc.record({ source: fc.nat(SOURCES - 1), key: word, value }), {
        selector: ({ source, key }) => `${source} ${key}`,
      }),
      fc.infiniteStream(fc.nat(99)),
      (plans, entries, numbers) => {
        const contents = [false, true].map((isShuffled) => {
          const { sources, collections } = build(plans)
          const order = isShuffled
            ? entries
                .map((entry) => ({ entry, rank: numbers.next().value ?? 0 }))
                .sort((left, right) => left.rank - right.rank)
                .map(({ entry }) => entry)
            : entries
          for (const source of isShuffled ? sources : []) source.complete()
          for (const each of order) take(sources, each)
          for (const source of sources) source.complete()
          return collections.map(
            (each) => new Map([...each.keys()].map((key) => [key, each.get(key)])),
          )
        })
        assert.deepEqual(contents[0], contents[1])
        compared += 1
      },
    ),
    { numRuns: 200 },
  )
  t.equal(compared, 200)
})
