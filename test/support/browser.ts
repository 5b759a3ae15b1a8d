// SPDX-License-Identifier: Apache-2.0
// A headless Chromium for tests of pages: Debian's, driven by playwright-core. Where either is absent, tests are skipped and say which.

import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Test } from 'tap'
import { isExecutable } from '../../lab/machine/find-program.ts'

/** Of playwright-core's, what tests use here. */
export interface Locator {
  readonly first: () => Locator
  readonly nth: (at: number) => Locator
  readonly count: () => Promise<number>
  readonly click: () => Promise<void>
  readonly fill: (text: string) => Promise<void>
  readonly focus: () => Promise<void>
  readonly press: (key: string) => Promise<void>
  readonly selectOption: (value: string) => Promise<unknown>
  readonly textContent: () => Promise<string | null>
  readonly getAttribute: (name: string) => Promise<string | null>
  readonly waitFor: (options?: {
    readonly state?: 'visible' | 'hidden' | 'attached'
  }) => Promise<void>
}

export interface BrowserPage {
  readonly setDefaultTimeout: (ms: number) => void
  readonly goto: (url: string) => Promise<{ readonly status: () => number } | null>
  readonly url: () => string
  readonly title: () => Promise<string>
  readonly locator: (selector: string) => Locator
  readonly getByRole: (
    role: string,
    options: { readonly name: string | RegExp; readonly exact?: boolean },
  ) => Locator
  readonly keyboard: {
    readonly press: (key: string) => Promise<void>
    readonly type: (text: string) => Promise<void>
  }
  readonly evaluate: (expression: string) => Promise<unknown>
  readonly waitForFunction: (expression: string) => Promise<unknown>
  readonly screenshot: (options: { readonly path: string }) => Promise<unknown>
  readonly setViewportSize: (size: {
    readonly width: number
    readonly height: number
  }) => Promise<void>
  readonly emulateMedia: (media: { readonly colorScheme: 'light' | 'dark' }) => Promise<void>
  readonly on: (
    event: 'console' | 'pageerror',
    listener: (said: {
      readonly text?: () => string
      readonly type?: () => string
      readonly message?: string
    }) => void,
  ) => void
}

interface Browser {
  readonly newPage: (options: {
    readonly viewport: { readonly width: number; readonly height: number }
  }) => Promise<BrowserPage>
  readonly close: () => Promise<void>
}

interface Playwright {
  readonly chromium: { readonly launch: (options: object) => Promise<Browser> }
}

/** An event in a page is long in coming only where something is broken. */
const LAUNCH_MS = 60_000
/** Nor is a page that draws, on a machine that is busy with much else; it is 30 s otherwise. */
const ACTION_MS = 120_000

const CHROMIUM = (process.env['PATH'] ?? '')
  .split(':')
  .flatMap((directory) => ['chromium', 'chromium-browser'].map((name) => join(directory, name)))
  .find(isExecutable)

const require = createRequire(import.meta.url)

/** Loaded when it is needed: most tests need no browser. */
function playwright(): Playwright | undefined {
  try {
    return require('playwright-core') as Playwright
  } catch {
    return undefined // not installed; the test says so
  }
}

/** For tap's `skip`: false when there is a browser. */
export function noBrowser(): string | false {
  if (CHROMIUM === undefined) return 'needs chromium (scripts/setup.sh test installs it)'
  return playwright() === undefined ? 'needs playwright-core (npm ci installs it)' : false
}

/** A page of a fresh browser that goes when the test ends; what goes wrong in its scripts is kept in `errors`. */
export async function openPage(
  t: Pick<Test, 'teardown'>,
  viewport = { width: 1440, height: 900 },
): Promise<{ readonly page: BrowserPage; readonly errors: readonly string[] }> {
  const driver = playwright()
  if (driver === undefined || CHROMIUM === undefined) throw new Error('there is no browser')
  const browser = await driver.chromium.launch({
    executablePath: CHROMIUM,
    timeout: LAUNCH_MS,
    // Chromium's sandbox refuses root; only our own pages are opened.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  })
  t.teardown(() => browser.close())
  const page = await browser.newPage({ viewport })
  page.setDefaultTimeout(ACTION_MS)
  const errors: string[] = []
  page.on('console', (said) => {
    if (said.type?.() === 'error') errors.push(said.text?.() ?? '')
  })
  page.on('pageerror', (error) => errors.push(error.message ?? 'an error'))
  return { page, errors }
}
