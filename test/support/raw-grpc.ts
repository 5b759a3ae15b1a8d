// SPDX-License-Identifier: Apache-2.0
// Methods of gRPC whose messages are bytes as they stand.

/** For clients that name a method by its path. */
export const asIs = (bytes: Buffer): Buffer => bytes
const BYTES = {
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
} as const

/** One request, one answer. */
export const unaryMethod = (path: string) =>
  ({ path, requestStream: false, responseStream: false, ...BYTES }) as const

/** Any number of both. */
export const streamingMethod = (path: string) =>
  ({ path, requestStream: true, responseStream: true, ...BYTES }) as const
