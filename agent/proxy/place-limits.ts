// SPDX-License-Identifier: Apache-2.0
// How many connections an agent may carry, and one pod of them: counted from the file descriptors that the machine lets it have.

import { DESCRIPTORS_OF_CONNECTION, type PlaceLimits } from './places.ts'

/**
 * What is not for connections: the main thread, listeners, maps and links of capture (about 10 a pod), the CNI socket, the admin ports,
 * and handshakes of strangers, of which there may be a thousand.
 */
const RESERVED_PART = 1 / 10
const LEAST_RESERVED = 1_500
/** Of the reserve, the part that handshakes of strangers may use up; there are more of them in a short while than of all else. */
const HANDSHAKES_PART = 1 / 2
/** Never more than half: an agent with a tiny limit serves little, but it serves. */
const MOST_RESERVED_PART = 1 / 2
/**
 * Of what is there for connections, the part that one pod may have while nobody is short of them (a server with thousands of
 * clients is no attack): when two such pods fill the node, the greediest gives way (places.ts).
 */
const POD_PART = 1 / 2
/** No pod gets by with fewer. */
const LEAST_OF_POD = 64

/** Shares out `descriptors`, the process's limit (RLIMIT_NOFILE); `wantedPerPod` connections are what the operator allows a pod. */
export function placeLimits(descriptors: number, wantedPerPod: number): PlaceLimits {
  const reserved = Math.min(
    Math.max(LEAST_RESERVED, descriptors * RESERVED_PART),
    descriptors * MOST_RESERVED_PART,
  )
  const forConnections = Math.floor(descriptors - reserved)
  const ofPod = Math.floor((forConnections * POD_PART) / DESCRIPTORS_OF_CONNECTION)
  return {
    descriptors: forConnections,
    handshakes: Math.floor(reserved * HANDSHAKES_PART),
    perPod: Math.min(wantedPerPod, Math.max(LEAST_OF_POD, ofPod)),
  }
}
