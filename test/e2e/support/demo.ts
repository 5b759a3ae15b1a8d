// SPDX-License-Identifier: Apache-2.0
// The demonstration's checks as tests, in a lab that has the shop.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Lab } from '../../../lab/cluster/index.ts'
import { demoChecks } from '../../../lab/demo/checks.ts'
import { demoLab } from '../../../lab/demo/demo-lab.ts'
import { startOutside } from '../../../lab/demo/outside.ts'

/** Runs every check, each as a test of its own that says what was observed. */
export async function holdDemoChecks(t: Test, lab: Lab): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-demo-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const outside = await startOutside(lab)
  for (const check of demoChecks(demoLab(lab, directory))) {
    await t.test(check.title, async (t) => {
      t.comment(await check.run())
      t.pass('the check held')
    })
  }
  await outside.stop()
}
