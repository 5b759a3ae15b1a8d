// SPDX-License-Identifier: Apache-2.0
// `npm start`: brings the demo lab up, shows the mesh at work check by check, and leaves it up until Ctrl-C.
// With --once it takes the lab down again; the exit code is 0 only if every check held.

import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { createLab, type Lab } from '../cluster/index.ts'
import { requireRoot } from '../machine/requirements.ts'
import { demoChecks } from './checks.ts'
import { demoLab } from './demo-lab.ts'
import { startOutside } from './outside.ts'

const SAMPLE = fileURLToPath(new URL('../samples/shop.yaml', import.meta.url))

/** What a shell says of a command that Ctrl-C ended. */
const EXIT_INTERRUPTED = 130

const USAGE = `usage: npm start [-- --once] [--name NAME]

Brings up a lab of two nodes with a controller and an agent on each, applies a sample
application, and shows the mesh at work, check by check.

  --once       end by itself; exit 0 only if every check held
  --name NAME  name of the lab (default "demo")
  --help       this text`

interface Flags {
  readonly once: boolean
  readonly name: string
}

function readFlags(): Flags | 'help' {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean', default: false },
        name: { type: 'string', default: 'demo' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    return values.help ? 'help' : { once: values.once, name: values.name }
  } catch (error) {
    throw new AmbitError('AMB_USAGE', `Cannot start: ${errorMessage(error)}`)
  }
}

/** Runs every check in order and prints a line each, until `signal` aborts. Gives how many did not hold. */
async function showChecks(lab: Lab, directory: string, signal: AbortSignal): Promise<number> {
  let failed = 0
  for (const check of demoChecks(demoLab(lab, directory))) {
    const outcome = await check.run().then(
      (observed) => ({ mark: '[ok]  ', observed }),
      (error: unknown) => ({ mark: '[FAIL]', observed: errorMessage(error) }),
    )
    signal.throwIfAborted()
    if (outcome.mark === '[FAIL]') failed += 1
    console.log(`  ${outcome.mark} ${check.title}\n         ${outcome.observed}`)
  }
  return failed
}

function howToPlay(name: string): string {
  const flag = name === 'demo' ? '' : ` --name ${name}`
  return `
The lab "${name}" stays up until Ctrl-C. In another terminal:

  export KUBECONFIG=$(npx ambit lab kubeconfig${flag})
  kubectl label namespace shop istio.io/dataplane-mode=ambient
  npx ambit lab exec${flag} shop/frontend -- curl -s http://catalog.shop/
  npx ambit lab capture${flag} fabric -w fabric.pcap
  npx ambit lab logs${flag} node-b
  npx ambit dashboard --name ${name}      # who calls whom, live, in a browser
`
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  // A timer keeps the process alive: waiting for a signal alone does not.
  const alive = setInterval(() => undefined, 60_000)
  if (!signal.aborted) await once(signal, 'abort')
  clearInterval(alive)
}

/** Shows the mesh at work in a lab that is up. Gives how many checks did not hold. */
async function demonstrate(lab: Lab, flags: Flags, signal: AbortSignal): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-demo-'))
  try {
    const outside = await startOutside(lab)
    try {
      console.log('\nWhat the mesh does:\n')
      const failed = await showChecks(lab, directory, signal)
      if (!flags.once) {
        console.log(howToPlay(flags.name))
        await untilAborted(signal)
      }
      return failed
    } finally {
      await outside.stop()
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** The whole demonstration. Gives the exit code. */
async function runDemo(flags: Flags, signal: AbortSignal): Promise<number> {
  requireRoot('start the demo lab')
  const report = (line: string): void => console.log(line)
  const lab = await createLab({ name: flags.name, files: [SAMPLE], report, signal })
  let failed: number
  try {
    failed = await demonstrate(lab, flags, signal)
  } finally {
    console.log(`\ntaking lab "${flags.name}" down ...`)
    await lab.down()
    console.log(
      '  [ok]   nothing is left: no namespace, cgroup, pin, link, route, rule, nftables table or process',
    )
  }
  console.log(
    failed === 0
      ? '\nEvery check held.'
      : `\n${failed} check${failed === 1 ? '' : 's'} did not hold.`,
  )
  return failed === 0 ? 0 : 1
}

/** The first Ctrl-C takes the lab down, whatever goes on; more of them do not disturb that. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) console.error('the lab is being taken down')
      else controller.abort(new AmbitError('AMB_LAB', 'Cannot finish: interrupted'))
    })
  }
  return controller.signal
}

const interrupted = abortOnSignals()
try {
  const flags = readFlags()
  if (flags === 'help') console.log(USAGE)
  else process.exit(await runDemo(flags, interrupted))
} catch (error) {
  if (interrupted.aborted && error === interrupted.reason) {
    console.error('interrupted')
    process.exit(EXIT_INTERRUPTED)
  }
  const code = error instanceof AmbitError ? `${error.code}: ` : ''
  const hint = error instanceof AmbitError ? ` (${error.hint})` : ''
  console.error(`${code}${errorMessage(error)}${hint}`)
  process.exit(error instanceof AmbitError && error.code === 'AMB_USAGE' ? 2 : 1)
}
