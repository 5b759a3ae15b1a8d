// SPDX-License-Identifier: Apache-2.0
// Opens a URL in the person's browser, where there is one.

import { spawn } from 'node:child_process'

/** By the desktop's own way; on a machine without a desktop the printed URL has to do. */
export function openBrowser(url: string): void {
  const hasDesktop =
    process.env['DISPLAY'] !== undefined || process.env['WAYLAND_DISPLAY'] !== undefined
  if (!hasDesktop) return
  const child = spawn('xdg-open', [url], { stdio: 'ignore', detached: true })
  child.once('error', () => undefined) // no xdg-open: the URL is on the terminal
  child.unref()
}
