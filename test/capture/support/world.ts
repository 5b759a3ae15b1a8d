// SPDX-License-Identifier: Apache-2.0
// A node with two pods and a machine beyond it, in namespaces and cgroups of their own:
//
//   remote 10.97.0.2 -- node 10.97.0.1 -- pod a 10.98.0.2, pod b 10.98.0.3     (fd97::, fd98:: likewise)
//
// Routed point to point as most CNIs do. Everything is removed by teardown, also when a test fails.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { CaptureStats } from '../../../agent/capture/capture.ts'
import type { CapturePod } from '../../../agent/capture/index.ts'
import type { IpAddress } from '../../../mesh/model/types.ts'
import { cgroup2Mount, uniqueName } from '../../helpers.ts'
import type { Failure, OpenRequest } from './agent-process.ts'
import type { ServeRequest } from './app-process.ts'
import type { RawConnect, RawResult } from './raw-socket.ts'
import { type Place, RemoteProcess } from './rpc.ts'

export const BPF_OBJECT = fileURLToPath(
  new URL('../../../bpf/build/capture.bpf.o', import.meta.url),
)
const AGENT = new URL('./agent-process.ts', import.meta.url)
const APP = new URL('./app-process.ts', import.meta.url)

export const ADDRESS = {
  nodeV4: '10.97.0.1',
  nodeV6: 'fd97::1',
  remoteV4: '10.97.0.2',
  remoteV6: 'fd97::2',
  aV4: '10.98.0.2',
  aV6: 'fd98::2',
  bV4: '10.98.0.3',
  bV6: 'fd98::3',
} as const

/** What tap gives a test, as far as the world needs it. */
interface Teardown {
  teardown(run: () => void | Promise<void>): void
}

export type ServeManner = Omit<ServeRequest, 'address' | 'port'>

/** Connect by raw calls and tell. */
export class App {
  readonly process: RemoteProcess

  constructor(process: RemoteProcess) {
    this.process = process
  }

  connect(wanted: RawConnect): Promise<RawResult> {
    return this.process.ask('connect', wanted)
  }

  serve(address: string, port: number, how: boolean | ServeManner = false): Promise<void> {
    const manner = typeof how === 'boolean' ? { hold: how } : how
    return this.process.ask('serve', { address, port, ...manner })
  }
}

/** An agent in the node's namespace. */
export class Agent {
  readonly process: RemoteProcess
  readonly #world: World

  constructor(process: RemoteProcess, world: World) {
    this.process = process
    this.#world = world
  }

  open(overrides: Partial<OpenRequest> = {}): Promise<Failure | undefined> {
    return this.process.ask('open', {
      cgroupPath: this.#world.cgroup,
      bpffsDir: this.#world.bpffs,
      bpfObjectPath: BPF_OBJECT,
      kubeletCgroups: [`${this.#world.cgroup}/kubelet`],
      ...overrides,
    })
  }

  enrol(
    pod: CapturePod,
  ): Promise<Failure | { readonly cookie: string; readonly listeners: number }> {
    return this.process.ask('enrol', pod)
  }

  leave(
    pod: CapturePod,
  ): Promise<Failure | { readonly cookie: string; readonly listeners: number }> {
    return this.process.ask('leave', pod)
  }

  withdraw(uid: string): Promise<void> {
    return this.process.ask('withdraw', uid)
  }

  counters(): Promise<Readonly<Record<string, number>>> {
    return this.process.ask('counters')
  }

  stats(): Promise<CaptureStats> {
    return this.process.ask('stats')
  }
}

/** Where processes may be started. */
export type Site = 'node' | 'remote' | 'a' | 'b'
export type CgroupName =
  | 'agent'
  | 'kubelet'
  | 'other'
  | 'a'
  | 'b'
  | 'remote'
  | `a/${string}`
  | `kubepods/${string}`

export class World {
  readonly name: string
  readonly cgroup: string
  readonly bpffs: string
  readonly #processes: RemoteProcess[] = []
  readonly #janitor: ChildProcess

  constructor(test: Teardown) {
    this.name = uniqueName('w')
    this.cgroup = `${cgroup2Mount()}/${this.name}`
    this.bpffs = `/run/${this.name}`
    this.#janitor = startJanitor(tearDown(this.name, this.cgroup, this.bpffs))
    test.teardown(() => this.destroy())
    mkdirSync(this.bpffs, { recursive: true })
    for (const leaf of ['agent', 'kubelet', 'other', 'a', 'b', 'remote'])
      mkdirSync(`${this.cgroup}/${leaf}`, { recursive: true })
    shell(setUp(this.name, this.bpffs))
  }

  /** A path that opens the namespace. */
  netns(site: Site): string {
    return `/run/netns/${this.name}-${site}`
  }

  pod(site: 'a' | 'b', overrides: Partial<CapturePod> = {}): CapturePod {
    const addresses = site === 'a' ? [ADDRESS.aV4, ADDRESS.aV6] : [ADDRESS.bV4, ADDRESS.bV6]
    return {
      uid: `uid-${site}`,
      namespace: 'shop',
      name: `pod-${site}`,
      netnsPath: this.netns(site),
      addresses: addresses as unknown as readonly IpAddress[],
      failOpen: false,
      ...overrides,
    }
  }

