// SPDX-License-Identifier: Apache-2.0
// Sees to it that an agent runs without the compiler of TypeScript. Node loads that into each thread that meets a source file which its
// compile cache does not know, and never lets go of it: some 20 MB in the main thread and 8 in every other. So a process that had to
// compile makes place for one that finds all compiled: the same process, by execve.

import { accessSync, constants } from 'node:fs'
import { flushCompileCache, getCompileCacheDir } from 'node:module'
import { errorMessage } from '../../mesh/errors.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'

/** Set for the second process, so that there is no third: a cache that cannot be written would make one after the other. */
const COMPILED_ONCE = 'AMBIT_COMPILED_ONCE'
export const COMPILER = 'NativeModule internal/deps/amaro/dist/index'

/** Whether this thread has loaded the compiler. Node lists what it has loaded of its own; the list is not in its types. */
export function hasCompiler(): boolean {
  const loaded: unknown = Reflect.get(process, 'moduleLoadList')
  return Array.isArray(loaded) && loaded.includes(COMPILER)
}

/**
 * Starts the process over, once, where it had to compile something and could keep it. To be called before anything is opened, with all
 * modules loaded; does not return then.
 */
export async function startCompiled(log: Logger): Promise<void> {
  if (process.env[COMPILED_ONCE] !== undefined) {
    // The next process that somebody starts with this environment is another one.
    delete process.env[COMPILED_ONCE]
    return
  }
  if (!hasCompiler() || !mayKeep(getCompileCacheDir()) || process.execve === undefined) return
  await compileAll()
  const { execPath, execArgv, argv } = process
  try {
    process.execve(execPath, [execPath, ...execArgv, ...argv.slice(1)], {
      ...process.env,
      [COMPILED_ONCE]: '1',
    })
  } catch (thrown) {
    // A seccomp profile may forbid it. The agent is as good as ever, and larger.
    log.debug({ error: errorMessage(thrown) }, 'cannot start over without the compiler')
  }
}

/**
 * Compiles what the calling module has not loaded yet: what other threads load, where it does nothing but get compiled in this one, and
 * what waits for a setting. A package is built with it (scripts/build.sh): a container's layer forgets what its agent compiled.
 */
export async function compileAll(): Promise<void> {
  await Promise.all([
    import('../proxy/worker/data-plane-worker.ts'),
    import('../../native/netns-worker.ts'),
    import('../../mesh/telemetry/otlp/encode-logs.ts'),
    import('../../mesh/telemetry/otlp/exporter.ts'),
    import('../../mesh/telemetry/otlp/target.ts'),
    import('../../mesh/kube/yaml.ts'),
  ])
  flushCompileCache()
}

/** A read-only package must not cost every start a second one. */
function mayKeep(cache: string | undefined): boolean {
  if (cache === undefined) return false
  try {
    accessSync(cache, constants.W_OK)
    return true
  } catch {
    return false
  }
}
