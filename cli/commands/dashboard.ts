// SPDX-License-Identifier: Apache-2.0
// `ambit dashboard`: the mesh in a browser, until Ctrl-C.

import { once } from 'node:events'
import type { Command } from 'commander'
import { AmbitError } from '../../mesh/errors.ts'
import { openTarget, type TargetFlags } from '../cluster/target.ts'
import { openBrowser } from '../dashboard/open-browser.ts'
import { clusterCommand } from '../flags.ts'
import { print } from '../output.ts'

type Flags = TargetFlags & { readonly port: number; readonly open: boolean }

export function dashboardCommand(): Command {
  return clusterCommand('dashboard', 'who calls whom, live, in a browser on this machine')
    .option('--port <port>', 'the port on 127.0.0.1; 0 for a free one', parsePort, 0)
    .option('--no-open', 'only print the URL')
    .action(async (flags: Flags) => {
      const target = await openTarget(flags)
      // Loaded only here: most calls do without.
      const { startDashboard } = await import('../dashboard/start.ts')
      const interrupted = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
      const dashboard = await startDashboard(target, flags.port)
      print(`The dashboard is at ${dashboard.url}`)
      print('It is for this machine only, and for who has this URL. Ctrl-C ends it.')
      if (flags.open) openBrowser(dashboard.url)
      await interrupted
      await dashboard.close()
    })
}

function parsePort(text: string): number {
  const port = Number(text)
  if (/^\d+$/.test(text) && port <= 65_535) return port
  throw new AmbitError('AMB_USAGE', `Cannot use --port ${text}: it is no port number`)
}
