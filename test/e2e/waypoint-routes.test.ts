// SPDX-License-Identifier: Apache-2.0
// What routes can ask of a waypoint beyond leading and splitting, by what docs/waypoints.md prints, with curl in the shop's frontend.

import t from 'tap'
import { missing } from '../helpers.ts'
import { meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import {
  type Answer,
  answers,
  asPrinted,
  CATALOG,
  ofV2,
  printed,
  SHOP,
  until,
} from './support/waypoint-guide.ts'

await t.test('a shop behind a waypoint', { skip: missing(...NEEDS) }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await asPrinted(lab, 'kubectl label namespace shop istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)
  await asPrinted(lab, 'ambit waypoint apply -n shop --enroll-namespace --wait')
  await lab.apply(printed('versions'))

  await t.test('has all calls answered by v1 and copied to v2', async (t) => {
    await lab.apply(printed('mirror'))
    await until(lab, 'v1 to have all calls', async () => ofV2(await answers(lab, 20)) === 0)
    t.equal(ofV2(await answers(lab, 1, '-G', '-d', 'copied=1')), 0, 'v1 answers')
    await until(lab, 'the copy to arrive', () =>
      Promise.resolve(lab.log('shop/catalog-v2').includes('copied=1')),
    )
    t.ok(lab.log('shop/catalog-v1').includes('copied=1'), 'both have seen it')
  })

  await t.test('leads a user by a cookie', async (t) => {
    await lab.apply(printed('by-user'))
    const tester = ['-b', 'a=b; user=tester; c=d']
    await until(
      lab,
      'the tester to be led',
      async () => ofV2(await answers(lab, 5, ...tester)) === 5,
    )
    t.equal(ofV2(await answers(lab, 10, '-b', 'user=testers')), 0, 'nobody else is')
    t.equal(ofV2(await answers(lab, 10)), 0)
  })

  await t.test('is asked again where it fails, and not waited for without end', async (t) => {
    const status = async (path: string): Promise<string> => {
      const flags = ['-s', '-o', '/dev/null', '-m', '5', '-w', '%{http_code} ']
      const { stdout } = await lab.exec('shop/frontend', ['curl', ...flags, `${CATALOG}${path}`])
      return stdout.trim()
    }
    t.match(await status('flaky?[1-4]'), /503/, 'without a route for it the client sees it')
    await lab.apply(printed('retry'))
    await until(lab, 'the route to count', async () => (await status('slow')) === '504')
    t.equal(await status('flaky?[1-6]'), Array.from({ length: 6 }, () => '200').join(' '))
  })

  await t.test('has clients that keep cookies come back to the version they had', async (t) => {
    await lab.apply(printed('stay'))
    const isBoth = (all: readonly Answer[]): boolean => ofV2(all) > 0 && ofV2(all) < all.length
    await until(lab, 'both to have calls', async () => isBoth(await answers(lab, 30)))
    const seen = new Set<string>()
    // Of as many browsers each sees one version, and hardly all of them the same one: once in half a million runs.
    for (let browser = 0; browser < 20; browser += 1) {
      const versions = new Set((await answers(lab, 10, '-b', '')).map(({ version }) => version))
      t.equal(versions.size, 1, 'one browser, one version')
      for (const version of versions) seen.add(version)
    }
    t.equal(seen.size, 2)
  })

  await t.test('has its connections led by a TCPRoute', async (t) => {
    await lab.kubectl('delete', 'httproute', '-n', 'shop', 'catalog')
    await lab.apply(printed('tcp'))
    await until(lab, 'v2 to have them', async () => ofV2(await answers(lab, 20)) === 20)
    const route = ['get', 'tcproute', '-n', 'shop', 'catalog', '-o', 'yaml'] as const
    await until(lab, 'its status to say so', async () =>
      (await lab.kubectl(...route)).includes('ResolvedWaypoints'),
    )
    t.pass('and its status says so')
  })
})
