// SPDX-License-Identifier: Apache-2.0
// Cuts the text of a template into text and actions, and an action into words: the part of Go's text/template that our chart is
// written in. Helm itself judges the chart, too (test/chart): what is not here is refused, never guessed.

/** A piece of a template. Whitespace that `{{-` and `-}}` take away is gone already. */
export type Piece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'action'; readonly words: readonly Word[]; readonly line: number }

/** A word of an action. */
export type Word =
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'number'; readonly value: number }
  /** `.Values.agent.image`; the path of `.` is empty. */
  | { readonly kind: 'field'; readonly path: readonly string[] }
  /** `$`, `$name`, `$.Values.agent`. */
  | { readonly kind: 'variable'; readonly name: string; readonly path: readonly string[] }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'mark'; readonly mark: '(' | ')' | '|' | ':=' | '=' | ',' }

/** What is wrong with a template, and where. */
export class TemplateError extends Error {}

const ACTION = /\{\{(-?)([\s\S]*?)(-?)\}\}/g
const WORD =
  /\s+|"((?:[^"\\]|\\.)*)"|`([^`]*)`|(-?\d+)\b|((?:\.[A-Za-z_]\w*)+|\.)|(\$\w*)((?:\.[A-Za-z_]\w*)*)|([A-Za-z]\w*)|(:=|[()|=,])/y

/** Cuts a template; `name` is what errors call it. */
export function cut(text: string, name: string): readonly Piece[] {
  const pieces: Piece[] = []
  let from = 0
  let isTrimmed = false
  const push = (piece: string, isTrimmedAtEnd: boolean): void => {
    const start = isTrimmed ? piece.trimStart() : piece
    const whole = isTrimmedAtEnd ? start.trimEnd() : start
    if (whole !== '') pieces.push({ kind: 'text', text: whole })
  }
  for (const match of text.matchAll(ACTION)) {
    const [whole, left = '', inside = '', right = ''] = match
    push(text.slice(from, match.index), left === '-')
    from = match.index + whole.length
    isTrimmed = right === '-'
    if (/^\s*\/\*/.test(inside)) continue
    const line = text.slice(0, match.index).split('\n').length
    pieces.push({ kind: 'action', words: wordsOf(inside, `${name}:${line}`), line })
  }
  push(text.slice(from), false)
  return pieces
}

function wordsOf(action: string, where: string): readonly Word[] {
  const words: Word[] = []
  WORD.lastIndex = 0
  while (WORD.lastIndex < action.length) {
    const at = WORD.lastIndex
    const match = WORD.exec(action)
    if (match === null)
      throw new TemplateError(`${where}: cannot read "${action.slice(at).trim()}" in an action`)
    const word = wordOf(match)
    if (word !== undefined) words.push(word)
  }
  return words
}

function wordOf(match: RegExpExecArray): Word | undefined {
  const [, quoted, raw, number, field, variable, path, name, mark] = match
  if (quoted !== undefined) return { kind: 'string', value: JSON.parse(`"${quoted}"`) as string }
  if (raw !== undefined) return { kind: 'string', value: raw }
  if (number !== undefined) return { kind: 'number', value: Number(number) }
  if (field !== undefined) return { kind: 'field', path: namesOf(field) }
  if (variable !== undefined) return { kind: 'variable', name: variable, path: namesOf(path ?? '') }
  if (name !== undefined) return { kind: 'name', name }
  if (mark !== undefined) return { kind: 'mark', mark: mark as (Word & { kind: 'mark' })['mark'] }
  return undefined
}

const namesOf = (path: string): readonly string[] => path.split('.').filter((each) => each !== '')
