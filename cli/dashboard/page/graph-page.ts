// SPDX-License-Identifier: Apache-2.0
// The page of the graph: filters, the drawing with its view, and beside it what is selected or a list of all there is.

import type { GraphEdge, GraphNode, GraphView } from '../view.ts'
import { byKey, el, redraw, svg } from './dom.ts'
import { drawing, nodeName } from './drawing.ts'
import { isActive } from './edges.ts'
import { graphAside } from './graph-aside.ts'
import { graphTools, type Tools } from './graph-tools.ts'
import { layout, NODE, type Placed, type Point } from './layout.ts'
import { announce, load, type Page } from './page.ts'
import { Viewport } from './viewport.ts'

/** Below this a workload's name is too small to be read. */
const FAR_BELOW = 0.5

/** Puts it into `main`. */
export function graphPage(main: HTMLElement): Page {
  let view: GraphView = {
    at: 0,
    windowSeconds: 0,
    problem: undefined,
    agents: [],
    waypoints: [],
    nodes: [],
    edges: [],
  }
  let selected: string | undefined
  let current: string | undefined
  let nodes: readonly GraphNode[] = []
  let edges: readonly GraphEdge[] = []
  let placed: Placed = layout([], [])
  let shape = ''

  const tools: Tools = graphTools({
    onChange: () => update(),
    onZoom: (factor) => viewport.zoom(factor),
    onFit: () => viewport.fit(placed),
    onEnter: () => {
      const first = matching()[0]
      if (first !== undefined) select(first.id, true)
    },
  })
  const world = svg('g')
  const canvas = svg(
    'svg',
    {
      class: 'canvas',
      attributes: {
        role: 'group',
        'aria-label': 'Who calls whom. Arrow keys go from one to the next, Enter selects.',
      },
      on: { keydown: (event) => onKey(event as KeyboardEvent) },
    },
    arrowHeads(),
    world,
  )
  const viewport = new Viewport(canvas as SVGSVGElement, world, () => draw())
  const aside = el('aside', { attributes: { 'aria-label': 'Details' } })
  const empty = el('p', { class: 'empty overlay' })
  main.replaceChildren(
    el('h1', { class: 'unseen' }, 'Graph'),
    el(
      'div',
      { class: 'graph' },
      tools.element,
      el('div', { class: 'stage' }, canvas, empty, legend()),
      aside,
    ),
  )

  const isFar = (): boolean =>
    tools.detail() === 'namespaces' ||
    (tools.detail() === 'auto' &&
      viewport.scale < FAR_BELOW &&
      // Who has chosen what to see wants to see it.
      tools.namespace() === '' &&
      !tools.isNeighboursOnly())

  const matching = (): readonly GraphNode[] => {
    const wanted = tools.search().trim().toLowerCase()
    if (wanted === '') return nodes
    return nodes.filter(
      ({ id, services }) =>
        id.toLowerCase().includes(wanted) ||
        services.some((service) => service.toLowerCase().includes(wanted)),
    )
  }

  /** Which stay in the light: what is sought, or what is selected with its neighbours. */
  const lit = (): ReadonlySet<string> | undefined => {
    if (selected !== undefined) {
      const near = new Set(membersOf(selected))
      for (const { from, to } of edges) {
        if (membersOf(selected).has(from)) near.add(to)
        if (membersOf(selected).has(to)) near.add(from)
      }
      return near
    }
    return tools.search().trim() === '' ? undefined : new Set(matching().map(({ id }) => id))
  }

  /** A namespace can be selected as well. */
  const membersOf = (id: string): ReadonlySet<string> =>
    nodes.some((node) => node.id === id)
      ? new Set([id])
      : new Set(nodes.filter(({ namespace }) => namespace === id).map((node) => node.id))

  const update = (): void => {
    tools.setNamespaces([...new Set(view.nodes.map(({ namespace }) => namespace))].sort())
    edges = view.edges.filter((edge) => !tools.isActiveOnly() || isActive(edge))
    nodes = visibleNodes()
    const ids = new Set(nodes.map(({ id }) => id))
    edges = edges.filter(({ from, to }) => ids.has(from) && ids.has(to))
    if (selected !== undefined && membersOf(selected).size === 0) selected = undefined
    const next = JSON.stringify([
      nodes.map(({ id }) => id),
      edges.map(({ from, to }) => [from, to]),
      viewport.aspect,
    ])
    if (next !== shape) {
      const isFirst = placed.nodes.size === 0
      shape = next
      placed = layout(nodes, edges, viewport.aspect)
      if (isFirst || !viewport.isMoved) viewport.fit(placed)
    }
    empty.hidden = nodes.length > 0
    empty.textContent =
      view.nodes.length === 0
        ? 'No workload is known yet. Once an agent answers, it is drawn here.'
        : 'Nothing passes these filters.'
    draw()
  }

  const visibleNodes = (): readonly GraphNode[] => {
    const chosen = tools.namespace()
    let passing = view.nodes.filter(({ namespace }) => chosen === '' || namespace === chosen)
    if (chosen !== '') {
      // Whom the namespace deals with belongs to its picture.
      const own = new Set(passing.map(({ id }) => id))
      edges = edges.filter(({ from, to }) => own.has(from) || own.has(to))
      const near = new Set(edges.flatMap(({ from, to }) => [from, to]))
      passing = view.nodes.filter(({ id }) => own.has(id) || near.has(id))
    }
    if (tools.isNeighboursOnly() && selected !== undefined) {
      const of = new Set(
        view.nodes
          .filter(({ id, namespace }) => id === selected || namespace === selected)
          .map(({ id }) => id),
      )
      edges = edges.filter(({ from, to }) => of.has(from) || of.has(to))
      const near = new Set([...of, ...edges.flatMap(({ from, to }) => [from, to])])
      passing = passing.filter(({ id }) => near.has(id))
    }
    if (tools.isActiveOnly()) {
      const busy = new Set(edges.flatMap(({ from, to }) => [from, to]))
      passing = passing.filter(({ id }) => busy.has(id))
    }
    return passing
  }

  const draw = (): void => {
    const far = isFar()
    const stops = far ? placed.boxes.map(({ namespace }) => namespace) : nodes.map(({ id }) => id)
    if (current === undefined || !stops.includes(current)) current = selected ?? stops[0]
    if (current !== undefined && !stops.includes(current)) current = stops[0]
    const scene = { placed, nodes, edges, isFar: far, scale: viewport.scale, selected, current }
    redraw(world, ...drawing({ ...scene, lit: lit(), onSelect: (id) => select(id, false) }))
    redraw(
      aside,
      ...graphAside({
        nodes: matching(),
        edges,
        selected: nodes.find(({ id }) => id === selected),
        namespace:
          selected !== undefined && !nodes.some(({ id }) => id === selected) ? selected : undefined,
        isNeighboursOnly: tools.isNeighboursOnly(),
        onSelect: (id) => select(id, true),
        onNeighbours: () => tools.toggleNeighbours(),
        onClear: () => clear(),
      }),
    )
  }

  const select = (id: string, isToBeShown: boolean): void => {
    if (selected === id && !isToBeShown) return void clear()
    selected = id
    current = id
    const node = nodes.find((each) => each.id === id)
    announce(node === undefined ? `namespace ${id} selected` : `${nodeName(node)} selected`)
    if (tools.isNeighboursOnly()) update()
    const point = placed.nodes.get(id)
    if (isToBeShown && point !== undefined) viewport.show({ ...point, ...NODE }, FAR_BELOW * 1.5)
    draw()
  }

  const clear = (): boolean => {
    if (selected === undefined) return false
    selected = undefined
    announce('nothing selected')
    tools.clearNeighbours()
    update()
    return true
  }

  const onKey = (event: KeyboardEvent): void => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[
      event.key
    ]
    if (step !== undefined) {
      event.preventDefault()
      moveFocus({ x: step[0] ?? 0, y: step[1] ?? 0 })
    } else if (event.key === '+' || event.key === '=') viewport.zoom(1.25)
    else if (event.key === '-') viewport.zoom(0.8)
    else if (event.key === '0') viewport.fit(placed)
  }

  /** To the nearest in that direction; what lies aside counts as farther. */
  const moveFocus = (step: Point): void => {
    const places: readonly (readonly [string, Point])[] = isFar()
      ? placed.boxes.map((box) => [
          box.namespace,
          { x: box.x + box.width / 2, y: box.y + box.height / 2 },
        ])
      : [...placed.nodes]
    const from = places.find(([id]) => id === current)?.[1]
    if (from === undefined) return
    let best: { readonly id: string; readonly cost: number } | undefined
    for (const [id, { x, y }] of places) {
      const along = (x - from.x) * step.x + (y - from.y) * step.y
      if (along <= 1) continue
      const aside = Math.abs((x - from.x) * step.y) + Math.abs((y - from.y) * step.x)
      const cost = along + 2.5 * aside
      if (best === undefined || cost < best.cost) best = { id, cost }
    }
    if (best === undefined) return
    current = best.id
    const point = placed.nodes.get(best.id)
    if (point !== undefined) viewport.reveal({ ...point, ...NODE })
    draw()
    byKey(world, `node ${best.id}`)?.focus({ preventScroll: true })
  }

  return {
    title: 'Graph',
    refresh: async () => {
      view = await load<GraphView>('/api/graph')
      update()
    },
    search: () => tools.searchField,
    escape: () => tools.clearSearch() || clear(),
    leave: () => viewport.close(),
  }
}

