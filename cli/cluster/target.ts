// SPDX-License-Identifier: Apache-2.0
// Which cluster a command speaks of, and how its pods are reached: a lab of this machine by its name, else the cluster of a kubeconfig
// through its API server.

import { spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import { openLab, podCommand } from '../../lab/cluster/index.ts'
import { relayCommand } from '../../lab/kubernetes/objects/relay-command.ts'
import { requireRoot } from '../../lab/machine/requirements.ts'
import { createKubeApi, type KubeApi, loadKubeConfig } from '../../mesh/kube/index.ts'
import { portForward } from '../../mesh/kube/port-forward.ts'
import { err, ok, type Result } from '../../mesh/result.ts'

/** Flags that say which cluster. */
export interface TargetFlags {
  /** A lab. */
  readonly name?: string
  readonly kubeconfig?: string
  readonly context?: string
  /** Where the mesh itself is installed. */
  readonly systemNamespace: string
}

export interface PodPort {
  readonly namespace: string
  readonly pod: string
  readonly port: number
}

export interface ClusterTarget {
  readonly api: KubeApi
  readonly systemNamespace: string
  /** A connection to a port of the pod's own loopback; the error says why there is none. */
  readonly connect: (target: PodPort) => Promise<Result<Duplex, string>>
}

const CONNECT_DEADLINE_MS = 10_000

/** Finds the cluster; connects to nothing. Throws AmbitError where there is none of that name. */
export async function openTarget(flags: TargetFlags): Promise<ClusterTarget> {
  const { name, systemNamespace } = flags
  if (name !== undefined) {
    const lab = await openLab(name)
    requireRoot('enter the pods of a lab')
    // Straight into the pod: against a real API server a lab has no way through it.
    const connect = ({ namespace, pod, port }: PodPort): Promise<Result<Duplex, string>> =>
      Promise.resolve(
        ok(relayInto(podCommand(lab.layout, `${namespace}/${pod}`, relayCommand(port)))),
      )
    return { api: lab.api, systemNamespace, connect }
  }
  const access = await loadKubeConfig({
    ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
    ...(flags.context === undefined ? {} : { context: flags.context }),
  })
  if (!access.ok) throw access.error
  return {
    api: createKubeApi(access.value),
    systemNamespace,
    connect: async (target) => {
      const opened = await portForward(access.value, target, CONNECT_DEADLINE_MS)
      return opened.ok ? opened : err(opened.error.message)
    },
  }
}

function relayInto({ argv, environment }: ReturnType<typeof podCommand>): Duplex {
  const [program = 'sh', ...args] = argv
  const child = spawn(program, args, { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
  const { stdin, stdout, stderr } = child
  const duplex = new Duplex({
    read: () => void stdout.resume(),
    write: (chunk: Buffer, _encoding, done) => void stdin.write(chunk, done),
    final: (done) => void stdin.end(done),
    destroy: (error, done) => {
      child.kill()
      done(error)
    },
  })
  let said = ''
  stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-500)
  })
  stdout.on('data', (chunk: Buffer) => {
    if (!duplex.push(chunk)) stdout.pause()
  })
  stdin.on('error', () => undefined) // it has ended: its exit says the rest
  child.on('error', (error) => duplex.destroy(error))
  child.on('close', (code) => {
    if (code === 0) duplex.push(null)
    else duplex.destroy(new Error(`nothing listens in the pod: ${said.trim()}`))
  })
  return duplex
}
