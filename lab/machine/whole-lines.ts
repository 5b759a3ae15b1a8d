// SPDX-License-Identifier: Apache-2.0
// Lines of a log that is being written.

/** Those that are whole: what comes after the last line end is half a line, of which whoever looks later sees the rest. */
export function wholeLines(log: string): readonly string[] {
  return log.split('\n').slice(0, -1)
}
