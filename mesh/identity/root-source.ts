// SPDX-License-Identifier: Apache-2.0
// Where a client of the control plane finds the roots that its server must chain to.

import { readFile } from 'node:fs/promises'

/** A PEM file, read anew for each connection because the kubelet replaces it in place; or who has the text now, or rejects. */
export type RootSource = string | (() => Promise<string>)

/** The PEM text as of now. */
export function readRoots(source: RootSource): Promise<string> {
  return typeof source === 'string' ? readFile(source, 'utf8') : source()
}
