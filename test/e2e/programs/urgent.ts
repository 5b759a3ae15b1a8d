// SPDX-License-Identifier: Apache-2.0
// Sends abc, an urgent !, and def to the echo of server.ts; prints as JSON what comes back. Usage: urgent.ts HOST

import { rawConnect } from '../../capture/support/raw-socket.ts'
import { TCP_PORTS } from './ports.ts'

const [address = ''] = process.argv.slice(2)
console.log(JSON.stringify(rawConnect({ address, port: TCP_PORTS.echo, urgent: true })))
