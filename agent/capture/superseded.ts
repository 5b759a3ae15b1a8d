// SPDX-License-Identifier: Apache-2.0
// What an agent with another layout of the maps left: its programs would go on capturing connections into listeners that
// are gone. They are taken off as soon as ours are attached; until each of its pods is enrolled here it stays closed.

import { BpfMap } from '../../native/bpf-map.ts'
import { detachLink, openPinned, unpin } from '../../native/bpf-link.ts'
import { closeFd } from '../../native/libc.ts'
import { encodeU64, failOpenOf } from './layout.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { entriesOf, type Pins } from './pins.ts'
import { isCaptured, writePod } from './pod-maps.ts'
import type { CapturePrograms } from './programs.ts'

/** Larger than what any layout keeps of a pod. */
const POD_VALUE_ROOM = 4096

/** Closes the pods of earlier layouts here, then takes the earlier cgroup programs off. The pods' own links stay for later. */
export function closeSuperseded(present: Pins, maps: CapturePrograms['maps']): void {
  for (const pins of present.superseded()) {
    const podsFd = openPinned(`${pins.maps}/pods`)
    const pods = podsFd === undefined ? undefined : new BpfMap('pods', podsFd, 8, POD_VALUE_ROOM)
    for (const { netnsCookie } of pins.listPods()) {
      if (isCaptured(maps, netnsCookie)) continue
      const former = pods?.lookup(encodeU64(netnsCookie))
      const failOpen = former !== undefined && failOpenOf(former)
      writePod(maps, netnsCookie, {
        failOpen,
        confined: [],
        primary4: undefined,
        primary6: undefined,
        addresses: [],
      })
    }
    if (podsFd !== undefined) closeFd(podsFd)
    for (const name of pins.listLinks()) detach(pins.link(name))
  }
}

/**
 * Makes what removes, at each call, what is left of earlier layouts that no pod is captured by any more. A file among the pins of
 * their pods that is none by its name keeps a layout there for good, for it is not ours to remove: a later layout may have other
 * names. That is told, of each layout once.
 */
export function sweeperOfSuperseded(present: Pins, logger: Logger): () => void {
  const told = new Set<string>()
  return () => {
    for (const pins of present.superseded()) {
      const [name] = entriesOf(pins.pods)
      if (name === undefined) {
        for (const map of entriesOf(pins.maps)) unpin(`${pins.maps}/${map}`)
        pins.remove()
      } else if (pins.listPods().length === 0 && !told.has(pins.pods)) {
        told.add(pins.pods)
        const message = 'what is no pin of a pod by its name keeps what another layout left'
        logger.warn({ path: `${pins.pods}/${name}` }, message)
      }
    }
  }
}

function detach(path: string): void {
  const fd = openPinned(path)
  if (fd !== undefined) detachLink(fd, path)
}
