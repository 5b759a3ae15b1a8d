// SPDX-License-Identifier: Apache-2.0
// What comes of a connection, from what becomes of each of its ways. Pure.

import type { Explanation, Step } from './steps.ts'

export interface WayEnd {
  readonly steps: readonly Step[]
  readonly security: Explanation['security']
}

/** What is the same of several endpoints is said once. */
export function isShown(ends: readonly WayEnd[], at: number): boolean {
  const key = (end: WayEnd | undefined): string =>
    JSON.stringify(end?.steps.map(({ step, result, object }) => [step, result, object]))
  return ends.findIndex((end) => key(end) === key(ends[at])) === at
}

export function outcomeOf(ends: readonly WayEnd[]): Explanation['outcome'] {
  const has = ({ steps }: WayEnd, wanted: Step['result']): boolean =>
    steps.some(({ result }) => result === wanted)
  const refused = ends.every(({ steps }) =>
    steps.some(({ step, result }) => result === 'stop' && (step === 'policy' || step === 'route')),
  )
  if (ends.length > 0 && refused) return 'answered'
  if (ends.every((end) => has(end, 'stop'))) return 'fails'
  // Nothing is called open that nobody has said to be.
  if (ends.some((end) => !has(end, 'stop') && has(end, 'unknown'))) return 'unknown'
  return ends.some((end) => has(end, 'stop')) ? 'varies' : 'connects'
}

export function fails(
  about: Pick<Explanation, 'source' | 'destination'>,
  steps: readonly Step[],
): Explanation {
  return {
    ...about,
    outcome: 'fails',
    security: undefined,
    securities: [],
    steps,
    summary: summaryOf('fails', undefined, steps),
  }
}

export function summaryOf(
  outcome: Explanation['outcome'],
  security: Explanation['security'],
  steps: readonly Step[],
): string {
  const stop = steps.find(({ result }) => result === 'stop')
  const how = {
    mutual_tls: 'with mutual TLS',
    node_local: 'inside the node, both ends known by the kernel',
    plaintext: 'in plaintext',
  }[security ?? 'plaintext']
  switch (outcome) {
    case 'connects':
      return `It connects, ${how}.`
    case 'answered':
      return `It connects, ${how}, and the request gets no further: ${stop?.what ?? ''}.`
    case 'varies':
      return `It connects at some endpoints, ${how}; at others it does not: ${stop?.what ?? ''}.`
    case 'unknown':
      return 'It gets as far as the called pod; whether that lets it in is not known.'
    case 'fails':
      return `It does not connect: ${stop?.what ?? 'there is no endpoint'}.`
  }
}
