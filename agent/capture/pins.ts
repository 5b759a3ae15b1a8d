// SPDX-License-Identifier: Apache-2.0
// Where things are pinned, below the agent's bpffs directory:
//   v6/maps/<map>   v6/links/<program>[@<id of a cgroup below>]   v6/pods/<uid>@<netns cookie in hex>  (the pod's sk_lookup link)
// The version changes when maps of an older agent can no longer be used, or programs of one version cannot serve an agent of the other: while
// an agent is succeeded, and after a version is rolled back, one works with the other's (test/capture/layout.test.ts holds it).

import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs'

export const PIN_VERSION = 'v6'
/** What a pod's pin is called; a cookie has 64 bits. */
const POD_PIN = /^(.+)@([0-9a-f]{1,16})$/

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

  /** Those of other layouts that are there, however much is left of them. */
  superseded(): readonly Pins[] {
    return readdirSync(this.#bpffsDir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .filter(({ name }) => /^v[0-9]+$/.test(name) && name !== PIN_VERSION)
      .map(({ name }) => new Pins(this.#bpffsDir, name))
  }

  /** Makes the directories; readable by root only, for whoever opens a map can change what is captured. */
  create(): void {
    for (const directory of [this.#root, this.maps, this.links, this.pods])
      mkdirSync(directory, { recursive: true, mode: 0o700 })
  }

  /** Removes the empty directories, those that are there. */
  remove(): void {
    for (const directory of [this.maps, this.links, this.pods, this.#root])
      if (existsSync(directory)) rmdirSync(directory)
  }

  /** The path of a cgroup link's pin. */
  link(name: string): string {
    return `${this.links}/${name}`
  }

  /** Names of the cgroup links, of this process and of earlier ones. */
  listLinks(): readonly string[] {
    return entriesOf(this.links)
  }

  /** The path of a pod's pin. bpffs refuses dots in names; a uid has none. */
  pod(uid: string, netnsCookie: bigint): string {
    return `${this.pods}/${uid}@${netnsCookie.toString(16)}`
  }

  /** The paths of a pod's pin in other layouts, whether it is there or not. */
  supersededPod(uid: string, netnsCookie: bigint): readonly string[] {
    return this.superseded().map((pins) => pins.pod(uid, netnsCookie))
  }

  /** Pins of pods, of this process and of earlier ones, of earlier layouts too. */
  listAllPods(): readonly PodPin[] {
    return [this, ...this.superseded()].flatMap((pins) => pins.listPods())
  }

  /** Pins of pods, of this process and of earlier ones. */
  listPods(): readonly PodPin[] {
    return entriesOf(this.pods).flatMap((name) => {
      const [, uid, cookie] = POD_PIN.exec(name) ?? []
      if (uid === undefined || cookie === undefined) return []
      return [{ uid, netnsCookie: BigInt(`0x${cookie}`), path: `${this.pods}/${name}` }]
    })
  }

  /**
   * Removes what lies among the pods' pins and is none by its name: no agent would ever take it off, and the directory could
   * not go. Gives the paths. Not of other layouts: a later one may have other names.
   */
  removeStrangers(): readonly string[] {
    const strangers = readdirSync(this.pods).filter((name) => !POD_PIN.test(name))
    const paths = strangers.map((name) => `${this.pods}/${name}`)
    for (const path of paths) rmSync(path, { recursive: true })
    return paths
  }
}

/** Names in a directory; none where it is gone: whoever removed a layout may have been stopped half-way. */
export function entriesOf(directory: string): readonly string[] {
  return existsSync(directory) ? readdirSync(directory) : []
}
