// SPDX-License-Identifier: Apache-2.0
// How a container comes to be, as a shell script: its own mount namespace with a private, writable layer over
// the host's file system, the pod's files and volumes in their places, then the command in the same process.
// Pure text; container.ts runs it.

import { dirname } from 'node:path'

export interface Mount {
  /** A path of the host without links in it. */
  readonly source: string
  readonly target: string
  readonly isReadOnly: boolean
  readonly isFile: boolean
}

export interface StartPlan extends ContainerUser {
  /** Where the container's root is put together; must exist, be empty, and belong to this container alone. */
  readonly rootDirectory: string
  /** cgroup v2 directory of the container: entered first, so that eBPF sees it from the first instruction. */
  readonly cgroup: string
  /** Path of the network namespace to run in. */
  readonly netns: string
  readonly hostname: string
  /** Mount points of the host that the container shall see, e.g. /proc and /sys. */
  readonly hostMounts: readonly string[]
  /** Content of files to lay over the host's: /etc/hosts and /etc/resolv.conf. */
  readonly overlaidFiles: ReadonlyMap<string, string>
  readonly mounts: readonly Mount[]
  readonly workingDirectory: string
  readonly command: readonly string[]
}

/** Who a container's processes are. */
export interface ContainerUser {
  readonly user: number | undefined
  readonly group: number | undefined
  /** Supplementary groups: fsGroup and supplementalGroups of the pod. */
  readonly groups: readonly number[]
}

/** Where the old root hangs for the moment of the switch. */
const OLD_ROOT = '.ambit-old-root'

/** Quotes a word for sh. */
export function shellQuote(word: string): string {
  return /^[\w./:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

/**
 * The script for `sh -eu`. It expects the container's output on fd 1, and on fd 2 a pipe to tell why it
 * could not start; the command gets fd 1 as its stderr. Every step replaces the process, so the
 * container's pid is the shell's.
 */
export function enterScript(plan: StartPlan, scriptFile: string): string {
  const enter = ['nsenter', `--net=${plan.netns}`, 'unshare', '--mount', '--uts']
  // Slave propagation: what the host unmounts later (another pod's namespace) must not live on in here.
  const argv = [...enter, '--propagation', 'slave', 'sh', '-eu', scriptFile]
  return [
    `echo 0 > ${shellQuote(`${plan.cgroup}/cgroup.procs`)}`,
    `exec ${argv.map(shellQuote).join(' ')}`,
  ].join('\n')
}

/** The second part, run inside the new mount namespace. */
export function rootScript(plan: StartPlan): string {
  const root = shellQuote(plan.rootDirectory)
  const lines = [
    `echo ${shellQuote(plan.hostname)} > /proc/sys/kernel/hostname`,
    `mount -t tmpfs -o mode=0755 ambit-lab ${root}`,
    `cd ${root}`,
    'mkdir upper work fs',
  ]
  for (const [path, content] of plan.overlaidFiles) {
    lines.push(
      `mkdir -p upper${shellQuote(dirname(path))}`,
      `cat > upper${shellQuote(path)} <<'AMBIT_END'\n${content.trimEnd()}\nAMBIT_END`,
    )
  }
  lines.push(
    'mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work ambit-lab fs',
    'cd fs',
    ...plan.hostMounts.map((path) => `mount --rbind ${shellQuote(path)} .${shellQuote(path)}`),
    `mkdir ${OLD_ROOT}`,
    `pivot_root . ${OLD_ROOT}`,
    // Only now: a target like /var/run/x leads through links, which must be followed in the new root.
    ...plan.mounts.flatMap(mountLines),
    `umount -l /${OLD_ROOT}`,
    `rmdir /${OLD_ROOT}`,
    `mkdir -p ${shellQuote(plan.workingDirectory)}`,
    `cd ${shellQuote(plan.workingDirectory)}`,
    `exec ${[...userSwitch(plan), ...plan.command].map(shellQuote).join(' ')} 2>&1`,
  )
  return `${lines.join('\n')}\n`
}

function mountLines(mount: Mount): readonly string[] {
  const target = shellQuote(mount.target)
  const make = mount.isFile
    ? `mkdir -p ${shellQuote(dirname(mount.target))}; [ -e ${target} ] || : > ${target}`
    : `mkdir -p ${target}`
  return [
    make,
    `mount --rbind ${shellQuote(`/${OLD_ROOT}${mount.source}`)} ${target}`,
    ...(mount.isReadOnly ? [`mount -o remount,bind,ro ${target}`] : []),
  ]
}

/** Words that make what follows them run as that user. */
export function userSwitch({ user, group, groups }: ContainerUser): readonly string[] {
  if (user === undefined && group === undefined && groups.length === 0) return []
  return [
    'setpriv',
    ...(user === undefined ? [] : [`--reuid=${user}`]),
    `--regid=${group ?? 0}`,
    groups.length === 0 ? '--clear-groups' : `--groups=${groups.join(',')}`,
    '--',
  ]
}
