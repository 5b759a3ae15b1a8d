// SPDX-License-Identifier: Apache-2.0
// `npm run conformance`: makes a lab with the Gateway API's own definitions, runs the API's conformance suite against it, and keeps its
// report. The suite deploys its workload by image names that the lab knows (lab/kubelet/images.ts).

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { SUPPORTED_FEATURES } from '../../controller/gateway-api/supported-features.ts'
import { createLab, type Lab } from '../../lab/cluster/index.ts'
import { readManifests } from '../../lab/machine/manifests.ts'
import { runGo } from '../../lab/machine/go.ts'
import { VERSION } from '../../mesh/program/version.ts'

const USAGE = `usage: npm run conformance -- [--run-test NAME] [--log FILE] [--keep]

  --run-test NAME   one test of the suite, e.g. MeshHTTPRouteWeight; the kept report stays as it is
  --log FILE        all that the suite says
  --keep            leave the lab up: ambit lab down --name conformance`

const HERE = fileURLToPath(new URL('.', import.meta.url))
const REPORT = fileURLToPath(new URL('../../docs/conformance.yaml', import.meta.url))
const LAB = 'conformance'
const PROFILES = ['MESH-HTTP', 'MESH-GRPC']
const WAYPOINT = 'waypoint'
/** The namespaces of the suite's mesh tests, which it makes itself where they are not there. */
const NAMESPACES = ['gateway-conformance-mesh', 'gateway-conformance-mesh-consumer']
const LABELS = { 'istio.io/dataplane-mode': 'ambient', 'istio.io/use-waypoint': WAYPOINT }
const WAYPOINTS_DEADLINE_MS = 60_000
const FAILURES_SHOWN = 40

const { values: flags } = parseArgs({
  options: {
    'run-test': { type: 'string' },
    log: { type: 'string' },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

interface Outcome {
  readonly name: string
  readonly result: string
}

const report = (line: string): void => console.log(line)

async function go(what: string, words: readonly string[]): Promise<string> {
  const said = await runGo(words, { what, directory: HERE, report })
  return said.trim()
}

/** The definitions of the Gateway API at the suite's own version, and the namespaces with a waypoint each. */
async function prepare(lab: Lab): Promise<void> {
  const where = ['list', '-m', '-f', '{{.Dir}}', 'sigs.k8s.io/gateway-api']
  const api = await go("finding the API's definitions", where)
  const definitions = readManifests(join(api, 'config/crd/standard')).filter(
    ({ kind }) => kind === 'CustomResourceDefinition',
  )
  await lab.applyManifests(definitions)
  const labels = JSON.stringify(LABELS)
  for (const namespace of NAMESPACES)
    await lab.apply(`
apiVersion: v1
kind: Namespace
metadata: { name: ${namespace}, labels: ${labels} }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: ${WAYPOINT}, namespace: ${namespace} }
spec:
  gatewayClassName: ambit-waypoint
  listeners: [{ name: mesh, port: 15008, protocol: HBONE }]
`)
  for (const namespace of NAMESPACES)
    await lab.kubectl(
      'wait',
      '--for=condition=Programmed',
      `--timeout=${WAYPOINTS_DEADLINE_MS}ms`,
      `--namespace=${namespace}`,
      `gateway/${WAYPOINT}`,
    )
}

/** Runs the suite's program to its end; gives what has come of each test, in their order. */
async function runSuite(
  program: string,
  kubeconfig: string,
  reportFile: string,
): Promise<readonly Outcome[]> {
  const runTest = flags['run-test']
  const words = [
    '-test.v',
    '-test.timeout=60m',
    `-conformance-profiles=${PROFILES.join(',')}`,
    `-supported-features=${SUPPORTED_FEATURES.join(',')}`,
    `-namespace-labels=${Object.entries(LABELS).map(([name, value]) => `${name}=${value}`)}`,
    `-report-output=${reportFile}`,
    '-organization=ambit',
    '-project=ambit',
    '-url=https://example.invalid/ambit',
    `-version=v${VERSION}`,
    '-contact=see CONTRIBUTING.md',
    ...(runTest === undefined ? [] : [`-run-test=${runTest}`]),
  ]
  const child = spawn(program, words, {
    env: { ...process.env, KUBECONFIG: kubeconfig },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const outcomes: Outcome[] = []
  const said: string[] = []
  let since = Date.now()
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line)
    const [, name, result] = /^result: (\S+) (\w+)$/.exec(line) ?? []
    if (name === undefined || result === undefined) continue
    // What the suite has for other profiles it skips at once.
    if (result !== 'skipped') {
      outcomes.push({ name, result })
      console.log(`  ${result}  ${name} (${Math.round((Date.now() - since) / 1000)} s)`)
    }
    since = Date.now()
  }
  if (child.exitCode === null) await once(child, 'exit')
  if (flags.log !== undefined) writeFileSync(flags.log, `${said.join('\n')}\n`)
  if (outcomes.length === 0)
    throw new Error(`Cannot run the suite:\n${said.slice(-FAILURES_SHOWN).join('\n')}`)
  return outcomes
}

/** The suite's report has no place for tests whose features belong to no profile: they stand above it. */
function keepReport(reportFile: string, outcomes: readonly Outcome[]): void {
  const lines = [
    '# SPDX-License-Identifier: Apache-2.0',
    '# The report of the conformance suite of the Gateway API, as `npm run conformance` wrote it. All tests for meshes, those too that',
    '# belong to no profile and so are not counted below:',
    ...outcomes.map(({ name, result }) => `#   ${result}  ${name}`),
  ]
  writeFileSync(REPORT, `${lines.join('\n')}\n${readFileSync(reportFile, 'utf8')}`)
  console.log('the report is kept as docs/conformance.yaml')
}

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-conformance-'))
  const program = join(directory, 'suite')
  const reportFile = join(directory, 'report.yaml')
  try {
    await go('building the suite (the first time takes minutes)', [
      'test',
      '-c',
      '-o',
      program,
      '.',
    ])
    const lab = await createLab({ name: LAB, report })
    try {
      await prepare(lab)
      console.log(`running the suite: ${PROFILES.join(', ')}`)
      const outcomes = await runSuite(program, lab.kubeconfig, reportFile)
      const failed = outcomes.filter(({ result }) => result === 'failed')
      console.log(`${outcomes.length - failed.length} of ${outcomes.length} passed`)
      if (flags['run-test'] === undefined) keepReport(reportFile, outcomes)
      if (failed.length > 0) process.exitCode = 1
    } finally {
      if (!flags.keep) await lab.down()
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

if (flags.help) console.log(USAGE)
else await main()
