// SPDX-License-Identifier: Apache-2.0
// `ambit certs`

import type { Command } from 'commander'
import { allDumps } from '../cluster/dumps.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import { certificateTable, identitiesOf } from '../tables/certificates.ts'

export function certsCommand(): Command {
  return dumpCommand('certs', 'the certificates that agents hold for their pods; never a key')
    .alias('certificates')
    .action((flags: DumpFlags) =>
      show(flags, async () => {
        const { dumps, failures } = await allDumps(flags)
        const identities = identitiesOf(dumps.map(({ dump }) => dump))
        return {
          data: identities,
          text: () => [certificateTable(identities, new Date())],
          failures,
        }
      }),
    )
}
