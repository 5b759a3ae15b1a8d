// SPDX-License-Identifier: Apache-2.0
// Where everything stands in the graph: callers to the left of whom they call, each namespace a box of its own. The same input gives the same
// picture. Pure; it knows nothing of a page.

export interface Point {
  readonly x: number
  readonly y: number
}

export interface Box extends Point {
  readonly namespace: string
  readonly width: number
  readonly height: number
}

export interface Placed {
  /** The upper left corner of each node, by id. */
  readonly nodes: ReadonlyMap<string, Point>
  readonly boxes: readonly Box[]
  readonly width: number
  readonly height: number
}

export interface Member {
  readonly id: string
  readonly namespace: string
}

export interface Link {
  readonly from: string
  readonly to: string
}

export const NODE = { width: 180, height: 46 }
const GAP = { x: 56, y: 14 }
const PADDING = 18
/** The namespace's name. */
const HEADING = 34
const BOX_GAP = { x: 110, y: 40 }
/** Of a namespace's box: wider than high, as what is read from left to right. */
const BOX_ASPECT = 1.3
/** Fewer rows than this are never made two columns. */
const FEW_ROWS = 5

/** Places all nodes, the whole about `aspect` times as wide as high. */
export function layout(
  members: readonly Member[],
  links: readonly Link[],
  aspect = BOX_ASPECT,
): Placed {
  const home = new Map(members.map(({ id, namespace }) => [id, namespace]))
  const known = links.filter(({ from, to }) => from !== to && home.has(from) && home.has(to))
  const inner = new Map(
    [...Map.groupBy(members, ({ namespace }) => namespace)].map(([namespace, own]) => [
      namespace,
      arrange(
        own.map(({ id }) => id),
        known.filter(({ from, to }) => home.get(from) === namespace && home.get(to) === namespace),
      ),
    ]),
  )
  const between = known
    .map(({ from, to }) => ({ from: home.get(from) ?? '', to: home.get(to) ?? '' }))
    .filter(({ from, to }) => from !== to)
  return place(inner, layersOf([...inner.keys()], between), aspect)
}

interface Arranged {
  readonly at: ReadonlyMap<string, Point>
  readonly width: number
  readonly height: number
}

/** The nodes of one namespace in columns. */
function arrange(ids: readonly string[], links: readonly Link[]): Arranged {
  const cell = { width: NODE.width + GAP.x, height: NODE.height + GAP.y }
  const rows = Math.max(
    FEW_ROWS,
    Math.ceil(Math.sqrt((ids.length * cell.width) / cell.height / BOX_ASPECT)),
  )
  const columns = stacks(layersOf(ids, links), () => 1, rows)
  const at = new Map<string, Point>()
  const tallest = Math.max(1, ...columns.map((column) => column.length))
  const bodyHeight = tallest * (NODE.height + GAP.y) - GAP.y
  for (const [index, column] of columns.entries()) {
    const own = column.length * (NODE.height + GAP.y) - GAP.y
    const x = PADDING + index * (NODE.width + GAP.x)
    const top = HEADING + (bodyHeight - own) / 2
    for (const [row, id] of column.entries())
      at.set(id, { x, y: top + row * (NODE.height + GAP.y) })
  }
  return {
    at,
    width: 2 * PADDING + columns.length * (NODE.width + GAP.x) - GAP.x,
    height: HEADING + bodyHeight + PADDING,
  }
}

/** The boxes in columns of about equal height, wrapped so that the whole fits a screen. */
function place(
  inner: ReadonlyMap<string, Arranged>,
  layers: readonly (readonly string[])[],
  aspect: number,
): Placed {
  const size = (namespace: string): Arranged =>
    inner.get(namespace) ?? { at: new Map(), width: 0, height: 0 }
  const area = [...inner.values()].reduce(
    (sum, { width, height }) => sum + (width + BOX_GAP.x) * (height + BOX_GAP.y),
    0,
  )
  const tallest = Math.max(0, ...[...inner.values()].map(({ height }) => height))
  const limit = Math.max(tallest, Math.sqrt(area / aspect)) + BOX_GAP.y
  const columns = stacks(layers, (name) => size(name).height + BOX_GAP.y, limit)
  const heightOf = (column: readonly string[]): number =>
    column.reduce((sum, name) => sum + size(name).height + BOX_GAP.y, -BOX_GAP.y)
  const height = Math.max(0, ...columns.map(heightOf))
  const nodes = new Map<string, Point>()
  const boxes: Box[] = []
  let x = 0
  for (const column of columns) {
    const width = Math.max(0, ...column.map((name) => size(name).width))
    let y = (height - heightOf(column)) / 2
    for (const namespace of column) {
      const own = size(namespace)
      const left = x + (width - own.width) / 2
      boxes.push({ namespace, x: left, y, width: own.width, height: own.height })
      for (const [id, point] of own.at) nodes.set(id, { x: left + point.x, y: y + point.y })
      y += own.height + BOX_GAP.y
    }
    x += width + BOX_GAP.x
  }
  return { nodes, boxes, width: Math.max(0, x - BOX_GAP.x), height }
}

