// SPDX-License-Identifier: Apache-2.0
// The agent's end of CNI: the socket that the plugin asks, and the plugin's place on the node.

import { installCni, startCniServer } from './cni/index.ts'
import { DEFAULT_ELIGIBILITY, type NodeEnrolment } from './enrolment/index.ts'
import { type Starting, unwrap } from './starting.ts'

/** Answers the plugin, and puts it on the node if the flags say where. */
export async function startCni(starting: Starting, enrolment: NodeEnrolment): Promise<void> {
  const { config, log, started, readiness } = starting
  const cni = unwrap(
    await startCniServer({
      socketPath: config.cniSocket,
      handlers: enrolment,
      logger: log.child({ part: 'cni' }),
    }),
  )
  started.defer(() => cni.close())
  readiness.done('CNI socket')
  await chainCni(starting, enrolment)
}

async function chainCni(
  { config, log, started, ending }: Starting,
  enrolment: NodeEnrolment,
): Promise<void> {
  const { cniBinDir, cniConfDir } = config
  if (cniBinDir === undefined || cniConfDir === undefined) {
    log.info('no --cni-bin-dir and --cni-conf-dir: the CNI plugin is not installed by this agent')
    return
  }
  const installation = unwrap(
    await installCni({
      binaryPath: config.cniBinary,
      binDirectory: cniBinDir,
      confDirectory: cniConfDir,
      config: {
        socket: config.cniSocket,
        excludeNamespaces: [...DEFAULT_ELIGIBILITY.excludeNamespaces],
      },
      logger: log.child({ part: 'cni' }),
      mayWrite: () => enrolment.isInCharge(),
    }),
  )
  started.defer(async () => {
    if (ending.unpin) unwrap(await installation.uninstall())
    else await installation.close()
  })
}
