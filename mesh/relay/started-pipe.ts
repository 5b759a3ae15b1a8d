// SPDX-License-Identifier: Apache-2.0
// What pipes over tunnels and over sockets have in common beside what a codec needs.

import type { Pipe, PipeSink } from '../http/pipe.ts'

/** A pipe of ours: it is silent until start(), so that its sink is there before anything comes. */
export interface StartedPipe extends Pipe {
  /** To be called once. What is written before goes out then, and is not bounded. */
  start(): void
}

/** Who is at the far end of the user's connection: a break of the pipe is theirs. */
export type FarEnd = 'client' | 'server'

/** The sink of a pipe before anybody listens, and after nobody does any more. */
export const DEAF: PipeSink = {
  receive: () => undefined,
  ended: () => undefined,
  broken: () => undefined,
  drained: () => undefined,
}
