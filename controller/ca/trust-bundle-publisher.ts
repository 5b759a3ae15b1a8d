// SPDX-License-Identifier: Apache-2.0
// Publishes the roots as a ClusterTrustBundle, where the server has that kind: whoever wants to trust the mesh mounts it by its signer's
// name, in any namespace, and no ConfigMap has to be there before its pod. Runs on the leader only, beside the ConfigMaps.

import { Backoff, type BackoffOptions, delay } from '../../mesh/async/backoff.ts'
import {
  CLUSTER_TRUST_BUNDLES,
  type ClusterTrustBundle,
  type KubeApi,
  type KubeFailure,
  type KubeResource,
  watchResource,
} from '../../mesh/kube/index.ts'
import { ROOT_LABEL, TRUST_BUNDLE_SIGNER } from '../../mesh/model/names.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { Authority } from './authority-source.ts'

/** A bundle of a signer begins with the signer's name, with colons in place of slashes. */
const NAME = `${TRUST_BUNDLE_SIGNER.replaceAll('/', ':')}:roots`
const LABELS = { [ROOT_LABEL]: 'published' }
const FIELD_MANAGER = 'ambit-controller'
const RETRIES = { firstMs: 1_000, longestMs: 150_000 }
/** Between writes: whoever writes it as well has no race that floods the API server. */
const PAUSE_MS = 1_000

export interface TrustBundleOptions {
  readonly authority: Authority
  readonly log: Logger
  /** Ends the publishing. */
  readonly signal: AbortSignal
  /** Tests have less patience. */
  readonly retries?: BackoffOptions
}

type Bundles = KubeResource<ClusterTrustBundle>

/**
 * Publishes until the signal aborts, and puts the bundle right when the roots change, or when somebody edits or deletes it. Resolves at once
 * where the server has no such kind. Where it lets the controller have none, as with the roles of an earlier version, that is said once, and
 * tried again.
 */
export async function publishTrustBundle(api: KubeApi, options: TrustBundleOptions): Promise<void> {
  const { log, signal } = options
  const backoff = new Backoff(options.retries ?? RETRIES)
  let complaint = ''
  while (!signal.aborted) {
    const served = await servedVersion(api, signal)
    if (served.ok) {
      if (served.value === undefined) return log.debug('the server has no ClusterTrustBundles')
      return await publish(api, served.value, options)
    }
    const reason = served.error.message
    if (!signal.aborted && reason !== complaint)
      log.warn({ reason }, 'cannot ask for ClusterTrustBundles; none is published until then')
    complaint = reason
    await delay(backoff.next(), signal)
  }
}

/** The first version of the kind that the server serves. */
async function servedVersion(
  api: KubeApi,
  signal: AbortSignal,
): Promise<Result<Bundles | undefined, KubeFailure>> {
  for (const version of CLUSTER_TRUST_BUNDLES) {
    const listed = await api.list(version, { fieldSelector: `metadata.name=${NAME}`, signal })
    if (listed.ok) return ok(version)
    if (listed.error.kind !== 'notFound') return err(listed.error)
  }
  return ok(undefined)
}

async function publish(api: KubeApi, version: Bundles, options: TrustBundleOptions): Promise<void> {
  const { authority, log, signal } = options
  const backoff = new Backoff(RETRIES)
  let changed = Promise.withResolvers<void>()
  const wakeUp = (): void => changed.resolve()
  const bundles = watchResource(api, version, {
    logger: log,
    signal,
    fieldSelector: `metadata.name=${NAME}`,
    keep: ({ metadata, spec }) => ({
      rootsPem: spec?.trustBundle,
      isMarked: metadata?.labels?.[ROOT_LABEL] === LABELS[ROOT_LABEL],
    }),
    updated: wakeUp,
    deleted: wakeUp,
    listed: wakeUp,
  })
  const unsubscribe = authority.onChange(wakeUp)
  signal.addEventListener('abort', wakeUp, { once: true })
  try {
    while (!signal.aborted) {
      changed = Promise.withResolvers()
      const wake = changed.promise
      const { bundlePem } = authority.current
      const found = bundles.get(NAME)
      const isRight = found?.isMarked === true && found.rootsPem === bundlePem
      if (!bundles.isSynced || isRight) {
        await wake
        continue
      }
      const failure = await write(api, version, bundlePem, signal)
      if (failure === undefined) {
        backoff.reset()
        await Promise.all([wake, delay(PAUSE_MS, signal)])
        continue
      }
      if (!signal.aborted)
        log.warn({ name: NAME, reason: failure.message }, 'cannot publish the ClusterTrustBundle')
      await Promise.race([wake, delay(backoff.next(), signal)])
    }
  } finally {
    unsubscribe()
    signal.removeEventListener('abort', wakeUp)
    await bundles.close()
  }
}

async function write(
  api: KubeApi,
  version: Bundles,
  trustBundle: string,
  signal: AbortSignal,
): Promise<KubeFailure | undefined> {
  const applied = await api.patch(
    version,
    { name: NAME },
    {
      apiVersion: `${version.group}/${version.version}`,
      kind: version.kind,
      metadata: { name: NAME, labels: LABELS },
      spec: { signerName: TRUST_BUNDLE_SIGNER, trustBundle },
    },
    { type: 'apply', fieldManager: FIELD_MANAGER, force: true, signal },
  )
  return applied.ok ? undefined : applied.error
}
