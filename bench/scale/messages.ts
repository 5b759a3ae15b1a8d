// SPDX-License-Identifier: Apache-2.0
// What the bench and the processes that hold its agents tell one another. Times are of the machine's monotonic clock, in milliseconds.

export type ToAgents =
  | {
      readonly kind: 'start'
      /** Numbers of the agents that this process holds: from, and up to but not including. */
      readonly from: number
      readonly to: number
      readonly port: number
      readonly roots: string
      readonly serverName: string
    }
  /** Says when this resource has come to each agent, next time. */
  | { readonly kind: 'expect'; readonly name: string }
  /** Says when each agent has been answered anew, on a stream that is still to come. */
  | { readonly kind: 'expectReturn' }

export type FromAgents =
  | { readonly kind: 'ready' }
  /** Every agent of the process has been answered for each type: when, and what. */
  | {
      readonly kind: 'served'
      readonly times: readonly number[]
      readonly bytes: number
      readonly resources: number
    }
  | { readonly kind: 'expecting' }
  | { readonly kind: 'arrived'; readonly times: readonly number[] }
  /** Streams that ended, by reason, since the last message of this kind. */
  | { readonly kind: 'ends'; readonly byReason: Readonly<Record<string, number>> }

/** The machine's monotonic clock, the same in every process. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** The token of the agent with this number. */
export const tokenOf = (agent: number): string => `agent-${agent}`

/** An address of its own for each, in 127.0.0.0/8. */
export const addressOf = (agent: number): string =>
  `127.${1 + Math.floor(agent / 62_500)}.${Math.floor(agent / 250) % 250}.${1 + (agent % 250)}`
