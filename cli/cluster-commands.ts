// SPDX-License-Identifier: Apache-2.0
// The commands that speak of a cluster or a lab, in the order in which --help lists them.

import type { Command } from 'commander'
import { auditCommand } from './commands/audit.ts'
import { certsCommand } from './commands/certs.ts'
import { configDumpCommand } from './commands/config-dump.ts'
import { connectionsCommand } from './commands/connections.ts'
import { logsCommand } from './commands/logs.ts'
import { policiesCommand } from './commands/policies.ts'
import { servicesCommand } from './commands/services.ts'
import { statusCommand } from './commands/status.ts'
import { whyCommand } from './commands/why.ts'
import { workloadsCommand } from './commands/workloads.ts'

/** All of them. */
export function clusterCommands(): readonly Command[] {
  return [
    statusCommand(),
    workloadsCommand(),
    servicesCommand(),
    policiesCommand(),
    certsCommand(),
    connectionsCommand(),
    logsCommand(),
    auditCommand(),
    configDumpCommand(),
    whyCommand(),
  ]
}
