// SPDX-License-Identifier: Apache-2.0
// Writes a sysctl in a new network namespace, twice, and prints the former values. Run where /proc/sys is read-only.

import { closeFd } from '../../native/libc.ts'
import { NetnsThread } from '../../native/netns.ts'

const thread = new NetnsThread()
const fd = await thread.create()
const write = async (value: string): Promise<string | undefined> => {
  const [former] = await thread.writeSysctls(fd, [{ path: 'net/ipv4/ip_default_ttl', value }])
  return former?.value
}
console.log(JSON.stringify([await write('33'), await write('34')]))
closeFd(fd)
await thread.close()
