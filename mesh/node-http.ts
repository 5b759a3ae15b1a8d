// SPDX-License-Identifier: Apache-2.0
// Node's module of HTTP for whoever runs long or starts often. An `import` of it reads every name that it exports, and one of those loads
// Node's whole client of fetch() and WebSocket: a tenth of what a small program's start costs, and megabytes that stay.

/** The same as `import http from 'node:http'`, without what that loads besides. */
export const http = process.getBuiltinModule('node:http')
