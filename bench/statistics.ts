// SPDX-License-Identifier: Apache-2.0
// Medians and quartiles of small samples; ratios are formed within a round, so that drift of the machine cancels.

export interface Spread {
  readonly median: number
  readonly lower: number
  readonly upper: number
}

/** The q-quantile (0..1) of a sample by linear interpolation. The sample must not be empty. */
export function quantile(sample: readonly number[], q: number): number {
  const sorted = [...sample].sort((a, b) => a - b)
  const position = (sorted.length - 1) * q
  const below = sorted[Math.floor(position)]
  const above = sorted[Math.ceil(position)]
  if (below === undefined || above === undefined)
    throw new RangeError('Cannot take a quantile: the sample is empty')
  return below + (above - below) * (position - Math.floor(position))
}

/** Median and quartiles. */
export function spread(sample: readonly number[]): Spread {
  return {
    median: quantile(sample, 0.5),
    lower: quantile(sample, 0.25),
    upper: quantile(sample, 0.75),
  }
}

/** Element by element quotient of two samples taken in the same rounds. */
export function ratios(numerators: readonly number[], denominators: readonly number[]): number[] {
  return numerators.map((numerator, round) => numerator / (denominators[round] ?? Number.NaN))
}
