// SPDX-License-Identifier: Apache-2.0
// The filters above the graph.

import { el } from './dom.ts'
import { button } from './table.ts'

export type Detail = 'auto' | 'namespaces' | 'workloads'

export interface Tools {
  readonly element: HTMLElement
  readonly searchField: HTMLElement
  readonly search: () => string
  readonly namespace: () => string
  readonly detail: () => Detail
  readonly isActiveOnly: () => boolean
  readonly isNeighboursOnly: () => boolean
  readonly toggleNeighbours: () => void
  readonly clearNeighbours: () => void
  readonly clearSearch: () => boolean
  readonly setNamespaces: (namespaces: readonly string[]) => void
}

export interface ToolEvents {
  readonly onChange: () => void
  readonly onZoom: (factor: number) => void
  readonly onFit: () => void
  /** Enter in the search field. */
  readonly onEnter: () => void
}

/** Makes them. */
export function graphTools({ onChange, onZoom, onFit, onEnter }: ToolEvents): Tools {
  let isNeighboursOnly = false
  const search = el('input', {
    attributes: {
      type: 'search',
      placeholder: 'Search  /',
      'aria-label': 'Search workloads and services',
      'aria-keyshortcuts': '/',
    },
    on: {
      input: onChange,
      keydown: (event) => {
        if ((event as KeyboardEvent).key === 'Enter') onEnter()
      },
    },
  }) as HTMLInputElement
  const namespace = el('select', {
    attributes: { 'aria-label': 'Namespace' },
    on: { change: onChange },
  }) as HTMLSelectElement
  const detail = el(
    'select',
    { attributes: { 'aria-label': 'Detail' }, on: { change: onChange } },
    el('option', { attributes: { value: 'auto' } }, 'Detail by zoom'),
    el('option', { attributes: { value: 'namespaces' } }, 'Namespaces'),
    el('option', { attributes: { value: 'workloads' } }, 'Workloads'),
  ) as HTMLSelectElement
  const active = el('input', {
    attributes: { type: 'checkbox' },
    on: { change: onChange },
  }) as HTMLInputElement
  let known = ''
  return {
    element: el(
      'div',
      { class: 'tools', attributes: { role: 'toolbar', 'aria-label': 'Filters' } },
      search,
      namespace,
      detail,
      el('label', { class: 'check' }, active, 'only what is active'),
      el(
        'span',
        { class: 'zoom' },
        button('−', { attributes: { 'aria-label': 'Zoom out' }, on: { click: () => onZoom(0.8) } }),
        button('+', { attributes: { 'aria-label': 'Zoom in' }, on: { click: () => onZoom(1.25) } }),
        button('Fit', { attributes: { 'aria-label': 'Show all' }, on: { click: () => onFit() } }),
      ),
    ),
    searchField: search,
    search: () => search.value,
    namespace: () => namespace.value,
    detail: () => detail.value as Detail,
    isActiveOnly: () => active.checked,
    isNeighboursOnly: () => isNeighboursOnly,
    toggleNeighbours: () => {
      isNeighboursOnly = !isNeighboursOnly
      onChange()
    },
    clearNeighbours: () => {
      isNeighboursOnly = false
    },
    clearSearch: () => {
      if (search.value === '') return false
      search.value = ''
      onChange()
      return true
    },
    setNamespaces: (namespaces) => {
      const next = JSON.stringify(namespaces)
      if (next === known) return
      known = next
      const chosen = namespace.value
      namespace.replaceChildren(
        el('option', { attributes: { value: '' } }, 'All namespaces'),
        ...namespaces.map((name) => el('option', { attributes: { value: name } }, name)),
      )
      namespace.value = namespaces.includes(chosen) ? chosen : ''
    },
  }
}
