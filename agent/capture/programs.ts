// SPDX-License-Identifier: Apache-2.0
// The BPF programs and maps of this node: loaded once, attached to the cgroup, pinned, and replaced in place when an
// earlier agent left them.

import { closeSync, openSync, readdirSync, statSync } from 'node:fs'
import { AmbitError } from '../../mesh/errors.ts'
import type { BpfMap } from '../../native/bpf-map.ts'
import {
  attachCgroup,
  attachNetns,
  attachedPrograms,
  detachLink,
  linkInfo,
  openPinned,
  pin,
  unpin,
  updateLink,
} from '../../native/bpf-link.ts'
import { BpfObject, type LoadedProgram } from '../../native/bpf-object.ts'
import { NativeError } from '../../native/error.ts'
import { closeFd } from '../../native/libc.ts'
import {
  fillProgramText,
  loadProgram,
  type ProgramText,
  readProgramText,
} from '../../native/program-text.ts'
import { layoutDifferences, OWN_COOKIE, SEES_DEVICE } from './layout.ts'
import { requirePinned, unpinUnknown } from './pinned-maps.ts'
import type { Pins } from './pins.ts'

export const MAP_NAMES = [
  'pods',
  'listeners',
  'sockets',
  'pending',
  'pending_counts',
  'trusted',
  'asked_since',
  'kubelet_cgroups',
  'counters',
] as const

type MapName = (typeof MAP_NAMES)[number]

/** The program that is not attached as it was loaded: each namespace gets a copy of its own. */
const LOOKUP_PROGRAM = 'ambit_sk_lookup'
const LOOKUP_SECTION = 'sk_lookup'
// linux/bpf.h
const BPF_PROG_TYPE_SK_LOOKUP = 30
const BPF_SK_LOOKUP = 36
const CONNECT_PROGRAMS: readonly string[] = ['ambit_connect4', 'ambit_connect6']

/**
 * What makes our connect hooks run before a socket load balancer's, which would turn the service IP into a pod's:
 * `preordered`: the kernel was told so; `first`: nobody is attached before us; `below`: somebody is, so they are
 * attached to the cgroups below as well, whose programs run first.
 */
export type HookOrder = 'preordered' | 'first' | 'below'

export interface ProgramOptions {
  readonly objectPath: string
  readonly cgroupPath: string
  readonly pins: Pins
  /** The namespace the kubelet runs in: the agent's own, as both are on the host network. */
  readonly nodeNetnsCookie: bigint
  readonly hasSetRetval: boolean
  readonly hasIngressIfindex: boolean
  readonly hasPreorder: boolean
}

/** The node's programs, maps and cgroup links. Methods throw NativeError. */
export class CapturePrograms {
  readonly #object: BpfObject
  readonly #options: ProgramOptions
  readonly #cgroupLinks = new Map<string, number>()
  readonly #lookup: ProgramText
  readonly maps: Readonly<Record<MapName, BpfMap>>
  readonly #created: string[] = []
  #hookOrder: HookOrder

  /** Opens, checks the layout, loads, and attaches or takes over. Undoes its own work when a step fails. */
  static open(options: ProgramOptions): CapturePrograms {
    const object = BpfObject.open(options.objectPath)
    let hadMaps = true
    try {
      const differences = layoutDifferences(object.types)
      if (differences.length > 0)
        throw new AmbitError(
          'AMB_BPF_OBJECT',
          `Cannot use ${options.objectPath}: it was built from other structs: ${differences.join('; ')}`,
        )
      object.setConstants({
        node_netns_cookie: options.nodeNetnsCookie,
        has_set_retval: options.hasSetRetval ? 1n : 0n,
      })
      options.pins.create()
      hadMaps = readdirSync(options.pins.maps).length > 0
      const shapes = object.mapShapes(MAP_NAMES)
      requirePinned(options.pins, shapes)
      object.pinMaps(options.pins.maps, MAP_NAMES)
      object.load()
      const programs = new CapturePrograms(object, options)
      programs.#attachAll()
      unpinUnknown(options.pins, shapes)
      return programs
    } catch (thrown) {
      object.close()
      if (!hadMaps) removePins(options.pins)
      throw thrown
    }
  }

  private constructor(object: BpfObject, options: ProgramOptions) {
    this.#object = object
    this.#options = options
    this.#hookOrder = options.hasPreorder ? 'preordered' : 'first'
    this.maps = Object.fromEntries(MAP_NAMES.map((name) => [name, object.map(name)])) as Record<
      MapName,
      BpfMap
    >
    this.#lookup = readProgramText(options.objectPath, LOOKUP_SECTION)
  }

  /** How our connect hooks come to run before others'. */
  get hookOrder(): HookOrder {
    return this.#hookOrder
  }

  /** Whether another process has taken one of the programs off the cgroup that it was attached to; those below come and go. */
  get isDetached(): boolean {
    return [...this.#cgroupLinks].some(
      ([name, fd]) => !name.includes('@') && linkInfo(fd).cgroupId === 0n,
    )
  }

