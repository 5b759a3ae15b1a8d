// SPDX-License-Identifier: Apache-2.0
// Carries a template out over data.

import { ChartRefusal, FUNCTIONS, fieldOf, isRecord, isTrue, shown } from './functions.ts'
import { TemplateError } from './lexer.ts'
import type { Expression, Node, Template } from './parser.ts'

/** A variable and the ones around it. */
interface Scope {
  readonly variables: Map<string, unknown>
  readonly outer: Scope | undefined
}

/** Templates by name, which include one another. */
export class TemplateSet {
  readonly #templates: ReadonlyMap<string, Template>

  constructor(templates: Iterable<Template>) {
    this.#templates = new Map([...templates].map((each) => [each.name, each]))
  }

  /** The text that a template makes of data. Throws TemplateError, and ChartRefusal where the template says `fail`. */
  render(name: string, data: unknown): string {
    const template = this.#templates.get(name)
    if (template === undefined) throw new TemplateError(`there is no template "${name}"`)
    const scope: Scope = { variables: new Map([['$', data]]), outer: undefined }
    return this.#nodes(template.body, data, scope, name)
  }

  #nodes(nodes: readonly Node[], dot: unknown, scope: Scope, name: string): string {
    return nodes.map((node) => this.#node(node, dot, scope, name)).join('')
  }

  #node(node: Node, dot: unknown, scope: Scope, name: string): string {
    if (node.kind === 'text') return node.text
    try {
      return this.#action(node, dot, scope, name)
    } catch (thrown) {
      if (thrown instanceof ChartRefusal || !(thrown instanceof TemplateError)) throw thrown
      if (/:\d+: /.test(thrown.message)) throw thrown
      throw new TemplateError(`${name}:${node.line}: ${thrown.message}`)
    }
  }

  #action(node: Exclude<Node, { kind: 'text' }>, dot: unknown, scope: Scope, name: string): string {
    const value = this.#value(node.value, dot, scope)
    switch (node.kind) {
      case 'output':
        return shown(value)
      case 'assign':
        assign(scope, node.name, value, node.isNew)
        return ''
      case 'if':
      case 'with': {
        const chosen = isTrue(value) ? node.body : node.otherwise
        const inner = node.kind === 'with' && isTrue(value) ? value : dot
        return this.#nodes(chosen, inner, within(scope), name)
      }
      case 'range': {
        const entries = entriesOf(value)
        if (entries.length === 0) return this.#nodes(node.otherwise, dot, within(scope), name)
        return entries
          .map(([key, item]) => {
            const [first, second] = node.names
            const each = within(scope)
            if (second !== undefined) each.variables.set(second, item)
            if (first !== undefined) each.variables.set(first, second === undefined ? item : key)
            return this.#nodes(node.body, item, each, name)
          })
          .join('')
      }
    }
  }

  #value(expression: Expression, dot: unknown, scope: Scope): unknown {
    switch (expression.kind) {
      case 'literal':
        return expression.value
      case 'field':
        return expression.path.reduce(fieldOf, dot)
      case 'variable':
        return expression.path.reduce(fieldOf, lookUp(scope, expression.name))
      case 'call': {
        const given = expression.arguments.map((each) => this.#value(each, dot, scope))
        if (expression.name === 'include') return this.render(shown(given[0]), given[1])
        const called = FUNCTIONS[expression.name]
        if (called === undefined) throw new TemplateError(`no function "${expression.name}"`)
        return called(...given)
      }
    }
  }
}

const within = (outer: Scope): Scope => ({ variables: new Map(), outer })

function lookUp(scope: Scope, name: string): unknown {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.outer)
    if (at.variables.has(name)) return at.variables.get(name)
  throw new TemplateError(`no variable ${name}`)
}

function assign(scope: Scope, name: string, value: unknown, isNew: boolean): void {
  if (isNew) {
    scope.variables.set(name, value)
    return
  }
  for (let at: Scope | undefined = scope; at !== undefined; at = at.outer)
    if (at.variables.has(name)) {
      at.variables.set(name, value)
      return
    }
  throw new TemplateError(`no variable ${name}`)
}

/** Of a mapping by its keys in order, as Go goes through it. */
function entriesOf(value: unknown): readonly (readonly [string | number, unknown])[] {
  if (Array.isArray(value)) return [...value.entries()]
  if (!isRecord(value)) return []
  return Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1))
}
