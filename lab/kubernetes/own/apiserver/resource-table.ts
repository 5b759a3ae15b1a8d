// SPDX-License-Identifier: Apache-2.0
// Which resources the lab's own API server serves at the moment: built-in types, and those that CustomResourceDefinitions
// add.

import {
  BUILT_IN_TYPES,
  builtInType,
  resourceId,
  type ResourceType,
} from '../../objects/resource-types.ts'
import type { ResourceId } from '../../objects/cluster-api.ts'

/** Reviews: posted and answered at once, never stored. Kept apart, for discovery and routing. */
export const REVIEW_TYPES: readonly ResourceType[] = [
  builtInType('authentication.k8s.io', 'v1', 'TokenReview', { cluster: true }),
  builtInType('authentication.k8s.io', 'v1', 'SelfSubjectReview', { cluster: true }),
  builtInType('authorization.k8s.io', 'v1', 'SubjectAccessReview', { cluster: true }),
  builtInType('authorization.k8s.io', 'v1', 'SelfSubjectAccessReview', { cluster: true }),
  builtInType('authorization.k8s.io', 'v1', 'SelfSubjectRulesReview', { cluster: true }),
  builtInType('authorization.k8s.io', 'v1', 'LocalSubjectAccessReview'),
]

/** The served resources; custom ones come and go. */
export class ResourceTable {
  readonly #byId = new Map<ResourceId, ResourceType>()

  constructor() {
    for (const type of BUILT_IN_TYPES) this.#byId.set(type.id, type)
  }

  byId(id: ResourceId): ResourceType | undefined {
    return this.#byId.get(id)
  }

  /** The type behind /apis/GROUP/VERSION/PLURAL, if that version is served. */
  byPath(group: string, version: string, plural: string): ResourceType | undefined {
    const type = this.#byId.get(resourceId(group, plural))
    return type?.versions.some((one) => one.version === version) === true ? type : undefined
  }

  byKind(group: string, kind: string): ResourceType | undefined {
    return this.all().find((type) => type.group === group && type.kind === kind)
  }

  all(): readonly ResourceType[] {
    return [...this.#byId.values()]
  }

  add(type: ResourceType): void {
    this.#byId.set(type.id, type)
  }

  remove(id: ResourceId): void {
    this.#byId.delete(id)
  }
}
