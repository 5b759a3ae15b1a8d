// SPDX-License-Identifier: Apache-2.0
// The product's promises, as a person meets them: every check that the demonstration shows, what `lab down` leaves
// (nothing), and the demonstration itself, which stays up until Ctrl-C.

import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { takeDown } from '../../lab/cluster/index.ts'
import { tryCommand } from '../../lab/machine/command.ts'
import { holdDemoChecks } from './support/demo.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import { meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { hostNetwork, NO_TRACES, remainders, type Traces, tracesOf } from './support/traces.ts'

const skip = missing(...NEEDS)
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))
const DEMO = fileURLToPath(new URL('../../lab/demo/main.ts', import.meta.url))
const AMBIT = fileURLToPath(new URL('../../cli/bin/ambit', import.meta.url))
/** The kernel frees BPF programs and namespaces a moment after their last reference went. Milliseconds. */
const KERNEL_FREES_WITHIN_MS = 5000

await t.test('given the shop on two nodes', { skip }, async (t) => {
  const host = await hostNetwork()
  const lab = await meshLab(t, [SHOP])
  await holdDemoChecks(t, lab)

  await t.test('lab down, from a labelled namespace, leaves nothing', async (t) => {
    await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
    // Capture is at its fullest: a link in every pod's namespace, pins, listeners.
    await waitForCapture(lab, 'shop', true)
    const before = await tracesOf(lab.name)
    for (const [what, found] of Object.entries(before)) t.ok(found.length > 0, `there are ${what}`)
    const down = await tryCommand([AMBIT, 'lab', 'down', '--name', lab.name])
    t.strictSame([down.code, down.stderr], [0, ''])
    t.match(down.stdout, /nothing is left/)
    t.strictSame(await leftAtLast(lab.name, before), NO_TRACES)
    t.strictSame(await hostNetwork(), host, 'the host itself is as it was')
  })
})

await t.test('the demonstration stays up until Ctrl-C', { skip }, async (t) => {
  const name = `d${process.pid}`
  t.teardown(async () => await takeDown(name))
  const child = spawn(process.execPath, [DEMO, '--name', name], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  let said = ''
  const shown = new Promise<void>((resolve) => {
    const onText = (text: string): void => {
      said += text
      if (said.includes('stays up until Ctrl-C')) resolve()
    }
    child.stdout.setEncoding('utf8').on('data', onText)
    child.stderr.setEncoding('utf8').on('data', onText)
  })
  await Promise.race([shown, exited])
  t.notMatch(said, /\[FAIL\]/)
  t.match(said, `ambit lab kubeconfig --name ${name}`)
  const before = await tracesOf(name)
  t.ok(before.processes.length > 0, 'the lab is up')
  child.kill('SIGINT')
  const [code] = (await exited) as [number | null]
  t.equal(code, 0)
  t.match(said, /Every check held\./)
  t.strictSame(await leftAtLast(name, before), NO_TRACES)
})

/** What is left of a lab once the kernel had the time to free it; rejects, saying what stays, when something does. */
async function leftAtLast(name: string, before: Traces): Promise<Traces> {
  let left = before
  await until(
    async () => {
      left = await remainders(name, before)
      return Object.values(left).every((found) => found.length === 0)
    },
    () => `nothing to be left of ${name}: ${JSON.stringify(left)}`,
    KERNEL_FREES_WITHIN_MS,
  )
  return left
}
