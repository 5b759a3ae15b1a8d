// SPDX-License-Identifier: Apache-2.0
// How loud a part is, is followed by all loggers of a thread, whenever and by whom they were made.

import t from 'tap'
import { createBatchedLogger, createLeveledLogger } from '../../mesh/telemetry/log.ts'

void t.test('parts made before and after a change, and loggers that joined, follow it', (t) => {
  const { log, levels } = createLeveledLogger('data-plane', 'info')
  const memory = log.child({ part: 'memory' })
  const access = createBatchedLogger('access', 'info').log
  levels.follow(access)
  levels.set({ level: 'warn', parts: { memory: 'debug', access: 'error' } })
  t.equal(log.level, 'warn')
  t.equal(memory.level, 'debug')
  t.equal(access.level, 'error', 'by its component, for want of a part')
  t.equal(log.child({ part: 'memory' }).level, 'debug')
  t.end()
})
