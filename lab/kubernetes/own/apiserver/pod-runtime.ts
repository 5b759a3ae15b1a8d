// SPDX-License-Identifier: Apache-2.0
// What serves exec and logs of pods: the API server asks, the lab's kubelet answers.

import type { Readable, Writable } from 'node:stream'
import type { Result } from '../../../../mesh/result.ts'

export interface ExecRequest {
  readonly podUid: string
  readonly namespace: string
  readonly podName: string
  readonly container: string
  readonly command: readonly string[]
  readonly stdin: boolean
  readonly tty: boolean
}

export type ExecExit =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signalled'; readonly signal: string }
  | { readonly kind: 'failed'; readonly message: string }

/** A running process in a container. With a terminal, stderr is undefined (it comes on stdout). */
export interface ExecSession {
  readonly stdin: Writable | undefined
  readonly stdout: Readable
  readonly stderr: Readable | undefined
  resize(columns: number, rows: number): void
  /** Called when the client went away; must end the process. Safe after its end. */
  kill(): void
  /** Resolves, never rejects, when the process has ended. */
  readonly exit: Promise<ExecExit>
}

export interface LogRequest {
  readonly podUid: string
  readonly namespace: string
  readonly podName: string
  readonly container: string
  readonly follow: boolean
  readonly previous: boolean
  readonly timestamps: boolean
  readonly tailLines?: number | undefined
  readonly sinceSeconds?: number | undefined
  readonly limitBytes?: number | undefined
}

/** What runs containers; the lab's kubelet implements it. Failures are sentences for the user. */
export interface PodRuntime {
  exec(request: ExecRequest): Promise<Result<ExecSession, string>>
  /** The stream ends by itself without `follow`; it is destroyed when the client goes away. */
  logs(request: LogRequest): Promise<Result<Readable, string>>
}