  app(
    site: Site,
    cgroup: CgroupName = site === 'node' ? 'other' : site,
    wrapper?: readonly string[],
  ): App {
    return new App(this.#start(APP, site, cgroup, wrapper))
  }

  agent(cgroup: CgroupName = 'agent'): Agent {
    return new Agent(this.#start(AGENT, 'node', cgroup), this)
  }

  /** An agent with capture open. */
  async openAgent(overrides: Partial<OpenRequest> = {}): Promise<Agent> {
    const agent = this.agent()
    const failure = await agent.open(overrides)
    if (failure !== undefined) throw new Error(failure.message)
    return agent
  }

  /** Runs a shell command inside a namespace (and a cgroup of the world) and gives its output. */
  inside(site: Site, command: string): string {
    const join = `echo $$ > ${this.cgroup}/other/cgroup.procs`
    return shell(`nsenter --net=${this.netns(site)} sh -c '${join}; ${command}'`)
  }

  /** An empty namespace with loopback and one address; gives a pod that lives there. */
  emptyPod(index: number): CapturePod {
    const name = `${this.name}-x${index}`
    const address = `10.99.${index >> 8}.${index & 0xff}`
    shell(
      `ip netns add ${name}; ip -n ${name} link set lo up; ip -n ${name} addr add ${address}/32 dev lo`,
    )
    return {
      ...this.pod('a'),
      uid: `uid-x${index}`,
      name: `pod-x${index}`,
      netnsPath: `/run/netns/${name}`,
      addresses: [address as IpAddress, `fd99::${index.toString(16)}` as IpAddress],
    }
  }

  async destroy(): Promise<void> {
    for (const process of this.#processes.splice(0)) await process.stop('SIGKILL')
    // The janitor does the work, as it would have done had this process been killed.
    const done = new Promise((resolve) => this.#janitor.once('exit', resolve))
    this.#janitor.stdin?.end()
    await done
  }

  #start(script: URL, site: Site, cgroup: CgroupName, wrapper?: readonly string[]): RemoteProcess {
    const place: Place = {
      netns: this.netns(site),
      cgroup: `${this.cgroup}/${cgroup}`,
      ...(wrapper !== undefined && { wrapper }),
    }
    mkdirSync(place.cgroup, { recursive: true })
    const process = new RemoteProcess(script, place)
    this.#processes.push(process)
    return process
  }
}

function shell(command: string): string {
  return execFileSync('sh', ['-ec', command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

/**
 * A shell that waits until this process closes the pipe or is gone, however it ended, and then cleans up. Left to the
 * test's own process, a run cut off by its deadline would leave namespaces, a cgroup and pins behind.
 */
function startJanitor(cleanUp: string): ChildProcess {
  return spawn('sh', ['-c', `trap "" INT TERM; read -r _; ${cleanUp}`], {
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
  })
}

function tearDown(name: string, cgroup: string, bpffs: string): string {
  return `
    [ ! -e ${cgroup}/cgroup.kill ] || echo 1 > ${cgroup}/cgroup.kill
    if mountpoint -q ${bpffs}; then rm -rf ${bpffs}/v*; umount ${bpffs}; fi
    [ ! -d ${bpffs} ] || rmdir ${bpffs}
    for path in /run/netns/${name}-*; do [ ! -e "$path" ] || ip netns del "\${path##*/}"; done
    for attempt in $(seq 100); do
      [ -d ${cgroup} ] || break
      find ${cgroup} -depth -type d -exec rmdir {} + 2> /dev/null || sleep 0.05
    done`
}

function setUp(name: string, bpffs: string): string {
  const ns = (site: Site): string => `${name}-${site}`
  const pod = (site: 'a' | 'b', v4: string, v6: string): string => `
    ip netns add ${ns(site)}
    ip -n ${ns(site)} link set lo up
    ip -n ${ns('node')} link add v${site} type veth peer name eth0 netns ${ns(site)}
    ip -n ${ns('node')} link set v${site} up
    ip -n ${ns(site)} link set eth0 up
    ip -n ${ns('node')} addr add 169.254.1.1/32 dev v${site}
    ip -n ${ns('node')} addr add fe80::1/64 dev v${site} nodad
    ip -n ${ns('node')} route add ${v4}/32 dev v${site} src ${ADDRESS.nodeV4}
    ip -n ${ns('node')} route add ${v6}/128 dev v${site} src ${ADDRESS.nodeV6}
    ip -n ${ns(site)} addr add ${v4}/32 dev eth0
    ip -n ${ns(site)} addr add ${v6}/128 dev eth0 nodad
    ip -n ${ns(site)} route add 169.254.1.1 dev eth0
    ip -n ${ns(site)} route add default via 169.254.1.1
    ip -n ${ns(site)} route add default via fe80::1 dev eth0`
  return `
    mount -t bpf bpf ${bpffs}
    ip netns add ${ns('node')}
    ip netns add ${ns('remote')}
    ip -n ${ns('node')} link set lo up
    ip -n ${ns('remote')} link set lo up
    ip -n ${ns('node')} link add uplink type veth peer name eth0 netns ${ns('remote')}
    ip -n ${ns('node')} link set uplink up
    ip -n ${ns('remote')} link set eth0 up
    ip -n ${ns('node')} addr add ${ADDRESS.nodeV4}/24 dev uplink
    ip -n ${ns('node')} addr add ${ADDRESS.nodeV6}/64 dev uplink nodad
    ip -n ${ns('remote')} addr add ${ADDRESS.remoteV4}/24 dev eth0
    ip -n ${ns('remote')} addr add ${ADDRESS.remoteV6}/64 dev eth0 nodad
    ip -n ${ns('remote')} route add default via ${ADDRESS.nodeV4}
    ip -n ${ns('remote')} route add default via ${ADDRESS.nodeV6}
    ${pod('a', ADDRESS.aV4, ADDRESS.aV6)}
    ${pod('b', ADDRESS.bV4, ADDRESS.bV6)}
    nsenter --net=/run/netns/${ns('node')} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'`
}
