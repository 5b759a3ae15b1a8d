// SPDX-License-Identifier: Apache-2.0
// The BackendTLSPolicies of a cluster and the authorities that they may name, read as the controller reads them.

import {
  type BackendTlsPolicyFacts,
  readBackendTlsPolicy,
} from '../../controller/gateway-api/backend-tls-policy.ts'
import { CA_KEY, type CaBundleFacts, readCaBundle } from '../../controller/gateway-api/ca-bundle.ts'
import { fieldsOf } from '../../controller/istio-api/flaw.ts'
import { type ObjectRef, refName } from './finding.ts'
import { type Objects, type RawObject, refOf } from './objects.ts'

export interface BackendTlsObject extends ObjectRef {
  readonly facts: BackendTlsPolicyFacts
}

export interface BackendTlsObjects {
  readonly policies: readonly BackendTlsObject[]
  /** By `namespace/name`; ConfigMaps that have none are left out. */
  readonly bundles: ReadonlyMap<string, CaBundleFacts>
}

const ORIGIN = { cluster: '', clusterDomain: '' }

/** Reads them; bundles only where there are policies. */
export function readBackendTls(objects: Objects): BackendTlsObjects {
  const policies = objects.of('BackendTLSPolicy').flatMap((object) => {
    const { facts } = readBackendTlsPolicy(object, ORIGIN)
    return facts === undefined ? [] : [{ ...refOf('BackendTLSPolicy', object), facts }]
  })
  const maps = policies.length === 0 ? [] : objects.of('ConfigMap')
  const bundles = maps.flatMap((object) => {
    const metadata = refOf('ConfigMap', object)
    const { facts } = readCaBundle({ metadata, data: bundleIn(object) }, ORIGIN)
    return facts === undefined ? [] : [[refName(metadata), facts] as const]
  })
  return { policies, bundles: new Map(bundles) }
}

/** Of a ConfigMap all that is looked at: the rest may be large, and is somebody's own. */
export function bundleOnly(object: RawObject): RawObject {
  const { namespace, name } = refOf('ConfigMap', object)
  return { metadata: { namespace, name }, data: bundleIn(object) }
}

function bundleIn(object: RawObject): Record<string, string> {
  const text = fieldsOf(object['data'])?.[CA_KEY]
  return typeof text === 'string' ? { [CA_KEY]: text } : {}
}