  /**
   * Loads a copy of sk_lookup, which cannot ask which namespace it runs in: its cookie is written into the text. Gives the
   * copy's fd, which the caller owns; a link keeps the copy without it.
   */
  loadLookup(netnsCookie: bigint): number {
    const code = fillProgramText(
      this.#lookup,
      (name) => (isMapName(name) ? this.maps[name].fd : undefined),
      [
        { placeholder: OWN_COOKIE, constant: netnsCookie },
        { placeholder: SEES_DEVICE, constant: this.#options.hasIngressIfindex ? 1n : 0n },
      ],
    )
    return loadProgram(LOOKUP_PROGRAM, BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, code)
  }

  /** Links a copy of sk_lookup to its namespace and pins the link, or takes over an earlier agent's. Gives the link's fd. */
  linkPod(program: number, netnsFd: number, pinPath: string): number {
    const existing = openPinned(pinPath)
    if (existing !== undefined) {
      if (linkInfo(existing).netnsInode !== 0) {
        updateLink(existing, program)
        return existing
      }
      detachLink(existing, pinPath)
    }
    const fd = attachNetns(program, netnsFd, BPF_SK_LOOKUP)
    try {
      pin(fd, pinPath)
    } catch (thrown) {
      closeFd(fd)
      throw thrown
    }
    return fd
  }

  /** Takes sk_lookup off a namespace by its pin alone (a pod of an earlier process). */
  unlinkPinned(pinPath: string): void {
    const fd = openPinned(pinPath)
    if (fd !== undefined) detachLink(fd, pinPath)
  }

  /** Closes this process's fds; pins keep everything running for a successor. */
  close(): void {
    for (const fd of this.#cgroupLinks.values()) closeFd(fd)
    this.#cgroupLinks.clear()
    this.#object.close()
  }

  /** Takes the programs off and removes all pins. Pods' links must be gone already. */
  remove(): void {
    for (const [name, fd] of this.#cgroupLinks) detachLink(fd, this.#options.pins.link(name))
    this.#cgroupLinks.clear()
    this.#object.close()
    removePins(this.#options.pins)
  }

  /** Undoes open(): what was attached anew goes, what an earlier process had attached stays. */
  abandon(): void {
    const hadPredecessor = this.#created.length < this.#cgroupLinks.size
    for (const [name, fd] of this.#cgroupLinks)
      if (this.#created.includes(name)) detachLink(fd, this.#options.pins.link(name))
      else closeFd(fd)
    this.#cgroupLinks.clear()
    this.#object.close()
    if (!hadPredecessor) removePins(this.#options.pins)
  }

  #attachAll(): void {
    const { cgroupPath } = this.#options
    const programs = this.#object.programs().filter(({ name }) => name !== LOOKUP_PROGRAM)
    try {
      for (const program of programs) this.#attach(program, cgroupPath, program.name)
      this.#comeFirst(programs.filter(({ name }) => CONNECT_PROGRAMS.includes(name)))
      this.#detachOthers()
    } catch (thrown) {
      this.abandon()
      throw thrown
    }
  }

  /** Where the kernel cannot preorder and another's connect hooks were there before ours: attach below as well. */
  #comeFirst(connectPrograms: readonly LoadedProgram[]): void {
    const { cgroupPath } = this.#options
    const isBehind =
      this.#hookOrder === 'first' &&
      connectPrograms.some((program) => this.#isBehindAnother(program, cgroupPath))
    if (isBehind) {
      for (const child of readdirSync(cgroupPath, { withFileTypes: true }))
        if (child.isDirectory()) this.#attachBelow(connectPrograms, `${cgroupPath}/${child.name}`)
      this.#hookOrder = 'below'
    }
  }

  /** An earlier agent's, of cgroups that are gone or from when they were needed, or of programs that only its version has. */
  #detachOthers(): void {
    const { pins } = this.#options
    for (const name of pins.listLinks())
      if (!this.#cgroupLinks.has(name)) {
        const fd = openPinned(pins.link(name))
        if (fd !== undefined) detachLink(fd, pins.link(name))
      }
  }

  #attachBelow(connectPrograms: readonly LoadedProgram[], path: string): void {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false })
    if (found === undefined) return // gone since it was listed
    for (const program of connectPrograms)
      this.#attach(program, path, `${program.name}@${found.ino}`)
  }

  #isBehindAnother({ name, attachType }: LoadedProgram, cgroupPath: string): boolean {
    const cgroupFd = openSync(cgroupPath, 'r')
    try {
      const ours = linkInfo(this.#cgroupLinks.get(name) ?? -1).programId
      return attachedPrograms(cgroupFd, attachType)[0] !== ours
    } finally {
      closeSync(cgroupFd)
    }
  }

  #attach(program: LoadedProgram, cgroupPath: string, pinName: string): void {
    const path = this.#options.pins.link(pinName)
    const cgroupId = cgroupIdOf(cgroupPath)
    const existing = openPinned(path)
    if (existing !== undefined) {
      if (linkInfo(existing).cgroupId === cgroupId) {
        updateLink(existing, program.fd)
        this.#cgroupLinks.set(pinName, existing)
        return
      }
      detachLink(existing, path) // of a cgroup that is gone, or of an agent configured otherwise
    }
    const cgroupFd = openSync(cgroupPath, 'r')
    try {
      const { hasPreorder } = this.#options
      const fd = attachCgroup(program.fd, cgroupFd, program.attachType, hasPreorder)
      this.#cgroupLinks.set(pinName, fd)
      this.#created.push(pinName)
      pin(fd, path)
      const info = linkInfo(fd)
      if (info.cgroupId !== cgroupId)
        throw new NativeError(
          'bpf_link_create',
          undefined,
          `${program.name} is attached to cgroup ${info.cgroupId}, not ${cgroupId}`,
        )
    } finally {
      closeSync(cgroupFd)
    }
  }
}

function isMapName(name: string): name is MapName {
  return (MAP_NAMES as readonly string[]).includes(name)
}

function cgroupIdOf(path: string): bigint {
  return statSync(path, { bigint: true }).ino
}

/** Removes what has no process's link on it any more: map pins and the directories. */
function removePins(pins: Pins): void {
  for (const name of readdirSync(pins.maps)) unpin(`${pins.maps}/${name}`)
  pins.remove()
}
