// SPDX-License-Identifier: Apache-2.0
// The authority that signs now, and what becomes of it when its Secret changes while the controller runs: a good one is taken
// over at once, a broken one is refused with its reason, and the one before it goes on.

import { X509Certificate } from 'node:crypto'
import { type AmbitError, errorMessage } from '../../mesh/errors.ts'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import type { Clock } from '../../mesh/identity/clock.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import {
  type KubeApi,
  type ResourceWatch,
  type Secret,
  SECRETS,
  watchResource,
} from '../../mesh/kube/index.ts'
import {
  type CaSecretKind,
  type CaSecretOptions,
  type KeptAuthority,
  readAuthority,
} from './ca-secret.ts'

export interface AuthoritySourceOptions extends CaSecretOptions {
  readonly clock: Clock
  /** Whether one of the Secrets stands refused, for metrics. */
  readonly onRefused?: (isRefused: boolean) => void
}

/** What needs to know who signs. */
export interface Authority {
  readonly current: SigningAuthority
  /** Calls back with each authority that takes over. Returns the unsubscriber. */
  onChange(listener: (authority: SigningAuthority) => void): () => void
}

/** How often an authority that is about to end is looked at. */
const LOOK_AT_END_MS = 12 * 3_600_000
/**
 * A refused Secret is looked at again after so long: one that is not valid yet, made on a machine whose clock is ahead of ours,
 * mends itself, and no event tells of that.
 */
const LOOK_AT_REFUSED_MS = 60_000
/** From here on its end is warned of: a year before that of a root of ten. */
const LAST_PART_OF_LIFE = 0.1

export class AuthoritySource implements Authority {
  readonly #options: AuthoritySourceOptions
  readonly #watches: readonly ResourceWatch<Secret>[]
  readonly #listeners = new Set<(authority: SigningAuthority) => void>()
  #kept: KeptAuthority
  /** One Secret is looked at at a time, in the order they came. */
  #turn: Promise<void> = Promise.resolve()
  #cancelTimer: (() => void) | undefined
  #isClosed = false
  /** Of each Secret that stands refused, what ends the wait for the next look at it. */
  readonly #refused = new Map<CaSecretKind, () => void>()

  /** Begins with an authority that was loaded, and watches both Secrets from then on. */
  constructor(api: KubeApi, loaded: KeptAuthority, options: AuthoritySourceOptions) {
    this.#options = options
    this.#kept = loaded
    this.#watches = (['plugIn', 'selfMade'] as const).map((kind) => this.#watch(api, kind))
    this.#warnOfEnd()
  }

  get current(): SigningAuthority {
    return this.#kept.authority
  }

  onChange(listener: (authority: SigningAuthority) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all(this.#watches.map((watch) => watch.close()))
    await this.#turn
    this.#cancelTimer?.()
    for (const cancel of this.#refused.values()) cancel()
    this.#listeners.clear()
  }

  #watch(api: KubeApi, kind: CaSecretKind): ResourceWatch<Secret> {
    const { namespace, log } = this.#options
    const consider = (secret: Secret): void => this.#consider(kind, secret)
    return watchResource(api, SECRETS, {
      logger: log,
      namespace,
      fieldSelector: `metadata.name=${this.#options[kind]}`,
      added: consider,
      updated: (_previous, current) => consider(current),
      deleted: () => this.#onDeleted(kind),
    })
  }

  #consider(kind: CaSecretKind, secret: Secret): void {
    // Whatever comes next is newer than what was refused.
    this.#refused.get(kind)?.()
    this.#inTurn(() => this.#judge(kind, secret))
  }

