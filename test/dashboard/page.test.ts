// SPDX-License-Identifier: Apache-2.0
// The dashboard in a browser, over a pretended cluster of 200 services: it can be read, walked with the keyboard, used in a small window
// and in the dark, and a pod with a hostile name writes text and nothing else. AMBIT_SCREENSHOTS names a folder for pictures to look at.

import t, { type Test } from 'tap'
import { join } from 'node:path'
import { err } from '../../mesh/result.ts'
import { type BrowserPage, noBrowser, openPage } from '../support/browser.ts'
import { until } from '../support/until.ts'
import { pretendCluster } from './pretend-cluster.ts'
import { pretendDashboard } from './pretend-dashboard.ts'

const skip = noBrowser()
const HOSTILE = '<img src=x onerror="document.title=1">\'"\\&lt;'
const SCREENSHOTS = process.env['AMBIT_SCREENSHOTS']

async function shoot(page: BrowserPage, name: string): Promise<void> {
  if (SCREENSHOTS !== undefined) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) })
}

async function opened(t: Test, services: number, intervalMs: number, odd?: string) {
  const cluster = pretendCluster(services, 4, odd)
  const dashboard = await pretendDashboard(t, cluster, { intervalMs })
  await until(() => dashboard.poller.snapshot().mesh.workloads.length === services, 'the mesh')
  const { page, errors } = await openPage(t)
  await page.goto(dashboard.url)
  await page.locator('[data-id]').first().waitFor()
  return { cluster, dashboard, page, errors }
}

void t.test('200 services', { skip }, async (t) => {
  const { cluster, page, errors } = await opened(t, 200, 3_000, HOSTILE)
  const count = (selector: string) => page.locator(selector).count()

  await t.test('from afar each namespace is one thing; from near its workloads are', async (t) => {
    t.equal(await count('.far'), 8)
    t.equal(await count('.node'), 0)
    await shoot(page, 'afar-light')
    await page.locator('select[aria-label=Namespace]').selectOption('payments')
    await page.locator('.node').first().waitFor()
    t.ok((await count('.node')) >= 25)
    await shoot(page, 'namespace-light')
    await page.locator('select[aria-label=Namespace]').selectOption('')
    await page.locator('select[aria-label=Detail]').selectOption('workloads')
    await page.locator('.node').first().waitFor()
    t.equal(await count('.node'), 200)
    await page.emulateMedia({ colorScheme: 'dark' })
    await shoot(page, 'workloads-dark')
    await page.locator('select[aria-label=Detail]').selectOption('auto')
    await page.emulateMedia({ colorScheme: 'light' })
  })

  await t.test('by keyboard alone: sought, found, walked, left', async (t) => {
    await page.keyboard.press('/')
    await page.keyboard.type('catalog-2')
    await page.keyboard.press('Enter')
    await page.locator('.node.selected').waitFor()
    t.equal(await page.locator('.node.selected').getAttribute('data-id'), 'shop/catalog-2')
    await shoot(page, 'selected')
    await page.locator('.node.selected').focus()
    await page.keyboard.press('ArrowRight')
    const focused = String(await page.evaluate('document.activeElement.dataset.id'))
    t.match(focused, /^\w+\/\S+/)
    t.not(focused, 'shop/catalog-2')
    const name = String(await page.evaluate("document.activeElement.getAttribute('aria-label')"))
    t.match(name, /namespace \w+, 1 pod.*called by \d+, calls \d+/)
    t.equal(await count('.canvas [tabindex="0"]'), 1, 'one tab stop for the whole drawing')
    await page.keyboard.press('Enter')
    t.equal(await page.locator('.node.selected').getAttribute('data-id'), focused)
    await page.keyboard.press('Escape')
    await page.keyboard.press('Escape')
    await page.locator('.node.selected').waitFor({ state: 'hidden' })
    await page.locator('aside .list button').first().focus()
    await page.keyboard.press('ArrowDown')
    await page.keyboard.press('End')
    t.match(await page.evaluate('document.activeElement.dataset.key'), /^list /)
  })

  await t.test('a pod called as markup is text, on every page', async (t) => {
    await page.keyboard.press('/')
    await page.keyboard.type('<img')
    await page.keyboard.press('Enter')
    await page.locator('.node.selected').waitFor()
    await page.getByRole('link', { name: 'Policies, denials, certificate' }).click()
    await page.getByRole('heading', { name: /^Certificates/ }).waitFor()
    t.ok((await page.locator('h1').textContent())?.startsWith(HOSTILE))
    await shoot(page, 'workload-light')
    for (const at of [1, 2, 3]) {
      await page.locator('nav a').nth(at).click()
      await page.locator('.tables table').first().waitFor()
      t.equal(await count('main img'), 0)
      await shoot(page, `list-${at}`)
    }
    t.match(await page.title(), /^Nodes/)
    t.strictSame(errors, [], 'no policy of the page was violated')
  })

  await t.test(
    'an agent that cannot be asked is named, with the time and the reason',
    async (t) => {
      cluster.spoil('ambit-agent-1', () => Promise.resolve(err('no whole answer within 5 s')))
      await page.locator('#banner p').first().waitFor()
      const text = await page.locator('#banner').textContent()
      t.match(text, /1 of 4 agents cannot be asked.*node-1: since .*no whole answer within 5 s/)
      await shoot(page, 'silent-agent')
      cluster.spoil('ambit-agent-1', undefined)
    },
  )

  await t.test('a small window, in the dark as chosen: nothing is wider than it', async (t) => {
    await page.setViewportSize({ width: 390, height: 800 })
    await page.locator('#theme').click()
    await page.locator('#theme').click()
    t.equal(await page.locator('html').getAttribute('data-theme'), 'dark')
    for (const at of [0, 1, 2, 3]) {
      await page.locator('nav a').nth(at).click()
      await page
        .locator(at === 0 ? '.far' : '.tables table')
        .first()
        .waitFor()
      const overhang = await page.evaluate(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      )
      t.equal(overhang, 0, `page ${at}`)
      await shoot(page, `small-dark-${at}`)
    }
  })
})

void t.test('traffic moves on the page while it is open; its end is told', { skip }, async (t) => {
  const { cluster, dashboard, page } = await opened(t, 12, 500)
  t.equal(await page.locator('.node').count(), 12, 'few are shown as they are')
  await page.locator('.edge.still').first().waitFor({ state: 'attached' })
  cluster.grow(60)
  await page.locator('.edge:not(.still)').first().waitFor({ state: 'attached' })
  await shoot(page, 'twelve')
  t.equal((await page.goto(dashboard.origin))?.status(), 200, 'the cookie is enough from now on')
})
