// SPDX-License-Identifier: Apache-2.0
// What a machine must have before a lab can be made on it; says the first thing that is missing.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AmbitError } from '../../mesh/errors.ts'
import { findProgram } from './find-program.ts'

/** Programs that the lab calls. */
const TOOLS = [
  'ip',
  'nft',
  'nsenter',
  'unshare',
  'mount',
  'umount',
  'pivot_root',
  'setpriv',
  'sh',
  'env',
]

/** Throws AMB_NOT_ROOT unless the process is root's. */
export function requireRoot(what: string): void {
  if (process.getuid?.() !== 0) {
    throw new AmbitError('AMB_NOT_ROOT', `Cannot ${what}: this needs root`)
  }
}

/** Throws AMB_TOOL_MISSING when a program is not on PATH. */
export function requireTool(tool: string, what: string): void {
  if (findProgram(tool) === undefined)
    throw new AmbitError('AMB_TOOL_MISSING', `Cannot ${what}: no program "${tool}" on PATH`)
}

/** Checks everything that `lab up` needs of the machine. */
export function requireLabMachine(): void {
  requireRoot('make a lab')
  for (const tool of TOOLS) requireTool(tool, 'make a lab')
  if (!/\boverlay$/m.test(readFileSync('/proc/filesystems', 'utf8')) && !hasOverlayModule()) {
    throw new AmbitError(
      'AMB_KERNEL_FEATURE',
      'Cannot make a lab: the kernel has no overlay file system (CONFIG_OVERLAY_FS)',
    )
  }
}

/** The module loads itself at the first mount when it is built. */
function hasOverlayModule(): boolean {
  try {
    const release = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()
    return readFileSync(join('/lib/modules', release, 'modules.dep'), 'utf8').includes(
      '/overlay.ko',
    )
  } catch {
    return false // no modules at all
  }
}
