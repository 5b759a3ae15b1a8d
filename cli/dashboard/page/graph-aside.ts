// SPDX-License-Identifier: Apache-2.0
// Beside the graph: what is selected with whom it deals, or all workloads as a list. Whoever does not see the drawing has the same here.

import type { GraphEdge, GraphNode } from '../view.ts'
import { el } from './dom.ts'
import { aboutNode, nodeName } from './drawing.ts'
import { isActive } from './edges.ts'
import { amount, bytes, plural, SECURITY_WORDS, traffic } from './format.ts'
import { button, roving, workloadHref } from './table.ts'

export interface Aside {
  readonly nodes: readonly GraphNode[]
  readonly edges: readonly GraphEdge[]
  readonly selected: GraphNode | undefined
  /** Selected, in the place of a workload. */
  readonly namespace: string | undefined
  readonly isNeighboursOnly: boolean
  readonly onSelect: (id: string) => void
  readonly onNeighbours: () => void
  readonly onClear: () => void
}

/** Its content. */
export function graphAside(aside: Aside): readonly Node[] {
  const { selected, namespace, nodes } = aside
  if (selected !== undefined) return aboutSelected(selected, aside)
  const listed =
    namespace === undefined ? nodes : nodes.filter((node) => node.namespace === namespace)
  return [
    head(
      namespace === undefined ? 'Workloads' : `Namespace ${namespace}`,
      plural(listed.length, 'workload'),
      aside,
      namespace !== undefined,
    ),
    roving(el('ul', { class: 'list' }, ...listed.map((node) => listItem(node, aside)))),
  ]
}

function head(title: string, about: string, { onClear }: Aside, canClear: boolean): HTMLElement {
  return el(
    'div',
    { class: 'head' },
    el('div', {}, el('h2', {}, title), el('p', { class: 'about' }, about)),
    canClear &&
      button('Close', {
        class: 'quiet',
        key: 'close',
        attributes: { 'aria-keyshortcuts': 'Escape' },
        on: { click: onClear },
      }),
  )
}

function listItem(node: GraphNode, { edges, onSelect }: Aside): HTMLElement {
  const into = edges.filter(({ to }) => to === node.id)
  const rate = into.reduce((sum, { rates }) => sum + rates.connections, 0)
  const denials = into.reduce((sum, { totals }) => sum + totals.denials + totals.deniedRequests, 0)
  return el(
    'li',
    {},
    el(
      'button',
      {
        key: `list ${node.id}`,
        attributes: { type: 'button' },
        on: { click: () => onSelect(node.id) },
      },
      el('span', { class: 'name' }, nodeName(node)),
      el('span', { class: 'of' }, node.namespace),
      el('span', { class: 'rate' }, rate > 0 ? `${amount(rate)}/s` : ''),
      denials > 0 && el('span', { class: 'pill bad' }, plural(denials, 'denial')),
      node.troubles > 0 && el('span', { class: 'pill warn' }, `${node.troubles} in trouble`),
    ),
  )
}

function aboutSelected(node: GraphNode, aside: Aside): readonly Node[] {
  const { edges, isNeighboursOnly, onNeighbours } = aside
  const into = edges.filter(({ to }) => to === node.id)
  const out = edges.filter(({ from }) => from === node.id)
  return [
    head(nodeName(node), `namespace ${node.namespace}, ${aboutNode(node)}`, aside, true),
    el(
      'p',
      { class: 'actions' },
      el(
        'a',
        {
          class: 'button',
          key: 'open',
          attributes: { href: workloadHref(node.namespace, node.name) },
        },
        'Policies, denials, certificate',
      ),
      button('Only neighbours', {
        key: 'neighbours',
        attributes: { 'aria-pressed': isNeighboursOnly ? 'true' : 'false' },
        on: { click: onNeighbours },
      }),
    ),
    ...(node.services.length > 0
      ? [el('p', { class: 'about' }, `Services: ${node.services.join(', ')}`)]
      : []),
    ends('Called by', into, ({ from }) => from, aside),
    ends('Calls', out, ({ to }) => to, aside),
  ]
}

function ends(
  title: string,
  edges: readonly GraphEdge[],
  other: (edge: GraphEdge) => string,
  { onSelect }: Aside,
): HTMLElement {
  return el(
    'section',
    {},
    el('h3', {}, title),
    edges.length === 0
      ? el('p', { class: 'empty' }, 'nobody')
      : roving(
          el(
            'ul',
            { class: 'list' },
            ...edges.map((edge) =>
              el(
                'li',
                {},
                el(
                  'button',
                  {
                    key: `${title} ${other(edge)}`,
                    attributes: { type: 'button' },
                    on: { click: () => onSelect(other(edge)) },
                  },
                  el('span', { class: 'name' }, other(edge)),
                  el(
                    'span',
                    { class: `pill ${edge.security === 'plaintext' ? 'warn' : 'plain'}` },
                    SECURITY_WORDS[edge.security],
                  ),
                  el('span', { class: 'of wide' }, edgeAbout(edge)),
                  edge.totals.denials > 0 &&
                    el('span', { class: 'pill bad' }, plural(edge.totals.denials, 'denial')),
                  edge.totals.deniedRequests > 0 &&
                    el(
                      'span',
                      { class: 'pill bad' },
                      plural(edge.totals.deniedRequests, 'denied request'),
                    ),
                  edge.totals.failedRequests > 0 &&
                    el(
                      'span',
                      { class: 'pill warn' },
                      plural(edge.totals.failedRequests, 'failed request'),
                    ),
                  edge.totals.errors > 0 &&
                    el('span', { class: 'pill warn' }, plural(edge.totals.errors, 'error')),
                ),
              ),
            ),
          ),
        ),
  )
}

function edgeAbout(edge: GraphEdge): string {
  const { totals } = edge
  const asked = totals.requests > 0 ? `${plural(totals.requests, 'request')}, ` : ''
  const all = `${asked}${plural(totals.opened, 'connection')}, ${bytes(totals.requestBytes + totals.responseBytes)} until now`
  return isActive(edge) ? `${traffic(edge)}; ${all}` : all
}
