// SPDX-License-Identifier: Apache-2.0
// Text of others on the way to a person.

/** Others choose their names: none may write on the reader's terminal, nor turn the direction in which it reads. */
export function clean(text: string): string {
  return text.replace(/\p{Cc}|\p{Bidi_Control}/gu, '?')
}
