// SPDX-License-Identifier: Apache-2.0
// The cluster as the checks see it, made once of its objects. Pure.

import type { TranslateConfig } from '../../controller/core/config.ts'
import { fieldsOf } from '../../controller/istio-api/flaw.ts'
import { type BackendTlsObjects, readBackendTls } from './backend-tls.ts'
import { type NetworkPolicies, readNetworkPolicies } from './network-policies.ts'
import { type Objects, refOf, textsOf } from './objects.ts'
import { type Policies, readPolicies } from './policies.ts'
import { readRoutes, type RouteObject } from './routes.ts'
import { readServices, type ServiceFacts } from './services.ts'
import { readWorkloads, selectedLabels, type WorkloadFacts } from './workloads.ts'

export interface World {
  readonly objects: Objects
  readonly config: TranslateConfig
  readonly now: Date
  /** Labels by name. */
  readonly namespaces: ReadonlyMap<string, ReadonlyMap<string, string>>
  /** `namespace/name`. */
  readonly accounts: ReadonlySet<string>
  readonly workloads: readonly WorkloadFacts[]
  readonly services: readonly ServiceFacts[]
  readonly policies: Policies
  readonly networkPolicies: NetworkPolicies
  readonly routes: readonly RouteObject[]
  readonly backendTls: BackendTlsObjects
  /** Whether there is an object of that name; undefined when nobody can tell. */
  readonly has: (
    kind: 'ConfigMap' | 'Gateway' | 'GatewayClass' | 'Service' | 'ServiceEntry',
    namespace: string,
    name: string,
  ) => boolean | undefined
  /** Calls in plaintext that agents have refused. */
  readonly refusedCallers: readonly RefusedCaller[]
}

/** Who was refused for want of an identity, and by which object. */
export interface RefusedCaller {
  readonly who: string
  readonly target: string
  readonly object: { readonly kind: string; readonly namespace: string; readonly name: string }
  readonly calls: number
  /** As the audit writes time. */
  readonly last: string
}

export interface WorldOptions {
  readonly rootNamespace: string
  readonly trustDomain: string
  readonly systemNamespace: string
  readonly now: Date
  readonly refusedCallers?: readonly RefusedCaller[]
}

/** Makes it. */
export function worldOf(objects: Objects, options: WorldOptions): World {
  const { rootNamespace, trustDomain, systemNamespace, now, refusedCallers = [] } = options
  const config = { rootNamespace, trustDomain, trustDomainAliases: [], network: '' }
  const namespaces = new Map(
    objects
      .of('Namespace')
      .map((each) => [refOf('Namespace', each).name, textsOf(fieldsOf(each.metadata)?.['labels'])]),
  )
  const networkPolicies = readNetworkPolicies(objects)
  const labelKeys = selectedLabels(objects).union(networkPolicies.labelKeys)
  const workloads = readWorkloads(objects, namespaces, systemNamespace, labelKeys)
  const names = new Map<string, ReadonlySet<string>>()
  const namesOf = (kind: Parameters<World['has']>[0]): ReadonlySet<string> => {
    let found = names.get(kind)
    if (found === undefined) {
      found = new Set(objects.of(kind).map((each) => nameKey(refOf(kind, each))))
      names.set(kind, found)
    }
    return found
  }
  return {
    objects,
    config,
    now,
    namespaces,
    accounts: new Set(
      objects.of('ServiceAccount').map((each) => nameKey(refOf('ServiceAccount', each))),
    ),
    workloads,
    services: readServices(objects, workloads),
    policies: readPolicies(objects, workloads, config),
    networkPolicies,
    routes: readRoutes(objects),
    backendTls: readBackendTls(objects),
    has: (kind, namespace, name) => {
      if (namesOf(kind).has(nameKey({ namespace, name }))) return true
      return objects.knows(kind, namespace) ? false : undefined
    },
    refusedCallers,
  }
}

const nameKey = ({
  namespace,
  name,
}: {
  readonly namespace: string
  readonly name: string
}): string => `${namespace}/${name}`