  #inTurn(work: () => Promise<void> | void): void {
    this.#turn = this.#turn.then(work).catch((thrown: unknown) => {
      // A fault of ours; the next Secret has its turn all the same.
      this.#options.log.error({ error: thrown }, `cannot judge a Secret: ${errorMessage(thrown)}`)
    })
  }

  async #judge(kind: CaSecretKind, secret: Secret): Promise<void> {
    // The operator's own comes first; what lies beside it signs nothing.
    if (kind === 'selfMade' && this.#kept.kind === 'plugIn') return this.#forgive(kind)
    const now = new Date(this.#options.clock.now())
    const read = await readAuthority(kind, secret, this.#options, now)
    if (!read.ok) return this.#refuse(kind, secret, read.error)
    this.#forgive(kind)
    if (isSame(read.value, this.current)) return
    this.#adopt({ kind, authority: read.value })
    if (kind === 'plugIn') this.#forgive('selfMade')
  }

  #refuse(kind: CaSecretKind, secret: Secret, error: AmbitError): void {
    this.#options.log.error(
      { code: error.code, hint: error.hint, serving: subjectOf(this.current.issuerPem) },
      `${error.message}; the authority before it goes on`,
    )
    if (this.#isClosed) return
    this.#refused.get(kind)?.()
    const again = (): void => this.#consider(kind, secret)
    this.#refused.set(kind, this.#options.clock.after(LOOK_AT_REFUSED_MS, again))
    this.#options.onRefused?.(true)
  }

  /** The Secret no longer stands refused. */
  #forgive(kind: CaSecretKind): void {
    this.#refused.get(kind)?.()
    if (this.#refused.delete(kind)) this.#options.onRefused?.(this.#refused.size > 0)
  }

  #adopt(kept: KeptAuthority): void {
    const { log, namespace } = this.#options
    const before = this.current
    this.#kept = kept
    const { authority } = kept
    const about = {
      secret: `${namespace}/${this.#options[kept.kind]}`,
      issuer: subjectOf(authority.issuerPem),
      notAfter: authority.notAfter,
      roots: splitCertificates(authority.bundlePem).map(subjectOf),
    }
    log.info(about, 'the authority has changed')
    if (authority.issuerPem !== before.issuerPem && !overlaps(before, authority))
      log.warn(
        { ...about, before: subjectOf(before.issuerPem) },
        'the new authority and the one before it share no root: workloads are cut off from one another until all have certificates of the new one',
      )
    this.#warnOfEnd()
    for (const listener of this.#listeners) listener(authority)
  }

  #onDeleted(kind: CaSecretKind): void {
    // After what is being read of it.
    this.#inTurn(() => this.#forgive(kind))
    if (kind !== this.#kept.kind) return
    const secret = `${this.#options.namespace}/${this.#options[kind]}`
    this.#options.log.error(
      { code: 'AMB_CA_SECRET', secret },
      `Secret ${secret} was deleted; what it held goes on signing until this controller ends. Put it back before that`,
    )
  }

  #warnOfEnd(): void {
    const { clock, log, namespace } = this.#options
    const { notBefore, notAfter, issuerPem } = this.current
    const lifeMs = notAfter.getTime() - notBefore.getTime()
    if (notAfter.getTime() - clock.now() < lifeMs * LAST_PART_OF_LIFE)
      log.warn(
        {
          code: 'AMB_CA_EXPIRY',
          secret: `${namespace}/${this.#options[this.#kept.kind]}`,
          issuer: subjectOf(issuerPem),
          notAfter,
        },
        'the authority of the mesh ends soon; docs/operations.md says how to replace it without a pause',
      )
    this.#cancelTimer?.()
    this.#cancelTimer = clock.after(LOOK_AT_END_MS, () => this.#warnOfEnd())
  }
}

/** The key belongs to the certificate, so it need not be compared. */
function isSame(one: SigningAuthority, other: SigningAuthority): boolean {
  return (
    one.issuerPem === other.issuerPem &&
    one.chainPem === other.chainPem &&
    one.bundlePem === other.bundlePem
  )
}

/** Whether the new bundle still holds the root of the old issuer, and the old one that of the new issuer. */
function overlaps(before: SigningAuthority, after: SigningAuthority): boolean {
  const [rootBefore] = splitCertificates(before.bundlePem)
  const [rootAfter] = splitCertificates(after.bundlePem)
  return (
    rootBefore !== undefined &&
    rootAfter !== undefined &&
    splitCertificates(after.bundlePem).includes(rootBefore) &&
    splitCertificates(before.bundlePem).includes(rootAfter)
  )
}

function subjectOf(pem: string): string {
  // Typed as a string, but undefined for an empty subject.
  const { subject, serialNumber } = new X509Certificate(pem)
  return (subject as string | undefined)?.replaceAll('\n', ', ') ?? serialNumber
}
