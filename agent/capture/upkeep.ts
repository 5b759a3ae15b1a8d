// SPDX-License-Identifier: Apache-2.0
// Looks after what the agent depends on inside a pod's namespace, which its owner may change at any time: rule and route of
// the app's answers, loopback, sysctls, and the addresses that the hooks know. Changes of the first are told by the kernel;
// of sysctls nobody tells, so they are read again soon after enrolment and after a repair, and now and then. What is amiss is
// put right, and told.

import { Backoff } from '../../mesh/async/backoff.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { NetnsWatch, WatchedNetns } from '../../native/netns-watch.ts'
import type { NetnsThread } from '../../native/netns.ts'
import type { OwnAddress } from '../../native/own-addresses.ts'
import type { RoutedNetworks } from '../../native/routed-networks.ts'
import { keepRouting, keepSysctls, routingClash } from './pod-state.ts'
import type { NetworkReport } from './types.ts'

/** Between two looks at one namespace that goes on changing: what a pod does to its network costs the agent no more. */
const PAUSE_MS = { first: 100, longest: 2_000 } as const
/** After something had to be put right. Where it is so again and again, it costs the pod its connections, nobody else. */
const REPAIR_PAUSE_MS = { first: 100, longest: 30_000 } as const
/** So many repairs, with no such time between them, are no accident. */
const CONTESTED_AFTER = 5
const CALM_MS = 60_000
/** When sysctls are read: runtimes set those of a pod's securityContext after CNI ADD, init containers a little later. */
const SYSCTL_CHECKS_MS = [1_000, 5_000, 30_000] as const

export interface UpkeepOptions {
  readonly netnsFd: number
  readonly thread: NetnsThread
  readonly watch: NetnsWatch
  readonly logger: Logger
  /** Runs a look when nothing else is done to the pod. */
  readonly inTurn: (look: () => Promise<void>) => Promise<void>
  /** What the namespace has now. */
  readonly onAddresses: (addresses: readonly OwnAddress[], networks: RoutedNetworks) => void
  readonly report: (report: NetworkReport) => void
}

/** The upkeep of one enrolled pod, from start() until close(). */
export class Upkeep {
  readonly #options: UpkeepOptions
  readonly #pauses = new Backoff({ firstMs: PAUSE_MS.first, longestMs: PAUSE_MS.longest })
  readonly #repairPauses = new Backoff({
    firstMs: REPAIR_PAUSE_MS.first,
    longestMs: REPAIR_PAUSE_MS.longest,
  })
  #families: readonly (4 | 6)[] = []
  #watched: WatchedNetns | undefined
  #lookTimer: NodeJS.Timeout | undefined
  #sysctlTimer: NodeJS.Timeout | undefined
  /** Before this nothing is looked at. */
  #notBefore = 0
  #sysctlChecks = 0
  #isSysctlDue = false
  #repairs = 0
  #lastRepairAt = 0
  #lastLookAt = 0
  #hasAskedForIpv6 = false
  #isClosed = false

  constructor(options: UpkeepOptions) {
    this.#options = options
  }

  /** Begins, or goes on with other listeners. Rejects with NativeError. */
  async start(families: readonly (4 | 6)[]): Promise<void> {
    const { watch, thread, netnsFd } = this.#options
    if (this.#isClosed) return
    this.#families = families
    this.#sysctlChecks = 0
    this.#planSysctls()
    if (this.#watched !== undefined) return
    const watched = await watch.open(thread, netnsFd, () => this.lookSoon())
    if (this.#isClosed) watched.close()
    else this.#watched = watched
  }

  /** No further look; one under way ends. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#lookTimer)
    clearTimeout(this.#sysctlTimer)
    this.#watched?.close()
    this.#watched = undefined
  }

  /** Looks as soon as the pauses allow. */
  lookSoon(): void {
    if (this.#isClosed || this.#lookTimer !== undefined) return
    const wait = Math.max(0, this.#notBefore - performance.now())
    this.#lookTimer = setTimeout(() => {
      this.#lookTimer = undefined
      void this.#options.inTurn(() => this.#look())
    }, wait)
    this.#lookTimer.unref()
  }

  #planSysctls(): void {
    clearTimeout(this.#sysctlTimer)
    const last = SYSCTL_CHECKS_MS.length - 1
    const wait = SYSCTL_CHECKS_MS[Math.min(this.#sysctlChecks, last)] ?? 0
    this.#sysctlChecks += 1
    this.#sysctlTimer = setTimeout(() => {
      this.#isSysctlDue = true
      this.lookSoon()
    }, wait)
    this.#sysctlTimer.unref()
  }

  async #look(): Promise<void> {
    if (this.#isClosed) return
    const isSysctlDue = this.#isSysctlDue
    this.#isSysctlDue = false
    let hasRepaired = false
    if (performance.now() - this.#lastLookAt > PAUSE_MS.longest * 2) this.#pauses.reset()
    this.#lastLookAt = performance.now()
    try {
      // First: what changes while we look is told again.
      this.#watched?.rearm()
      const repaired = [
        ...(await this.#lookAtRouting()),
        ...(await this.#lookAtSysctls(isSysctlDue)),
      ]
      hasRepaired = repaired.length > 0
      this.#account(repaired)
    } catch (thrown) {
      this.#notBefore = performance.now() + this.#repairPauses.next()
      const clash = routingClash(thrown)
      if (clash !== undefined) this.#options.report({ kind: 'clash', what: [clash] })
      else this.#options.logger.warn({ error: thrown }, "cannot look after a pod's network")
    }
    // Who changed the one may be about to change the other. A loop of such changes puts this off for no longer than a second or
    // two: then the pauses between repairs are longer than the wait for the sysctls.
    if ((isSysctlDue || hasRepaired) && !this.#isClosed) this.#planSysctls()
  }

  async #lookAtRouting(): Promise<readonly string[]> {
    const { thread, netnsFd } = this.#options
    const { repaired, addresses, networks } = await keepRouting(thread, netnsFd, this.#families)
    if (this.#isClosed) return []
    this.#options.onAddresses(addresses, networks)
    this.#lookForIpv6(addresses)
    return repaired
  }

  async #lookAtSysctls(isDue: boolean): Promise<readonly string[]> {
    if (!isDue || this.#isClosed) return []
    const { thread, netnsFd } = this.#options
    return keepSysctls(thread, netnsFd, this.#families)
  }

  /** IPv6 was off when its listeners were to be made, and is not any more. Asked once: it may be on at some devices only. */
  #lookForIpv6(addresses: readonly OwnAddress[]): void {
    const isWanted =
      !this.#families.includes(6) && addresses.some(({ bytes }) => bytes.length === 16)
    if (isWanted && this.#hasAskedForIpv6)
      this.#options.report({ kind: 'withoutLoopback6', what: ['IPv6'] })
    else if (isWanted) this.#options.report({ kind: 'familyCame', what: ['IPv6'] })
    this.#hasAskedForIpv6 = isWanted
  }

  #account(repaired: readonly string[]): void {
    const now = performance.now()
    if (repaired.length === 0) {
      this.#notBefore = now + this.#pauses.next()
      return
    }
    if (now - this.#lastRepairAt > CALM_MS) {
      this.#repairs = 0
      this.#repairPauses.reset()
    }
    this.#lastRepairAt = now
    this.#repairs += 1
    this.#notBefore = now + this.#repairPauses.next()
    this.#sysctlChecks = 0
    const kind = this.#repairs < CONTESTED_AFTER ? 'repaired' : 'contested'
    this.#options.report({ kind, what: repaired })
  }
}
