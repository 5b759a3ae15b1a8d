// SPDX-License-Identifier: Apache-2.0
// Tables and lists of a page, with rows that arrow keys go through.

import { el, type Properties } from './dom.ts'

export type Cell = Node | string

export interface TableOptions {
  readonly name: string
  readonly heading: readonly string[]
  readonly rows: readonly (readonly Cell[])[]
  readonly empty: string
}

/** A table with its name; what it says when it is empty. */
export function table({ name, heading, rows, empty }: TableOptions): HTMLElement {
  if (rows.length === 0)
    return el('section', {}, el('h2', {}, name), el('p', { class: 'empty' }, empty))
  return el(
    'section',
    {},
    el('h2', {}, name, ' ', el('span', { class: 'count' }, rows.length.toLocaleString('en'))),
    el(
      'div',
      {
        class: 'scroll',
        key: `table ${name}`,
        attributes: { tabindex: 0, role: 'region', 'aria-label': name },
      },
      el(
        'table',
        {},
        el(
          'thead',
          {},
          el('tr', {}, ...heading.map((text) => el('th', { attributes: { scope: 'col' } }, text))),
        ),
        el(
          'tbody',
          {},
          ...rows.map((row) =>
            el(
              'tr',
              {},
              ...row.map((cell, at) =>
                el('td', { attributes: { 'data-label': heading[at] ?? '' } }, cell),
              ),
            ),
          ),
        ),
      ),
    ),
  )
}

/** A word with a colour that says how it stands, and never by colour alone. */
export function pill(word: string, kind: 'good' | 'bad' | 'warn' | 'plain'): HTMLElement {
  return el('span', { class: `pill ${kind}` }, word)
}

/** A link to a workload's page. */
export function workloadLink(id: string, text: string = id): HTMLElement {
  const slash = id.indexOf('/')
  return el(
    'a',
    {
      key: `link ${id}`,
      attributes: { href: workloadHref(id.slice(0, slash), id.slice(slash + 1)) },
    },
    text,
  )
}

/** Its address. */
export function workloadHref(namespace: string, name: string): string {
  return `#/workload/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`
}

/** A list of things to go through with the arrow keys: one tab stop for all of them. */
export function roving(list: HTMLElement): HTMLElement {
  const items = (): HTMLElement[] => [...list.querySelectorAll<HTMLElement>('a, button')]
  for (const [at, item] of items().entries()) item.tabIndex = at === 0 ? 0 : -1
  list.addEventListener('focusin', (event) => {
    for (const item of items()) item.tabIndex = item === event.target ? 0 : -1
  })
  list.addEventListener('keydown', (event) => {
    const all = items()
    const at = all.indexOf(document.activeElement as HTMLElement)
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key]
    if (to === undefined) return
    event.preventDefault()
    all[Math.min(all.length - 1, Math.max(0, to))]?.focus()
  })
  return list
}

/** As `el`, for a button. */
export function button(text: string, properties: Properties): HTMLElement {
  const { attributes = {} } = properties
  return el('button', { ...properties, attributes: { type: 'button', ...attributes } }, text)
}
