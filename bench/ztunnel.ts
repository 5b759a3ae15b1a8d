// SPDX-License-Identifier: Apache-2.0
// The third path: Istio's ztunnel, where AMBIT_ZTUNNEL names its binary, under Ambit's own controller (xDS and CA). Each pod of
// the namespace has one, in its dedicated mode, in the pod's own namespaces with one worker thread, and the redirection of Istio.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, realpath, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Lab, podCommand } from '../lab/cluster/index.ts'
import { nodeLayout } from '../lab/machine/layout.ts'

/** What has ztunnel's bytes leave unredirected, and what brings answers to an address that is not the pod's back to it. */
const OWN_MARK = 0x539
const ANSWER_MARK = 0x111
const ANSWER_TABLE = 100
/** ztunnel's ports: captured outbound, captured inbound, HBONE, readiness. */
const OUTBOUND = 15001
const INBOUND = 15006
const HBONE = 15008
const READY = 15021
const CONTROLLER = 'https://ambit-controller.ambit-system.svc:15012'
/** Mounted into the pod (topology.ts). */
const ROOT_FILE = '/var/run/secrets/istio/root-cert.pem'
const TOKEN_FILE = '/var/run/secrets/tokens/istio-token'
/** What is told of its log when it cannot be used. */
const SAID_BYTES = 2_000
const READY_DEADLINE_MS = 30_000

/** Istio's in-pod redirection, as nftables. */
const REDIRECTION = `table ip ambit_bench {
  chain answers_in {
    type filter hook prerouting priority mangle
    meta mark & 0xfff == ${OWN_MARK} ct mark set ${ANSWER_MARK}
  }
  chain answers_out {
    type route hook output priority mangle
    ct mark & 0xfff == ${ANSWER_MARK} meta mark set ct mark
  }
  chain outbound {
    type nat hook output priority -100
    meta mark & 0xfff == { ${OWN_MARK}, ${ANSWER_MARK} } accept
    oifname "lo" accept
    ip daddr != 127.0.0.1 ip protocol tcp redirect to :${OUTBOUND}
  }
  chain inbound {
    type nat hook prerouting priority dstnat
    meta mark & 0xfff == ${OWN_MARK} accept
    ip daddr != 127.0.0.1 tcp dport != ${HBONE} redirect to :${INBOUND}
  }
}
`
const ANSWER_ROUTES = [
  `ip rule add fwmark ${ANSWER_MARK}/0xfff lookup ${ANSWER_TABLE} pref 32764`,
  `ip route add local 0.0.0.0/0 dev lo table ${ANSWER_TABLE}`,
]

/** A pod that gets a ztunnel. */
export interface ZtunnelPod {
  readonly namespace: string
  readonly name: string
  readonly node: string
  readonly address: string
}

/** Starts a pod's ztunnel and leads the pod's traffic through it; resolves when it serves. It ends when the child is killed. */
export async function startZtunnel(
  lab: Lab,
  binary: string,
  directory: string,
  pod: ZtunnelPod,
): Promise<ChildProcess> {
  const target = `${pod.namespace}/${pod.name}`
  // The ConfigMap comes with the namespace, perhaps after the pod.
  await lab.waitFor(`${target} has the mesh's root`, async () => {
    const found = await lab.exec(target, ['test', '-s', ROOT_FILE])
    return found.code === 0 ? true : undefined
  })
  const file = (name: string): string => join(directory, `${pod.name}-${name}`)
  await writeFile(file('redirection.nft'), REDIRECTION)
  const settings = {
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: `${pod.namespace}/${pod.name}/default`,
    POD_NAMESPACE: pod.namespace,
    POD_NAME: pod.name,
    SERVICE_ACCOUNT: 'default',
    INSTANCE_IP: pod.address,
    NODE_NAME: pod.node,
    ZTUNNEL_WORKER_THREADS: '1',
    PACKET_MARK: String(OWN_MARK),
    ENABLE_ORIG_SRC: 'true',
    IPV6_ENABLED: 'false',
    XDS_ADDRESS: CONTROLLER,
    CA_ADDRESS: CONTROLLER,
    XDS_ROOT_CA: ROOT_FILE,
    CA_ROOT_CA: ROOT_FILE,
    AUTH_TOKEN: TOKEN_FILE,
    RUST_LOG: 'info',
  }
  const environment = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
  // As shipped it writes its access log; who reads it is not measured.
  const log = `exec "$0" proxy ztunnel >${file('ztunnel.log')} 2>&1`
  const { argv, environment: env } = podCommand(lab.layout, target, [
    ...['env', ...environment, 'sh', '-c', log, binary],
  ])
  const child = spawn(argv[0] ?? 'sh', argv.slice(1), {
    env,
    stdio: 'ignore',
  })
  await once(child, 'spawn')
  try {
    await lab.waitFor(
      `the ztunnel of ${target} is ready`,
      async () => {
        const url = `http://${pod.address}:${READY}/healthz/ready`
        const answer = await lab.exec(target, ['curl', '-sf', '-o', '/dev/null', '-m', '1', url])
        return answer.code === 0 ? true : undefined
      },
      READY_DEADLINE_MS,
    )
    await output(lab, target, 'nft', '-f', file('redirection.nft'))
    for (const command of ANSWER_ROUTES) await output(lab, target, ...command.split(' '))
  } catch (error) {
    child.kill('SIGKILL')
    // The pod has written it in its own file system.
    const said = await output(lab, target, 'tail', '-c', String(SAID_BYTES), file('ztunnel.log'))
    throw new Error(`Cannot use the ztunnel of ${target}, which said: ${said}`, {
      cause: error,
    })
  }
  return child
}

/** The processes of a pod that run a program. */
export async function processesOf(
  lab: Lab,
  node: string,
  pod: string,
  program?: string,
): Promise<readonly number[]> {
  const folder = join(nodeLayout(lab.layout, node).podsCgroup, `pod${lab.pod(pod).uid}`)
  const found: number[] = []
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue
    const lines = await readFile(join(folder, entry.name, 'cgroup.procs'), 'utf8')
    for (const line of lines.split('\n').filter((text) => text !== '')) {
      const isIt = program === undefined || (await realpath(`/proc/${line}/exe`)) === program
      if (isIt) found.push(Number(line))
    }
  }
  return found
}

async function output(lab: Lab, pod: string, ...command: readonly string[]): Promise<string> {
  const result = await lab.exec(pod, command)
  if (result.code !== 0)
    throw new Error(`Cannot run ${command.join(' ')} in ${pod}: ${result.stderr.trim()}`)
  return result.stdout
}
