// SPDX-License-Identifier: Apache-2.0
// Long work that lets others have their turn: a generator that yields often, run to its end at once, or a slice in each turn of the
// event loop.

/** Work that may be left off at each `yield`, and comes to a value. */
export type Sliced<Value> = Generator<undefined, Value>

/** What waits behind a slice waits no longer than that and one step more, in ms. */
const SLICE_MS = 4

/** Does it all, now. */
export function finish<Value>(work: Sliced<Value>): Value {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

/** Does it in slices, from the next turn of the event loop on, and hands over what it comes to. */
export function inSlices<Value>(work: Sliced<Value>, done: (value: Value) => void): void {
  const slice = (): void => {
    const untilMs = performance.now() + SLICE_MS
    do {
      const step = work.next()
      if (step.done === true) return done(step.value)
    } while (performance.now() < untilMs)
    setImmediate(slice)
  }
  setImmediate(slice)
}

/** Sorts as Array.prototype.sort() does, equal ones left in their order, in `array` itself. */
export function* sortSliced<Value>(
  array: Value[],
  compare: (left: Value, right: Value) => number,
): Sliced<undefined> {
  const runs: Value[][] = []
  for (let from = 0; from < array.length; from += RUN) {
    runs.push(array.slice(from, from + RUN).sort(compare))
    yield
  }
  while (runs.length > 1) {
    const merged: Value[][] = []
    for (let at = 0; at < runs.length; at += 2) {
      const [left = [], right = []] = runs.slice(at, at + 2)
      merged.push(yield* mergeSliced(left, right, compare))
    }
    runs.splice(0, runs.length, ...merged)
  }
  for (const [at, value] of (runs[0] ?? []).entries()) array[at] = value
  return undefined
}

/** So many are sorted or merged without a break: well under a ms. */
const RUN = 512

function* mergeSliced<Value>(
  left: readonly Value[],
  right: readonly Value[],
  compare: (left: Value, right: Value) => number,
): Sliced<Value[]> {
  const merged: Value[] = []
  let leftAt = 0
  let rightAt = 0
  while (leftAt < left.length || rightAt < right.length) {
    // In bounds: asked of both only where there is one on both sides.
    const takesLeft =
      rightAt >= right.length ||
      (leftAt < left.length && compare(left[leftAt] as Value, right[rightAt] as Value) <= 0)
    merged.push((takesLeft ? left[leftAt++] : right[rightAt++]) as Value)
    if (merged.length % RUN === 0) yield
  }
  return merged
}
