// SPDX-License-Identifier: Apache-2.0
// Manifests and calls of the traffic stories: pods that run test/e2e/programs/server.ts, services before them, and the
// programs that call them.

import type { ChildProcess } from 'node:child_process'
import type { Lab } from '../../../lab/cluster/index.ts'
import { IP_FAMILIES_ANNOTATION } from '../../../lab/kubelet/lab-net-plugin.ts'
import { PODS } from '../../../mesh/kube/index.ts'
import { HTTP_PORT, TCP_PORTS } from '../programs/ports.ts'
import { objectOf } from './objects.ts'

export type Families = 'IPv4' | 'IPv6' | 'IPv4,IPv6'

export interface ServerPod {
  readonly namespace: string
  readonly name: string
  readonly node: string
  readonly families?: Families
  readonly labels?: Readonly<Record<string, string>>
  /** Merged into the pod's spec. */
  readonly spec?: object
  /** Instead of the server. */
  readonly command?: readonly string[]
}

const PROGRAMS = 'test/e2e/programs'
/** Long enough for a connection to end in peace, short enough for a test. Seconds. */
const GRACE_SECONDS = 2

/** A namespace, labelled into the mesh unless told otherwise. */
export function namespaceManifest(name: string, isInMesh = true): object {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels: isInMesh ? { 'istio.io/dataplane-mode': 'ambient' } : {} },
  }
}

/** A pod that serves every port of the server; its label `app` is its name unless labels are given. */
export function serverManifest(pod: ServerPod): object {
  const { namespace, name, node, families = 'IPv4,IPv6', labels, spec, command } = pod
  const isServer = command === undefined
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace,
      name,
      labels: labels ?? { app: name },
      annotations: { [IP_FAMILIES_ANNOTATION]: families },
    },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: GRACE_SECONDS,
      containers: [
        {
          name: 'main',
          image: 'host',
          command: command ?? ['node', `${PROGRAMS}/server.ts`],
          ...(isServer && {
            readinessProbe: { httpGet: { path: '/', port: HTTP_PORT }, periodSeconds: 1 },
          }),
        },
      ],
      ...spec,
    },
  }
}

/** A service before pods of one label `app`, with every TCP port of the server. */
export function serviceManifest(
  namespace: string,
  name: string,
  selector: Readonly<Record<string, string>> | undefined,
  spec: object = {},
): object {
  const ports = [
    { name: 'http', port: 80, targetPort: HTTP_PORT },
    ...Object.entries(TCP_PORTS).map(([habit, port]) => ({ name: habit, port })),
  ]
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace, name },
    spec: { selector, ports, ipFamilyPolicy: 'PreferDualStack', ...spec },
  }
}

/** The addresses of a pod, IPv4 first. */
async function podAddresses(lab: Lab, pod: string): Promise<readonly string[]> {
  const { status } = await objectOf(lab, PODS, pod)
  return (status?.podIPs ?? []).flatMap(({ ip }) => ip ?? [])
}

/** The pod's address of a family; throws when it has none. */
export async function podAddress(lab: Lab, pod: string, family: 4 | 6): Promise<string> {
  const all = await podAddresses(lab, pod)
  const found = all.find((address) => address.includes(':') === (family === 6))
  if (found === undefined) throw new Error(`${pod} has no IPv${family} address: ${all.join(', ')}`)
  return found
}

/** Runs a program of test/e2e/programs in a pod and reads the last line that it prints. */
export async function run<T>(
  lab: Lab,
  pod: string,
  program: string,
  ...args: readonly (string | number)[]
): Promise<T> {
  const argv = ['node', `${PROGRAMS}/${program}.ts`, ...args.map(String)]
  const { code, stdout, stderr } = await lab.exec(pod, argv, { timeoutMs: 60_000 })
  const last = stdout.trimEnd().split('\n').at(-1) ?? ''
  // What a program prints last is its report.
  if (code === 0) return JSON.parse(last) as T
  throw new Error(`${program} in ${pod}: exit code ${String(code)}: ${stderr.trim()}`)
}

/** A program that runs beside the test and prints lines. */
export interface Running<T> {
  /** Resolves when it has printed a line that begins like this. */
  said(beginning: string): Promise<string>
  /** Asks it to stop (when it does not end by itself) and gives its report. */
  finish(signal?: NodeJS.Signals): Promise<T>
  readonly child: ChildProcess
}

/** Starts a program of test/e2e/programs in a pod `NAMESPACE/NAME`, or `NAMESPACE/NAME/CONTAINER`. */
export function start<T>(
  lab: Lab,
  pod: string,
  program: string,
  ...args: readonly (string | number)[]
): Running<T> {
  return startFile(lab, pod, `${PROGRAMS}/${program}.ts`, ...args)
}

/** The same of a program by its path in the repository. */
export function startFile<T>(
  lab: Lab,
  pod: string,
  file: string,
  ...args: readonly (string | number)[]
): Running<T> {
  const [namespace = '', name = '', container] = pod.split('/')
  const argv = ['node', file, ...args.map(String)]
  const options = container === undefined ? {} : { container }
  const child = lab.spawn(`${namespace}/${name}`, argv, options)
  let stdout = ''
  let stderr = ''
  const listeners = new Set<() => void>()
  const closed = new Promise<number | null>((resolve) => {
    child.on('close', (code) => {
      resolve(code)
      for (const listener of listeners) listener()
    })
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    for (const listener of listeners) listener()
  })
  const failure = (): Error => new Error(`${file} in ${pod}: ${stderr.trim()} ${stdout.trim()}`)
  return {
    child,
    said: (beginning) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const line = stdout.split('\n').find((each) => each.startsWith(beginning))
          if (line !== undefined) resolve(line)
          else if (child.exitCode !== null) reject(failure())
        }
        listeners.add(look)
        look()
      }),
    finish: async (signal) => {
      if (signal !== undefined) child.kill(signal)
      const code = await closed
      if (code !== 0) throw failure()
      return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as T
    },
  }
}

/** What the server says of itself and of the connections that it has had. */
export interface ServerReport {
  readonly client: string
  readonly pod: string
  readonly user: number
  readonly blocked: number
  readonly endings: readonly {
    readonly habit: string
    readonly peer: string
    readonly received: number
    readonly end: string
  }[]
}

/** Asks the server over its own loopback, which the mesh leaves alone. */
export async function serverReport(lab: Lab, pod: string): Promise<ServerReport> {
  return await get(lab, pod, `http://127.0.0.1:${HTTP_PORT}/`)
}

/** GET in a pod by curl. */
export async function get(lab: Lab, pod: string, url: string): Promise<ServerReport> {
  const curl = ['curl', '--silent', '--show-error', '--fail', '--max-time', '5', url]
  const { code, stdout, stderr } = await lab.exec(pod, curl)
  if (code === 0) return JSON.parse(stdout) as ServerReport
  throw new Error(`curl ${url} in ${pod}: exit code ${String(code)}: ${stderr.trim()}`)
}
