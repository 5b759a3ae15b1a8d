// SPDX-License-Identifier: Apache-2.0
// How a command comes into a node, or into the network that nodes hang on.

import { type NODES } from './layout.ts'
import { nodeCgroups } from './cgroups.ts'
import { pidOf } from './state.ts'

/** Of what runs on a node beside its daemons and pods, as a login's shell would. */
const GROUP = 'user.slice'

/** Words that run what follows them in all namespaces of a node, in cgroups of it, with its programs on PATH. */
export function inNode(node: string): readonly string[] {
  const groups = nodeCgroups(node).map((cgroup) => `${cgroup}/${GROUP}`)
  const enter =
    'for group; do [ "$group" = -- ] && break; mkdir -p "$group"; echo 0 >"$group/cgroup.procs"; shift; done; shift; exec "$@"'
  const namespaces = ['-m', '-n', '-p', '-C', '-u', '-i', '-r', '-w']
  return [
    ...['sh', '-euc', enter, 'sh', ...groups, '--'],
    ...['nsenter', '-t', String(pidOf(node)), ...namespaces, '--'],
    ...['env', 'PATH=/opt/kubernetes:/opt/ambit-cluster:/usr/sbin:/usr/bin:/sbin:/bin'],
  ]
}

/** Words that run what follows them in the network of a node, or of the bridge between them. */
export function inNetworkOf(role: (typeof NODES)[number] | 'fabric'): readonly string[] {
  return ['nsenter', `--net=/proc/${pidOf(role)}/ns/net`]
}
