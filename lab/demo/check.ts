// SPDX-License-Identifier: Apache-2.0
// What a check of the demonstration is, and what it works with.

/** The lab as the demonstration uses it: the same calls a person would type. */
export interface DemoLab {
  readonly name: string
  kubectl(...args: readonly string[]): Promise<string>
  /** Runs a command in a pod ("namespace/name"); resolves with its stdout, rejects on a non-zero exit. */
  exec(pod: string, ...command: readonly string[]): Promise<string>
  nodeExec(node: string, ...command: readonly string[]): Promise<string>
  /** Applies an object. */
  apply(object: object): Promise<void>
  /** `ambit` with these arguments, about this lab; resolves with its stdout, rejects on a non-zero exit. */
  ambit(...args: readonly string[]): Promise<string>
  /** The same of one whose exit code is an answer: what it prints, whatever that code is. */
  ambitSays(...args: readonly string[]): Promise<string>
  /** The log of a node's agent so far. */
  agentLog(node: string): string
  /** Captures packets until stop(), which returns the finished file. */
  capture(link: string): Promise<{ stop(): Promise<string> }>
}

export class CheckFailed extends Error {}

export interface Check {
  readonly title: string
  run(): Promise<string>
}

/** What client.ts prints. */
export interface ClientReport {
  readonly dialled: string
  readonly peer?: string
  readonly peerPort?: number
  readonly local?: string
  readonly status?: number
  readonly error?: string
  readonly answer?: {
    readonly service: string
    readonly version: string
    readonly pod: string
    readonly pid: number
    readonly client: string
    readonly marker: string | null
  }
}

/** Throws CheckFailed with what was observed unless the claim holds. */
export function expect(claim: boolean, observed: string): void {
  if (!claim) throw new CheckFailed(observed)
}
