// SPDX-License-Identifier: Apache-2.0
// What becomes of odd requests: those that mean one thing reach the app as that, and of those that may mean two nobody hears.

import t from 'tap'
import { answerAll, makeWorld, type World } from './harness.ts'
import { readByNode } from './node-app.ts'
import { ODD_CASES } from './odd-requests.ts'

async function tell(world: World): Promise<{ seen: string[]; told: number[] }> {
  const seen = await Promise.all(world.apps.map((app) => readByNode(app.take())))
  const told = [...world.client.take().matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) =>
    Number(status),
  )
  return { seen: seen.flatMap(({ heard }) => heard), told }
}

void t.test('each case has its end, whole or octet by octet', async (t) => {
  for (const { name, bytes, seen, told } of ODD_CASES) {
    const whole = makeWorld()
    whole.client.send(bytes)
    answerAll(whole)
    t.strictSame(await tell(whole), { seen, told }, name)
    if (told.at(-1) !== 200) t.ok(whole.client.hasEnded, `${name}: nothing more is read`)
    t.equal(whole.records.length, told.length, `${name}: all is on record`)
    // Long ones are cut by the fuzzing.
    if (bytes.length > 1_000) continue
    const cut = makeWorld()
    for (const octet of Buffer.from(bytes, 'latin1')) {
      if (cut.client.hasEnded) break
      cut.client.send(Buffer.from([octet]))
    }
    answerAll(cut)
    t.strictSame(await tell(cut), { seen, told }, `${name}, octet by octet`)
  }
})
