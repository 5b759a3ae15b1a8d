// SPDX-License-Identifier: Apache-2.0
// Maps that an earlier agent has pinned, held against those that this one has: an agent takes them over as they are, or not at all. A
// layout's version says that they are the same (pins.ts); this finds out where that is not true.

import { AmbitError } from '../../mesh/errors.ts'
import { openPinned, unpin } from '../../native/bpf-link.ts'
import { type MapShape, shapeOfMap } from '../../native/bpf-map.ts'
import { closeFd } from '../../native/libc.ts'
import { entriesOf, type Pins } from './pins.ts'

/** For people. */
const WORDS = {
  type: 'type',
  keySize: 'bytes of a key',
  valueSize: 'bytes of a value',
  maxEntries: 'entries',
  flags: 'flags',
} as const satisfies Readonly<Record<keyof MapShape, string>>

/** Says where what is pinned differs from what is expected, by map; empty where it does not, or nothing is there. */
function pinnedDifferences(pins: Pins, expected: ReadonlyMap<string, MapShape>): readonly string[] {
  const differences: string[] = []
  for (const [name, own] of expected) {
    const found = pinnedShape(`${pins.maps}/${name}`)
    if (found === undefined) continue
    for (const [field, word] of Object.entries(WORDS) as [keyof MapShape, string][])
      if (found[field] !== own[field])
        differences.push(`map ${name} has ${word} ${found[field]}, expected ${own[field]}`)
  }
  return differences
}

/** Throws AMB_BPF_LAYOUT where they differ. */
export function requirePinned(pins: Pins, expected: ReadonlyMap<string, MapShape>): void {
  const differences = pinnedDifferences(pins, expected)
  if (differences.length > 0)
    throw new AmbitError(
      'AMB_BPF_LAYOUT',
      `Cannot open capture: the agent before this one has other maps in ${pins.maps}: ${differences.join('; ')}`,
    )
}

/** Takes away the names of maps that are another version's alone; its programs keep the maps for as long as they are there. */
export function unpinUnknown(pins: Pins, expected: ReadonlyMap<string, MapShape>): void {
  for (const name of entriesOf(pins.maps)) if (!expected.has(name)) unpin(`${pins.maps}/${name}`)
}

function pinnedShape(path: string): MapShape | undefined {
  const fd = openPinned(path)
  if (fd === undefined) return undefined
  try {
    return shapeOfMap(fd)
  } finally {
    closeFd(fd)
  }
}
