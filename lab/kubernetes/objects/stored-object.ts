// SPDX-License-Identifier: Apache-2.0
// A Kubernetes object as a cluster holds it, with what every stored one has. (As it goes over the wire, where everything may
// be missing: mesh/kube/resources.ts.)

export type Json = null | boolean | number | string | readonly Json[] | JsonObject

export interface JsonObject {
  readonly [field: string]: Json | undefined
}

// Type aliases, not interfaces: only those are JSON to the compiler.

export type OwnerReference = {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean | undefined
  readonly blockOwnerDeletion?: boolean | undefined
}

export type StoredMeta = {
  readonly name: string
  readonly namespace?: string | undefined
  readonly generateName?: string | undefined
  readonly uid: string
  readonly resourceVersion: string
  readonly generation?: number | undefined
  readonly creationTimestamp: string
  readonly deletionTimestamp?: string | undefined
  readonly deletionGracePeriodSeconds?: number | undefined
  readonly labels?: { readonly [key: string]: string } | undefined
  readonly annotations?: { readonly [key: string]: string } | undefined
  readonly finalizers?: readonly string[] | undefined
  readonly ownerReferences?: readonly OwnerReference[] | undefined
  readonly managedFields?: readonly JsonObject[] | undefined
}

/** A stored object. Never mutated: a write replaces it, so references may be kept and compared. */
export type StoredObject = {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: StoredMeta
  readonly spec?: JsonObject | undefined
  readonly status?: JsonObject | undefined
  readonly [field: string]: unknown
}

/** What a writer hands in: the server fills uid, resourceVersion, timestamps and defaults. */
export interface KubeInput {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata?: { readonly [field: string]: unknown }
  readonly [field: string]: unknown
}
