// SPDX-License-Identifier: Apache-2.0
// The values of an installation, kept in the cluster: an upgrade starts from them, and verify compares with them.

import { isDeepStrictEqual } from 'node:util'
import { isRecord } from '../../daemonset/render/functions.ts'
import type { Values } from '../../daemonset/render/values.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { CONFIG_MAPS, type ConfigMap, type KubeApi } from '../../mesh/kube/index.ts'
import { parseJson } from '../../mesh/json.ts'
import { kubeError } from '../cluster/kube-reads.ts'
import type { InstallObject } from './objects.ts'

/** Beside the mesh. Values hold no secrets: what is one is named by its Secret. */
const VALUES_CONFIG_MAP = 'ambit-values'

export interface StoredInstallation {
  readonly values: Values
  /** The namespace was not there before: it goes with the mesh. */
  readonly hasMadeNamespace: boolean
}

/** The object that keeps them. */
export function storedInstallation(namespace: string, stored: StoredInstallation): InstallObject {
  const object: ConfigMap = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace, name: VALUES_CONFIG_MAP },
    data: {
      values: JSON.stringify(stored.values, undefined, 2),
      madeNamespace: String(stored.hasMadeNamespace),
    },
  }
  return { ...valuesConfigMap(namespace), object }
}

/** Where they are kept. */
export function valuesConfigMap(namespace: string): Omit<InstallObject, 'object'> {
  return {
    resource: CONFIG_MAPS,
    target: { namespace, name: VALUES_CONFIG_MAP },
    title: `ConfigMap ${namespace}/${VALUES_CONFIG_MAP}`,
  }
}

/** Undefined where the command has installed nothing. */
export async function readInstallation(
  api: KubeApi,
  namespace: string,
): Promise<StoredInstallation | undefined> {
  const found = await api.get(CONFIG_MAPS, { namespace, name: VALUES_CONFIG_MAP })
  if (!found.ok) {
    if (found.error.kind === 'notFound') return undefined
    throw kubeError(found.error)
  }
  const { values, madeNamespace } = found.value.data ?? {}
  const read = parseJson(values ?? '')
  if (!read.ok || !isRecord(read.value))
    throw new AmbitError(
      'AMB_INSTALL',
      `Cannot read ConfigMap ${namespace}/${VALUES_CONFIG_MAP}: data.values is no JSON object; without it (kubectl delete configmap -n ${namespace} ${VALUES_CONFIG_MAP}) ambit install begins with the values of the chart`,
    )
  return { values: read.value, hasMadeNamespace: madeNamespace === 'true' }
}

/**
 * Throws AMB_INSTALL where an installation by other values is there: who installs again without them would take them back, the image's registry
 * first of all.
 */
export async function requireNoOther(
  api: KubeApi,
  namespace: string,
  values: Values,
): Promise<void> {
  const installed = await readInstallation(api, namespace)
  if (installed === undefined || isDeepStrictEqual(installed.values, asStored(values))) return
  throw new AmbitError(
    'AMB_INSTALL',
    `Ambit is installed in namespace ${namespace} by other values: ambit upgrade goes on from those, and with --reset-values begins with the chart's`,
  )
}

const asStored = (values: Values): unknown => JSON.parse(JSON.stringify(values)) as unknown
