// SPDX-License-Identifier: Apache-2.0
// The picture of the graph: whatever calls whatever, everything has its place, nothing lies upon another, and it is no ribbon. Pure.

import t from 'tap'
import fc from 'fast-check'
import { layersOf, layout, NODE, type Placed } from '../../cli/dashboard/page/layout.ts'

interface Area {
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
}

function overlaps(one: Area, other: Area): boolean {
  return (
    one.x < other.x + other.width &&
    other.x < one.x + one.width &&
    one.y < other.y + other.height &&
    other.y < one.y + one.height
  )
}

function clashes(areas: readonly Area[]): number {
  return areas.reduce(
    (sum, one, at) => sum + areas.slice(at + 1).filter((other) => overlaps(one, other)).length,
    0,
  )
}

const graph = fc
  .record({
    namespaces: fc.array(fc.nat(6), { minLength: 1, maxLength: 60 }),
    links: fc.array(fc.tuple(fc.nat(59), fc.nat(59)), { maxLength: 150 }),
  })
  .map(({ namespaces, links }) => ({
    members: namespaces.map((namespace, at) => ({ id: `n${at}`, namespace: `ns${namespace}` })),
    links: links.map(([from, to]) => ({ from: `n${from}`, to: `n${to}` })),
  }))

void t.test('every node stands in the box of its namespace, and none on another', (t) => {
  fc.assert(
    fc.property(graph, ({ members, links }) => {
      const placed: Placed = layout(members, links)
      t.equal(placed.nodes.size, members.length)
      const areas = members.map(({ id }) => ({
        ...(placed.nodes.get(id) ?? { x: 0, y: 0 }),
        ...NODE,
      }))
      t.equal(clashes(areas), 0)
      t.equal(clashes(placed.boxes), 0)
      for (const [at, { namespace }] of members.entries()) {
        const box = placed.boxes.find((each) => each.namespace === namespace)
        const area = areas[at]
        if (box === undefined || area === undefined) throw new Error('no box')
        t.ok(area.x >= box.x && area.x + area.width <= box.x + box.width)
        t.ok(area.y >= box.y && area.y + area.height <= box.y + box.height)
      }
      t.strictSame(layout(members, links), placed, 'the same again')
    }),
    { numRuns: 60 },
  )
  t.end()
})

void t.test('who calls stands before whom it calls; a circle is no trouble', (t) => {
  const layers = layersOf(
    ['c', 'b', 'a', 'x', 'y'],
    [
      { from: 'a', to: 'b' },
      { from: 'b', to: 'c' },
      { from: 'a', to: 'c' },
      { from: 'x', to: 'y' },
      { from: 'y', to: 'x' },
    ],
  )
  const layerOf = (id: string): number => layers.findIndex((layer) => layer.includes(id))
  t.ok(layerOf('a') < layerOf('b') && layerOf('b') < layerOf('c'))
  t.not(layerOf('x'), layerOf('y'))
  t.end()
})

void t.test('a chain of hundreds is no ribbon, and one of thousands no overflow', (t) => {
  const chain = (length: number) => ({
    members: Array.from({ length }, (_, at) => ({ id: `n${at}`, namespace: `ns${at % 8}` })),
    links: Array.from({ length: length - 1 }, (_, at) => ({ from: `n${at}`, to: `n${at + 1}` })),
  })
  const { members, links } = chain(200)
  const { width, height } = layout(members, links, 1.5)
  t.ok(width / height > 0.6 && width / height < 3.5, `${width} x ${height}`)
  const long = chain(20_000)
  t.equal(layout(long.members, long.links).nodes.size, 20_000)
  t.end()
})
