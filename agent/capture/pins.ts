// SPDX-License-Identifier: Apache-2.0
// Where things are pinned, below the agent's bpffs directory:
//   v2/maps/<map>   v2/links/<program>[@<id of a cgroup below>]   v2/pods/<uid>@<netns cookie in hex>  (the pod's sk_lookup link)
// The version changes when maps of an older agent can no longer be used.

import { mkdirSync, readdirSync, rmdirSync } from 'node:fs'

const PIN_VERSION = 'v2'

/** A pod's pin, as its file name says. */
export interface PodPin {
  readonly uid: string
  readonly netnsCookie: bigint
  readonly path: string
}

/** Paths of the pins. */
export class Pins {
  readonly #bpffsDir: string
  readonly #root: string
  readonly maps: string
  readonly links: string
  readonly pods: string

  constructor(bpffsDir: string, version = PIN_VERSION) {
    this.#bpffsDir = bpffsDir
    this.#root = `${bpffsDir}/${version}`
    this.maps = `${this.#root}/maps`
    this.links = `${this.#root}/links`
    this.pods = `${this.#root}/pods`
  }

  /** Those of other layouts that are there. */
  superseded(): readonly Pins[] {
    return readdirSync(this.#bpffsDir)
      .filter((name) => /^v[0-9]+$/.test(name) && name !== PIN_VERSION)
      .map((version) => new Pins(this.#bpffsDir, version))
  }

  /** Makes the directories; readable by root only, for whoever opens a map can change what is captured. */
  create(): void {
    for (const directory of [this.#root, this.maps, this.links, this.pods])
      mkdirSync(directory, { recursive: true, mode: 0o700 })
  }

  /** Removes the empty directories. */
  remove(): void {
    for (const directory of [this.maps, this.links, this.pods, this.#root]) rmdirSync(directory)
  }

  /** The path of a cgroup link's pin. */
  link(name: string): string {
    return `${this.links}/${name}`
  }

  /** Names of the links on cgroups below the one attached to, of this process and of earlier ones. */
  listLinksBelow(): readonly string[] {
    return readdirSync(this.links).filter((name) => name.includes('@'))
  }

  /** The path of a pod's pin. bpffs refuses dots in names; a uid has none. */
  pod(uid: string, netnsCookie: bigint): string {
    return `${this.pods}/${uid}@${netnsCookie.toString(16)}`
  }

  /** Pins of pods, of this process and of earlier ones, of earlier layouts too. */
  listAllPods(): readonly PodPin[] {
    return [this, ...this.superseded()].flatMap((pins) => pins.listPods())
  }

  /** Pins of pods, of this process and of earlier ones. */
  listPods(): readonly PodPin[] {
    return readdirSync(this.pods).flatMap((name) => {
      const separator = name.lastIndexOf('@')
      if (separator < 1) return []
      const netnsCookie = BigInt(`0x${name.slice(separator + 1)}`)
      return [{ uid: name.slice(0, separator), netnsCookie, path: `${this.pods}/${name}` }]
    })
  }
}
