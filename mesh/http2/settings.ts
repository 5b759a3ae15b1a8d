// SPDX-License-Identifier: Apache-2.0
// What one side of a connection announces and holds the peer to. The numbers belong to the protocol above: HBONE's
// are in mesh/hbone/limits.ts.

export interface H2Settings {
  /** Bytes of one stream that the peer may have under way unread. */
  readonly streamWindowBytes: number
  /** Bytes of all streams of a connection that may be under way unread; what stalled ones hold is lent on top of it. */
  readonly connectionWindowBytes: number
  /** The largest frame that is accepted. */
  readonly maxFrameBytes: number
  /** The largest header list, counted as RFC 9113 6.5.2 does, and the largest header block. */
  readonly headerListBytes: number
  /** Streams the peer may have open; announced by a server. */
  readonly maxStreams: number
}
