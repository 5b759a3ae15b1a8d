// SPDX-License-Identifier: Apache-2.0
// A thread that may look into other namespaces: lists the handshakes of those it is asked about.

import { openSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { handshakesIn } from '../../native/handshakes.ts'

const homeFd = openSync('/proc/self/ns/net', 'r')
parentPort?.on('message', (fd: number) => parentPort?.postMessage(handshakesIn({ fd, homeFd })))