/**
 * Who calls stands in an earlier layer than whom it calls, as far as that goes: of a circle the link that closes it is passed over. In a layer each
 * stands near those that call it.
 */
export function layersOf(
  ids: readonly string[],
  links: readonly Link[],
): readonly (readonly string[])[] {
  const callees = new Map(ids.map((id) => [id, new Set<string>()]))
  const callers = new Map(ids.map((id) => [id, new Set<string>()]))
  for (const { from, to } of links) {
    callees.get(from)?.add(to)
    callers.get(to)?.add(from)
  }
  const out = (id: string): number => (callees.get(id)?.size ?? 0) - (callers.get(id)?.size ?? 0)
  const order = finishingOrder(
    ids.toSorted((one, other) => out(other) - out(one) || (one < other ? -1 : 1)),
    callees,
  )
  const depth = new Map<string, number>()
  const position = new Map(order.map((id, at) => [id, at]))
  for (const id of order) {
    const own = depth.get(id) ?? 0
    depth.set(id, own)
    for (const callee of callees.get(id) ?? [])
      if ((position.get(callee) ?? 0) > (position.get(id) ?? 0))
        depth.set(callee, Math.max(depth.get(callee) ?? 0, own + 1))
  }
  const layers: string[][] = []
  for (const id of order) (layers[depth.get(id) ?? 0] ??= []).push(id)
  const place = new Map<string, number>()
  for (const layer of layers) {
    const middle = (id: string): number => {
      const places = [...(callers.get(id) ?? [])].flatMap((caller) => place.get(caller) ?? [])
      return places.length === 0
        ? Number.MAX_SAFE_INTEGER
        : places.reduce((sum, each) => sum + each, 0) / places.length
    }
    const middles = new Map(layer.map((id) => [id, middle(id)]))
    layer.sort(
      (one, other) => (middles.get(one) ?? 0) - (middles.get(other) ?? 0) || (one < other ? -1 : 1),
    )
    for (const [at, id] of layer.entries()) place.set(id, at / layer.length)
  }
  return layers
}

/** Topological where there is no circle: the reverse of the order in which a depth-first search is done with them. */
function finishingOrder(
  ids: readonly string[],
  callees: ReadonlyMap<string, ReadonlySet<string>>,
): readonly string[] {
  const seen = new Set<string>()
  const done: string[] = []
  for (const start of ids) {
    if (seen.has(start)) continue
    seen.add(start)
    // By hand: a chain of thousands must not overflow the stack.
    const stack = [{ id: start, rest: [...(callees.get(start) ?? [])] }]
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const next = top.rest.pop()
      if (next === undefined) {
        done.push(top.id)
        stack.pop()
      } else if (!seen.has(next)) {
        seen.add(next)
        stack.push({ id: next, rest: [...(callees.get(next) ?? [])] })
      }
    }
  }
  return done.reverse()
}

/**
 * Columns that are filled to the limit: a layer that is too high becomes several, and of a long chain of small ones several become one, so that the
 * whole is no ribbon. Layers stay in their order.
 */
function stacks(
  layers: readonly (readonly string[])[],
  heightOf: (id: string) => number,
  limit: number,
): readonly (readonly string[])[] {
  const heights = layers.map((layer) => layer.reduce((sum, id) => sum + heightOf(id), 0))
  const total = heights.reduce((sum, height) => sum + height, 0)
  // As many layers as there is room for stand by themselves.
  if (layers.length <= Math.ceil(total / limit))
    return layers.flatMap((layer) => filled([layer], heightOf, limit))
  return filled(layers, heightOf, limit)
}

function filled(
  layers: readonly (readonly string[])[],
  heightOf: (id: string) => number,
  limit: number,
): readonly (readonly string[])[] {
  const ids = layers.flat()
  const total = ids.reduce((sum, id) => sum + heightOf(id), 0)
  // Of equal height, not all but the last one full.
  const each = total / Math.ceil(total / limit)
  const columns: string[][] = []
  let height = 0
  for (const id of ids) {
    const own = heightOf(id)
    if (columns.length === 0 || height + own / 2 > each * columns.length) columns.push([])
    columns.at(-1)?.push(id)
    height += own
  }
  return columns
}
