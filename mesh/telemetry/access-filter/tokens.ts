// SPDX-License-Identifier: Apache-2.0
// The words of a filter expression.

import { err, ok, type Result } from '../../result.ts'

export type TokenKind = 'name' | 'text' | 'number' | 'sign' | 'end'

export interface Token {
  readonly kind: TokenKind
  /** Of a text, without its quotes. */
  readonly text: string
  /** Where it begins, from 1. */
  readonly at: number
}

const WORD =
  /\s*(?:(?<name>[A-Za-z_][\w.]*)|(?<number>\d+(?:\.\d+)?)|"(?<double>(?:[^"\\]|\\.)*)"|'(?<single>(?:[^'\\]|\\.)*)'|(?<sign>&&|\|\||[=!<>]=|[!<>()[\],]))/y

/** Reads the words; the error says where something stands that is none. */
export function tokensOf(expression: string): Result<readonly Token[], string> {
  const tokens: Token[] = []
  const end = expression.trimEnd().length
  let at = 0
  while (at < end) {
    WORD.lastIndex = at
    const match = WORD.exec(expression)
    if (match === null) {
      const rest = expression.slice(at).trimStart()
      return err(`at ${expression.length - rest.length + 1}: cannot read "${rest.slice(0, 16)}"`)
    }
    tokens.push(tokenOf(match, at + 1 + leadingBlanks(match[0])))
    at = WORD.lastIndex
  }
  return ok([...tokens, { kind: 'end', text: '', at: end + 1 }])
}

function tokenOf({ groups = {} }: RegExpExecArray, at: number): Token {
  const { name, number, double, single, sign } = groups
  if (name !== undefined) return { kind: 'name', text: name, at }
  if (number !== undefined) return { kind: 'number', text: number, at }
  if (sign !== undefined) return { kind: 'sign', text: sign, at }
  return { kind: 'text', text: (double ?? single ?? '').replaceAll(/\\(.)/g, '$1'), at }
}

function leadingBlanks(text: string): number {
  return text.length - text.trimStart().length
}
