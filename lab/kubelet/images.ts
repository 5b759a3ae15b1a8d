// SPDX-License-Identifier: Apache-2.0
// The images of a lab. There is no container runtime and no registry: every image is the host's own file system under a private
// writable layer, and some names bring a program of ours that does what the image of that name does.

import { fileURLToPath } from 'node:url'

/** What an image brings. */
export interface Image {
  /** What runs when the container names no command of its own. */
  readonly entrypoint: readonly string[]
  /** Directories of programs that come first on its PATH. */
  readonly programs: readonly string[]
}

/** The image that is nothing but the host. */
export const HOST_IMAGE = 'host'

const ECHO = fileURLToPath(new URL('../samples/echo', import.meta.url))

const IMAGES: Readonly<Record<string, Image>> = {
  [HOST_IMAGE]: { entrypoint: [], programs: [] },
  // The workload of the mesh tests in the conformance suite of the Gateway API.
  'registry.k8s.io/gateway-api/echo-advanced': {
    entrypoint: ['node', `${ECHO}/server.ts`],
    programs: [`${ECHO}/bin`],
  },
}

/** The image of that name, whatever its tag or digest; undefined when the lab has none. */
export function findImage(name: string | undefined): Image | undefined {
  return IMAGES[(name ?? '').replace(/@.*$/, '').replace(/:[^:/]*$/, '')]
}
