// SPDX-License-Identifier: Apache-2.0
// The agent's side of the CNI plugin: installCni() puts it on the node, startCniServer() answers it.

export { installCni } from './installer.ts'
export type { CniInstallation } from './installer.ts'
export { MEMBERS_FILE } from './members-file.ts'
export { MembersKeeper } from './members-keeper.ts'
export type { CniPod } from './request.ts'
export { startCniServer } from './server.ts'
export type { CniHandlers } from './server.ts'
