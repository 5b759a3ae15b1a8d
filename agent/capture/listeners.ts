// SPDX-License-Identifier: Apache-2.0
// Listening sockets that nobody serves.

import { closeFd } from '../../native/libc.ts'
import type { PodListeners } from './types.ts'

/** Closes listeners that nobody took over. */
export function closeListeners({ outbound, inbound, hbone }: PodListeners): void {
  for (const fd of [...outbound, ...inbound, ...hbone]) closeFd(fd)
}
