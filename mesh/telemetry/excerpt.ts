// SPDX-License-Identifier: Apache-2.0
// What others wrote, cut to what an error or a line of a log can bear.

const LONGEST = 300

/** The beginning of the text, and whether there was more. */
export function excerpt(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text
}
