// SPDX-License-Identifier: Apache-2.0
// URLRewrite: another path and host for the backend than the client asked for (Gateway API, HTTPURLRewriteFilter). The query stays.

import type { HttpFilter } from '../../mesh/model/http-routes.ts'
import { editPath, isWholeServer } from './edit-path.ts'

export type RewriteFilter = Extract<HttpFilter, { readonly kind: 'rewrite' }>

/** The path that goes on. */
export function rewritePath({ path: edit }: RewriteFilter, path: string, matched: string): string {
  return edit === undefined || isWholeServer(path) ? path : editPath(edit, path, matched)
}
