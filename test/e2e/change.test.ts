// SPDX-License-Identifier: Apache-2.0
// Things change while traffic flows: namespaces enter and leave the mesh, pods are deleted, and the apps notice nothing
// that they would not notice without a mesh.

import t from 'tap'
import { missing } from '../helpers.ts'
import { TCP_PORTS } from './programs/ports.ts'
import type { Steady } from './programs/steady.ts'
import { applyAll, linesWhere, meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import {
  namespaceManifest,
  podAddress,
  run,
  type Running,
  serverManifest,
  serviceManifest,
  start,
} from './support/pods.ts'

const skip = missing(...NEEDS)
const HELD = 8
/** Each goes to one of two servers by chance: that all go to the same happens once in 32,768 runs. */
const HELD_AT_TWO = 16
/** Enough of both kinds that no phase goes by untried. */
const ROUNDS_PER_PHASE = 40
const FLIPS = 2
/** A connection to a pod that is gone must not hang longer than this. Milliseconds. */
const CUT_WITHIN_MS = 5000

await t.test('while traffic flows', { skip }, async (t) => {
  const lab = await meshLab(t)
  const far = { app: 'far' }
  await applyAll(lab, [
    namespaceManifest('mesh'),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    namespaceManifest('flip', false),
    serverManifest({ namespace: 'flip', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'flip', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'flip', name: 'far-1', node: 'node-b', labels: far }),
    serverManifest({ namespace: 'flip', name: 'far-2', node: 'node-b', labels: far }),
    serviceManifest('flip', 'near', { app: 'near' }),
    serviceManifest('flip', 'far', far),
  ])
  await lab.waitForPods()
  await waitForCapture(lab, 'mesh', true)

  const label = async (isInMesh: boolean): Promise<void> => {
    const word = isInMesh ? 'istio.io/dataplane-mode=ambient' : 'istio.io/dataplane-mode-'
    await lab.kubectl('label', 'namespace', 'flip', word)
    await waitForCapture(lab, 'flip', isInMesh)
  }
  const steady = async (
    target: string,
    client = 'flip/client',
    held = HELD,
  ): Promise<Running<Steady>> => {
    const running = start<Steady>(
      lab,
      client,
      'steady',
      target,
      TCP_PORTS.echo,
      held,
      ROUNDS_PER_PHASE,
    )
    await running.said('steady')
    return running
  }
  /** Both kinds of traffic have had their rounds since the last phase. */
  const phase = async (running: readonly Running<Steady>[], name: string): Promise<void> => {
    for (const each of running) each.child.stdin?.write(`${name}\n`)
    await Promise.all(running.map((each) => each.said(`done ${name}`)))
  }

  await t.test('a namespace enters and leaves the mesh, and no connection is lost', async (t) => {
    const running = [
      await steady('far.flip'),
      await steady('near.flip'),
      // Their own side of the connection is captured all the time.
      await steady('far.flip', 'mesh/client'),
      await steady('near.flip', 'mesh/client'),
    ]
    t.teardown(() => {
      for (const { child } of running) child.kill('SIGKILL')
    })
    await phase(running, 'before')
    for (let flip = 0; flip < FLIPS; flip += 1) {
      await label(true)
      await phase(running, `captured ${flip}`)
      await label(false)
      await phase(running, `released ${flip}`)
    }
    const what = ['across nodes', 'on one node', 'from the mesh', 'from the mesh on one node']
    for (const [index, where] of what.entries()) {
      const told = await running[index]?.finish('SIGTERM')
      t.comment(`${where}: ${told?.heldWords} words, ${told?.opened} new connections`)
      t.strictSame(told?.heldFailures, [], `${where}, every established connection lives on`)
      t.strictSame(told?.openFailures, [], `${where}, every new connection succeeds`)
    }
    await linesWhere(
      lab,
      'node-b',
      'the access line of an authenticated call',
      (line) => line['src.identity'] === 'spiffe://cluster.local/ns/flip/sa/default',
    )
    t.pass('some of it went through the mesh')
  })

  await t.test('connections that were captured outlive the label', async (t) => {
    await label(true)
    const running = [await steady('far.flip'), await steady('near.flip')]
    t.teardown(() => {
      for (const { child } of running) child.kill('SIGKILL')
    })
    await label(false)
    await phase(running, 'after')
    await label(true)
    await phase(running, 'again')
    await label(false)
    await phase(running, 'after all')
    for (const each of running) {
      const told = await each.finish('SIGTERM')
      t.strictSame([...told.heldFailures, ...told.openFailures], [])
    }
  })

  await t.test(
    'one of two servers is deleted, and every new connection finds the other',
    async (t) => {
      await label(true)
      const running = await steady('far.flip', 'flip/client', HELD_AT_TWO)
      t.teardown(() => running.child.kill('SIGKILL'))
      await phase([running], 'before')
      await lab.kubectl('delete', 'pod', '--namespace=flip', 'far-2')
      await phase([running], 'after')
      const told = await running.finish('SIGTERM')
      t.strictSame(told.openFailures, [], 'no new connection failed')
      // Connections to the deleted pod end with it; those to the other one do not.
      const ended = told.heldFailures
      t.ok(ended.length < HELD_AT_TWO, `${ended.length} of ${HELD_AT_TWO} ended: ${ended.join()}`)
    },
  )

  for (const [where, node] of [
    ['another node', 'node-b'],
    ['the same node', 'node-a'],
  ] as const) {
    await t.test(`a connection to a pod on ${where} ends when the pod is deleted`, async (t) => {
      await lab.apply(JSON.stringify(serverManifest({ namespace: 'flip', name: 'victim', node })))
      await lab.waitForPods('flip')
      await waitForCapture(lab, 'flip', true)
      const address = await podAddress(lab, 'flip/victim', 4)
      const running = start<{ readonly end: string }>(
        lab,
        'flip/client',
        'watcher',
        address,
        TCP_PORTS.echo,
      )
      t.teardown(() => running.child.kill('SIGKILL'))
      await running.said('open')
      await lab.kubectl('delete', 'pod', '--namespace=flip', 'victim')
      const deletedAt = Date.now()
      const { end } = await running.finish()
      t.match(end, /^(fin|ECONNRESET)$/)
      t.ok(Date.now() - deletedAt < CUT_WITHIN_MS, `after ${Date.now() - deletedAt} ms`)
    })
  }

  await t.test('a successor on the address of a deleted pod is served as itself', async (t) => {
    await lab.apply(
      JSON.stringify(
        serverManifest({ namespace: 'flip', name: 'successor', node: 'node-b', labels: far }),
      ),
    )
    await lab.waitForPods('flip')
    await waitForCapture(lab, 'flip', true)
    const address = await podAddress(lab, 'flip/successor', 4)
    const told = await run<{ readonly ok: number }>(
      lab,
      'flip/client',
      'crowd',
      address,
      TCP_PORTS.echo,
      10,
    )
    t.equal(told.ok, 10)
  })
})
