// SPDX-License-Identifier: Apache-2.0
// Which mounts of the host a container sees below its overlaid root: all but those of labs and of network
// namespaces, which a pod gets only by asking for them as hostPath volumes.

import { readFile } from 'node:fs/promises'
import { LABS_DIRECTORY, NETNS_DIRECTORY } from '../machine/layout.ts'

/** Top-level mount points of the host (what is mounted below them comes with them). */
export async function hostMounts(): Promise<readonly string[]> {
  return topMounts(await readFile('/proc/self/mountinfo', 'utf8'))
}

/** Reads them from the text of a mountinfo file. */
export function topMounts(mountinfo: string): readonly string[] {
  const points = mountinfo
    .split('\n')
    .map((line) => line.split(' ')[4])
    .filter((point): point is string => point !== undefined && point !== '/')
    .map(unescapeOctal)
    .filter((point) => !isBelow(point, LABS_DIRECTORY) && !isBelow(point, NETNS_DIRECTORY))
  const unique = [...new Set(points)]
  return unique.filter((point) => !unique.some((other) => other !== point && isBelow(point, other)))
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`)
}

/** mountinfo writes blanks and the like as \040. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
}
