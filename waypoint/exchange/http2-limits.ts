// SPDX-License-Identifier: Apache-2.0
// The numbers of HTTP/2 within tunnels, each with its unit and its reason. They are smaller than those of the tunnels (mesh/hbone/limits.ts):
// a client may have a thousand of these connections.

import { DEFAULT_MAX_FRAME_BYTES } from '../../mesh/http2/protocol.ts'
import type { H2Settings } from '../../mesh/http2/settings.ts'

/** What each side announces: of one stream a quarter of a MiB, with which a path of 1 ms carries 2 Gbit/s. */
const SETTINGS = {
  streamWindowBytes: 256 * 1024,
  connectionWindowBytes: 1024 * 1024,
  // Larger ones only make other streams wait longer.
  maxFrameBytes: DEFAULT_MAX_FRAME_BYTES,
  /** As with HTTP/1.1. */
  headerListBytes: 64 * 1024,
} as const

/** Requests at once of one connection: twice what browsers and gRPC have at most on one, and some MiB of memory. */
const MOST_STREAMS = 256

export const SERVER_SETTINGS: H2Settings = { ...SETTINGS, maxStreams: MOST_STREAMS }
export const CLIENT_SETTINGS: H2Settings = { ...SETTINGS, maxStreams: 0 }

/** How often a connection gives back the memory of a burst. */
export const SHRINK_MS = 10_000
