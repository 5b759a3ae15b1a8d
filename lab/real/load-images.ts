// SPDX-License-Identifier: Apache-2.0
// Gives the nodes of a cluster that is up the images as they are now; pods that start from there on have them.

import { command } from '../machine/command.ts'
import { IMAGES_DIRECTORY, NODES } from './layout.ts'
import { inNode } from './node-command.ts'

const IMPORT_TIMEOUT_MS = 180_000

/** Imports every image on every node. */
export async function loadImages(): Promise<void> {
  const script = 'for image in "$0"/*.tar; do ctr -n k8s.io images import "$image"; done'
  for (const node of NODES)
    await command([...inNode(node), 'sh', '-euc', script, IMAGES_DIRECTORY], {
      timeoutMs: IMPORT_TIMEOUT_MS,
    })
}
