// SPDX-License-Identifier: Apache-2.0
// Reads from a cluster what is analysed. Whoever may not read a kind is told so, and has what can be said without it.

import { AmbitError } from '../../mesh/errors.ts'
import type { KubeApi, KubeFailure } from '../../mesh/kube/index.ts'
import { bundleOnly } from './backend-tls.ts'
import { ALL_KINDS, type AnalysedKind, KINDS, type Known, type RawObject } from './objects.ts'

export interface ReadKinds {
  readonly byKind: ReadonlyMap<AnalysedKind, readonly RawObject[]>
  readonly known: ReadonlyMap<AnalysedKind, Known>
  /** Why a kind was not read, or not outside of the namespace that was asked for. */
  readonly refused: ReadonlyMap<AnalysedKind, string>
}

/**
 * Reads all kinds; where only one namespace may be read, and it is the one that is asked for, that one. A kind that the cluster does not
 * have is one of which there is nothing. Throws AMB_KUBE_API where the server cannot be asked at all.
 */
export async function readCluster(api: KubeApi, namespace: string | undefined): Promise<ReadKinds> {
  const byKind = new Map<AnalysedKind, readonly RawObject[]>()
  const known = new Map<AnalysedKind, Known>()
  const refused = new Map<AnalysedKind, string>()
  await Promise.all(
    ALL_KINDS.map(async (kind) => {
      const all = await list(api, kind, undefined)
      if (all.ok || all.error.kind === 'notFound') {
        byKind.set(kind, all.ok ? all.value : [])
        known.set(kind, 'all')
        return
      }
      if (all.error.kind !== 'forbidden') throw new AmbitError('AMB_KUBE_API', all.error.message)
      refused.set(kind, all.error.message)
      if (namespace === undefined) return
      const some = await inNamespace(api, kind, namespace)
      if (some === undefined) return
      byKind.set(kind, some)
      known.set(kind, new Set([namespace]))
    }),
  )
  if (known.size === 0) {
    const [reason = ''] = refused.values()
    throw new AmbitError(
      'AMB_KUBE_API',
      `Cannot analyze the cluster: nothing may be read: ${reason}`,
    )
  }
  return { byKind, known, refused }
}

type Listed =
  | { readonly ok: true; readonly value: readonly RawObject[] }
  | { readonly ok: false; readonly error: KubeFailure }

async function list(
  api: KubeApi,
  kind: AnalysedKind,
  namespace: string | undefined,
): Promise<Listed> {
  const listed = await api.list(KINDS[kind], {
    ...(namespace === undefined ? {} : { namespace }),
    keep: (object): RawObject => (kind === 'ConfigMap' ? bundleOnly({ ...object }) : { ...object }),
  })
  return listed.ok ? { ok: true, value: listed.value.items } : listed
}

/** What of a kind is in one namespace; undefined where that may not be read, either. */
async function inNamespace(
  api: KubeApi,
  kind: AnalysedKind,
  namespace: string,
): Promise<readonly RawObject[] | undefined> {
  if (kind === 'Namespace') {
    const own = await api.get(KINDS[kind], { name: namespace })
    return own.ok ? [{ ...own.value }] : undefined
  }
  if (!KINDS[kind].namespaced) return undefined
  const listed = await list(api, kind, namespace)
  return listed.ok ? listed.value : undefined
}
