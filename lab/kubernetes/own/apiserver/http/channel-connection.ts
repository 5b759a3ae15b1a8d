// SPDX-License-Identifier: Apache-2.0
// What exec runs over: messages of numbered channels, both ways. A message's first byte is its channel.

/** The channels of Kubernetes' remote command protocols. A message of `close` names a channel that has ended. */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const

/** A connection of channels. Handlers are set once, right after it is made. */
export interface ChannelConnection {
  onMessage: (payload: Buffer) => void
  /** Called once, however the connection ends. */
  onClose: () => void
  /** Sends a message; false when the caller should wait for drained() before the next. */
  send(payload: Buffer): boolean
  /** Resolves when buffered messages have left, or the connection has ended. */
  drained(): Promise<void>
  /** Stops reading, or goes on: backpressure towards the client. */
  pause(isPaused: boolean): void
  /** Ends the connection in order. */
  close(): void
}
