// SPDX-License-Identifier: Apache-2.0
// From pieces to a tree: pipelines, and the blocks that if, with, range and define open.

import { cut, type Piece, TemplateError, type Word } from './lexer.ts'

export type Expression =
  | { readonly kind: 'literal'; readonly value: unknown }
  | { readonly kind: 'field'; readonly path: readonly string[] }
  | { readonly kind: 'variable'; readonly name: string; readonly path: readonly string[] }
  | { readonly kind: 'call'; readonly name: string; readonly arguments: readonly Expression[] }

export type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'output'; readonly value: Expression; readonly line: number }
  | {
      readonly kind: 'assign'
      readonly name: string
      readonly isNew: boolean
      readonly value: Expression
      readonly line: number
    }
  | {
      readonly kind: 'if' | 'with'
      readonly value: Expression
      readonly body: readonly Node[]
      readonly otherwise: readonly Node[]
      readonly line: number
    }
  | {
      readonly kind: 'range'
      /** `$key, $value :=`, one of them, or none. */
      readonly names: readonly string[]
      readonly value: Expression
      readonly body: readonly Node[]
      readonly otherwise: readonly Node[]
      readonly line: number
    }

export interface Template {
  readonly name: string
  readonly body: readonly Node[]
}

/** The templates of a file: its own under `name`, and each that it defines. Throws TemplateError. */
export function parseTemplates(text: string, name: string): readonly Template[] {
  const parser = new Parser(cut(text, name), name)
  const body = parser.file()
  return [{ name, body }, ...parser.defined]
}

class Parser {
  readonly defined: Template[] = []
  readonly #pieces: readonly Piece[]
  readonly #name: string
  #at = 0

  constructor(pieces: readonly Piece[], name: string) {
    this.#pieces = pieces
    this.#name = name
  }

  file(): readonly Node[] {
    const { body, end } = this.#block()
    if (end !== undefined) throw this.#error(end.line, 'an end or else without a beginning')
    return body
  }

  /** Up to `end` or `else`, which it takes; undefined at the end of the file. */
  #block(): { body: Node[]; end: (Piece & { kind: 'action' }) | undefined } {
    const body: Node[] = []
    for (;;) {
      const piece = this.#pieces[this.#at]
      if (piece === undefined) return { body, end: undefined }
      this.#at += 1
      if (piece.kind === 'text') {
        body.push(piece)
        continue
      }
      const keyword = nameAt(piece.words, 0)
      if (keyword === 'end' || keyword === 'else') return { body, end: piece }
      const node = this.#action(piece, keyword)
      if (node !== undefined) body.push(node)
    }
  }

  #action({ words, line }: Piece & { kind: 'action' }, keyword: string): Node | undefined {
    switch (keyword) {
      case 'if':
      case 'with':
        return { kind: keyword, ...this.#branches(words.slice(1), line), line }
      case 'range': {
        const { names, rest } = rangeNames(words.slice(1))
        return { kind: 'range', names, ...this.#branches(rest, line), line }
      }
      case 'define': {
        const name = words[1]
        const { body, end } = this.#block()
        if (name?.kind !== 'string' || end === undefined)
          throw this.#error(line, 'a define without a name or an end')
        this.defined.push({ name: name.value, body })
        return undefined
      }
      default:
        return this.#outputOrAssign(words, line)
    }
  }

  #outputOrAssign(words: readonly Word[], line: number): Node {
    const [first, second] = words
    if (first?.kind === 'variable' && second?.kind === 'mark' && /^:?=$/.test(second.mark))
      return {
        kind: 'assign',
        name: first.name,
        isNew: second.mark === ':=',
        value: this.#pipeline(words.slice(2), line),
        line,
      }
    return { kind: 'output', value: this.#pipeline(words, line), line }
  }

  #branches(
    words: readonly Word[],
    line: number,
  ): { value: Expression; body: readonly Node[]; otherwise: readonly Node[] } {
    const value = this.#pipeline(words, line)
    const { body, end } = this.#block()
    if (end === undefined) throw this.#error(line, 'a block without an end')
    if (nameAt(end.words, 0) === 'end') return { value, body, otherwise: [] }
    // `else if X` is an if in the else, whose end is the end of both.
    if (nameAt(end.words, 1) === 'if') {
      const inner = this.#branches(end.words.slice(2), end.line)
      return { value, body, otherwise: [{ kind: 'if', ...inner, line: end.line }] }
    }
    const rest = this.#block()
    if (rest.end === undefined) throw this.#error(line, 'a block without an end')
    return { value, body, otherwise: rest.body }
  }

  #pipeline(words: readonly Word[], line: number): Expression {
    const reader = new WordReader(words, (what) => this.#error(line, what))
    const value = reader.pipeline()
    reader.requireEnd()
    return value
  }

  #error(line: number, what: string): TemplateError {
    return new TemplateError(`${this.#name}:${line}: ${what}`)
  }
}

class WordReader {
  readonly #words: readonly Word[]
  readonly #error: (what: string) => TemplateError
  #at = 0

  constructor(words: readonly Word[], error: (what: string) => TemplateError) {
    this.#words = words
    this.#error = error
  }

  pipeline(): Expression {
    let value = this.#command()
    while (this.#takes('|')) {
      const call = this.#command()
      if (call.kind !== 'call') throw this.#error('what follows | is no function')
      value = { ...call, arguments: [...call.arguments, value] }
    }
    return value
  }

  requireEnd(): void {
    if (this.#at < this.#words.length) throw this.#error('an action goes on where it should end')
  }

  #command(): Expression {
    const first = this.#operand()
    if (first.kind !== 'call') return first
    const given: Expression[] = []
    for (;;) {
      const next = this.#words[this.#at]
      if (next === undefined || (next.kind === 'mark' && next.mark !== '(')) break
      given.push(this.#operand())
    }
    return { ...first, arguments: [...first.arguments, ...given] }
  }

  #operand(): Expression {
    const word = this.#words[this.#at]
    this.#at += 1
    switch (word?.kind) {
      case 'string':
      case 'number':
        return { kind: 'literal', value: word.value }
      case 'field':
      case 'variable':
        return word
      case 'name':
        if (word.name === 'true' || word.name === 'false')
          return { kind: 'literal', value: word.name === 'true' }
        return { kind: 'call', name: word.name, arguments: [] }
      case 'mark': {
        if (word.mark !== '(') throw this.#error(`"${word.mark}" stands where a value should`)
        const value = this.pipeline()
        if (!this.#takes(')')) throw this.#error('a bracket is not closed')
        return value
      }
      case undefined:
        throw this.#error('a value is missing')
    }
  }

  #takes(mark: string): boolean {
    const word = this.#words[this.#at]
    if (word?.kind !== 'mark' || word.mark !== mark) return false
    this.#at += 1
    return true
  }
}

function nameAt(words: readonly Word[], at: number): string {
  const word = words[at]
  return word?.kind === 'name' ? word.name : ''
}

function rangeNames(words: readonly Word[]): { names: readonly string[]; rest: readonly Word[] } {
  const at = words.findIndex((word) => word.kind === 'mark' && word.mark === ':=')
  if (at < 0) return { names: [], rest: words }
  const names = words.slice(0, at).flatMap((word) => (word.kind === 'variable' ? [word.name] : []))
  return { names, rest: words.slice(at + 1) }
}
