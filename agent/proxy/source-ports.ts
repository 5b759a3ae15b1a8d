// SPDX-License-Identifier: Apache-2.0
// Which port a connection to an app comes from. It has the client's own address, and the pod's address and port: so a client that
// calls in plaintext, or will, may have a connection with the very same addresses and ports. Which ones it has now the kernel
// knows (bpf/connect.h refuses them, and the next is taken); here those are avoided that it is likely to have next.

/** Above what servers listen on, up to the end: an app's later bind to a port must not meet ours. */
export const FIRST_PORT = 32_768
const PORTS_OF_A_PARITY = 16_384
/** The next port is not the neighbour of the last: guessable ports help who forges packets (RFC 6056 3.3.5). */
const LARGEST_STEP = 7
/** Linux clients with the kernel's own port range use even ones; those of whom nothing is known are taken for such. */
const USUAL_PORT = 32_768

/**
 * Hands out the ports of one pod's connections to its app. Linux takes ports of one parity for connect() until half its range is in
 * use, whatever the range: so whoever was seen with a port gets the others.
 */
export class SourcePorts {
  readonly #random: () => number
  #at: number

  constructor(random: () => number = Math.random) {
    this.#random = random
    this.#at = Math.floor(random() * PORTS_OF_A_PARITY)
  }

  /** A port for a client that calls from `clientPort`, each time another one. */
  next(clientPort: number = USUAL_PORT): number {
    this.#at += 1 + Math.floor(this.#random() * LARGEST_STEP)
    const isOdd = clientPort % 2 === 0
    return FIRST_PORT + 2 * (this.#at % PORTS_OF_A_PARITY) + (isOdd ? 1 : 0)
  }
}
