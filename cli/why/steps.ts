// SPDX-License-Identifier: Apache-2.0
// What `why` says, as data: the steps of a connection in their order, and what comes of it.

export type StepName =
  | 'capture'
  | 'service'
  | 'endpoint'
  | 'tunnel'
  | 'waypoint'
  | 'policy'
  | 'route'
  | 'certificate'
  | 'tls'
  | 'egress'
  | 'admission'

export interface Step {
  readonly step: StepName
  /** `stop`: the connection ends here. `note`: it goes on, and somebody should know. `unknown`: whoever decides was not asked. */
  readonly result: 'ok' | 'note' | 'unknown' | 'stop'
  readonly what: string
  /** The Kubernetes object that decides, where one does. */
  readonly object?: string
  /** What to change for another outcome. */
  readonly change?: string
  /** Rule by rule, endpoint by endpoint. */
  readonly details?: readonly string[]
}

export interface Explanation {
  readonly source: string
  readonly destination: string
  /**
   * `connects`: it would. `varies`: at some endpoints. `unknown`: an agent that decides was not asked. `answered`: it would, and a waypoint
   * refuses the request.
   */
  readonly outcome: 'connects' | 'answered' | 'varies' | 'unknown' | 'fails'
  readonly security: 'mutual_tls' | 'node_local' | 'plaintext' | undefined
  /** Of all endpoints that it may connect to: those of the caller's own node and others differ. */
  readonly securities: readonly NonNullable<Explanation['security']>[]
  readonly steps: readonly Step[]
  /** In one sentence. */
  readonly summary: string
}

/** The lines that people read. */
export function explanationText(explanation: Explanation): readonly string[] {
  const { source, destination, steps, summary } = explanation
  const signs = { ok: 'ok  ', note: 'note', unknown: '?   ', stop: 'STOP' } as const
  return [
    `${source} -> ${destination}`,
    '',
    ...steps.flatMap(({ step, result, what, object, change, details = [] }) => [
      `[${signs[result]}] ${step.padEnd(11)} ${what}`,
      ...details.map((detail) => `${INDENT}${detail}`),
      ...(object === undefined ? [] : [`${INDENT}decided by ${object}`]),
      ...(change === undefined ? [] : [`${INDENT}to change it: ${change}`]),
    ]),
    '',
    summary,
  ]
}

/** Below what a step says. */
const INDENT = ' '.repeat(19)
