// SPDX-License-Identifier: Apache-2.0
// What capture needs of the machine it runs on; whatever is missing is named, with the way to get it.

import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import {
  INGRESS_IFINDEX,
  type KernelFeature,
  missingFeatures,
  PREORDER,
  REQUIRED_FEATURES,
  SET_RETVAL,
} from '../../native/kernel-features.ts'
import { isBpfFs, isCgroup2 } from '../../native/libc.ts'
import { loadLibbpf } from '../../native/libbpf.ts'
import { NetnsThread } from '../../native/netns.ts'
import { toAmbitError } from './failure.ts'

export interface MachineNeeds {
  /** A directory of cgroup v2; its root on a real node. */
  readonly cgroupPath: string
  /** libbpf's file name, when it is not the system's. */
  readonly libbpf?: string
  /** What the kernel must be able to do; REQUIRED_FEATURES unless a test says otherwise. */
  readonly requiredFeatures?: readonly KernelFeature[]
  /** False: as if the kernel had no BPF_F_PREORDER. For tests. */
  readonly mayPreorder?: boolean
}

/** Asks whether agents could open capture on this machine, before any is started. */
export async function checkMachine(needs: MachineNeeds): Promise<Result<undefined, AmbitError>> {
  try {
    requireNode(needs)
    const thread = new NetnsThread()
    try {
      await requireKernel(needs, thread)
    } finally {
      await thread.close()
    }
    return ok(undefined)
  } catch (thrown) {
    return err(toAmbitError('open capture', thrown))
  }
}

/** Throws unless this process is root's, libbpf is there and the cgroup is one of v2. */
export function requireNode({ cgroupPath, libbpf }: MachineNeeds): void {
  if (process.geteuid?.() !== 0)
    throw new AmbitError('AMB_NOT_ROOT', 'Cannot open capture: this process does not run as root')
  loadLibbpf(libbpf)
  if (!isCgroup2(cgroupPath))
    throw new AmbitError(
      'AMB_CGROUP2_MISSING',
      `Cannot open capture: ${cgroupPath} is no directory of a cgroup v2 mount`,
    )
}

/**
 * Makes the directory where it is missing and would be on a BPF file system, for root alone: whoever opens a map there can change
 * what is captured. Throws where it would not.
 */
export function requireBpfFs(directory: string): void {
  const there = nearestThere(directory)
  if (!isBpfFs(there))
    throw new AmbitError(
      'AMB_BPFFS_MISSING',
      `Cannot open capture: ${directory} is not on a BPF file system${there === directory ? '' : `: ${there} is of another kind`}`,
    )
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (thrown) {
    throw new AmbitError(
      'AMB_BPFFS_MISSING',
      `Cannot open capture: cannot make ${directory}: ${errorMessage(thrown)}`,
      { cause: thrown },
    )
  }
}

function nearestThere(directory: string): string {
  let there = path.resolve(directory)
  while (!existsSync(there)) there = path.dirname(there)
  return there
}

/** What a kernel may have beyond the needed. */
export interface KernelExtras {
  readonly hasSetRetval: boolean
  readonly hasIngressIfindex: boolean
  readonly hasPreorder: boolean
}

/** Refuses a kernel that lacks something needed; gives which of the nice things it has. */
export async function requireKernel(
  { cgroupPath, requiredFeatures = REQUIRED_FEATURES }: MachineNeeds,
  thread: NetnsThread,
): Promise<KernelExtras> {
  const extras = [SET_RETVAL, INGRESS_IFINDEX, PREORDER]
  const missing = await missingFeatures(cgroupPath, thread, [...requiredFeatures, ...extras])
  const isMissing = (name: string): boolean => missing.some((feature) => feature.name === name)
  const needed = missing.filter(({ name }) => extras.every((extra) => extra.name !== name))
  if (needed.length > 0)
    throw new AmbitError(
      'AMB_KERNEL_FEATURE',
      `Cannot open capture: this kernel lacks ${needed
        .map(({ name, since, reason }) => `${name} (Linux ${since} has it; ${reason})`)
        .join(', ')}`,
    )
  return {
    hasSetRetval: !isMissing(SET_RETVAL.name),
    hasIngressIfindex: !isMissing(INGRESS_IFINDEX.name),
    hasPreorder: !isMissing(PREORDER.name),
  }
}
