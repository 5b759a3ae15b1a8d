// SPDX-License-Identifier: Apache-2.0
// The commands that speak of a cluster or a lab, in the order in which --help lists them.

import type { Command } from 'commander'
import { analyzeCommand } from './commands/analyze.ts'
import { auditCommand } from './commands/audit.ts'
import { certsCommand } from './commands/certs.ts'
import { configDumpCommand } from './commands/config-dump.ts'
import { connectionsCommand } from './commands/connections.ts'
import { dashboardCommand } from './commands/dashboard.ts'
import { featuresCommand } from './commands/features.ts'
import {
  installCommand,
  uninstallCommand,
  upgradeCommand,
  verifyCommand,
} from './commands/install.ts'
import { logsCommand } from './commands/logs.ts'
import { policiesCommand } from './commands/policies.ts'
import { servicesCommand } from './commands/services.ts'
import { statusCommand } from './commands/status.ts'
import { waypointCommand } from './commands/waypoint.ts'
import { whyCommand } from './commands/why.ts'
import { workloadsCommand } from './commands/workloads.ts'

/** All of them. */
export function clusterCommands(): readonly Command[] {
  return [
    installCommand(),
    upgradeCommand(),
    verifyCommand(),
    uninstallCommand(),
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
    analyzeCommand(),
    waypointCommand(),
    featuresCommand(),
    dashboardCommand(),
  ]
}