function arrowHeads(): SVGElement {
  return svg(
    'defs',
    {},
    ...(['mutual_tls', 'node_local', 'plaintext', 'unused'] as const).map((security) =>
      svg(
        'marker',
        {
          attributes: {
            id: `arrow-${security}`,
            viewBox: '0 0 8 8',
            refX: 7,
            refY: 4,
            markerWidth: 7,
            markerHeight: 7,
            markerUnits: 'userSpaceOnUse',
            orient: 'auto',
          },
        },
        svg('path', { class: `head ${security}`, attributes: { d: 'M0 0.6 7.4 4 0 7.4z' } }),
      ),
    ),
  )
}

function legend(): HTMLElement {
  const sample = (kind: string, text: string): HTMLElement =>
    el(
      'li',
      {},
      svg(
        'svg',
        { attributes: { width: 30, height: 10, 'aria-hidden': 'true' } },
        svg(
          'g',
          { class: `edge ${kind}` },
          svg('path', { attributes: { d: 'M1 5H29', 'stroke-width': 2.6 } }),
        ),
      ),
      text,
    )
  return el(
    'ul',
    { class: 'legend', attributes: { 'aria-label': 'What the lines mean' } },
    sample('mutual_tls', 'mutual TLS'),
    sample('node_local', 'inside the node'),
    sample('plaintext', 'plaintext'),
    sample('mutual_tls still', 'quiet now'),
    el('li', {}, el('b', { class: 'mark denied' }, '✕'), 'denials'),
    el('li', {}, el('b', { class: 'mark failed' }, '!'), 'errors'),
  )
}
