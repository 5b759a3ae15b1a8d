// SPDX-License-Identifier: Apache-2.0
// Paths, exact and by prefix, in one radix trie: a lookup walks the request's path once, however many paths are in it.

/** What is held for a prefix, and the next shorter prefix of the same path, by segments. */
export interface Prefixed<Held> {
  readonly held: Held
  readonly shorter: Prefixed<Held> | undefined
}

/** What a path leads to: what is held for exactly it, and for its longest prefix. */
export interface PathFound<Held> {
  exact: Held | undefined
  prefix: Prefixed<Held> | undefined
}

interface Node<Held> {
  /** The characters between the node above and this one. */
  readonly label: string
  readonly exact: Held | undefined
  readonly prefix: Prefixed<Held> | undefined
  /** By the code of the first character of their labels. */
  readonly below: ReadonlyMap<number, Node<Held>>
}

const SLASH = 0x2f

export class PathTrie<Held> {
  readonly #root: Node<Held>
  /** What the last lookup found: kept, so that a lookup allocates nothing. */
  readonly #found: PathFound<Held> = { exact: undefined, prefix: undefined }

  /** @param prefixes Without trailing slashes, none empty: what is for all paths is kept elsewhere. */
  constructor(exact: ReadonlyMap<string, Held>, prefixes: ReadonlyMap<string, Held>) {
    const paths = [...new Set([...exact.keys(), ...prefixes.keys()])].sort()
    this.#root = makeNode(paths, 0, 0, undefined, { exact, prefixes })
  }

  /** Valid until the next lookup. Hot: once a request; the bench `router` watches it. */
  find(path: string): PathFound<Held> {
    const found = this.#found
    found.exact = undefined
    found.prefix = undefined
    let node: Node<Held> | undefined = this.#root
    let at = 0
    while (node !== undefined && path.startsWith(node.label, at)) {
      at += node.label.length
      const isWhole = at === path.length
      // Of segments: `/a` is no prefix of `/ab`.
      if (node.prefix !== undefined && (isWhole || path.charCodeAt(at) === SLASH))
        found.prefix = node.prefix
      if (isWhole) {
        found.exact = node.exact
        break
      }
      node = node.below.get(path.charCodeAt(at))
    }
    return found
  }
}

interface Contents<Held> {
  readonly exact: ReadonlyMap<string, Held>
  readonly prefixes: ReadonlyMap<string, Held>
}

/**
 * The node of paths that begin alike.
 * @param paths Sorted, none twice.
 * @param from Where the node above ends, in all of them.
 * @param to Up to where they are known to be alike.
 * @param above The longest prefix of the nodes above, whether or not it ends a segment here.
 */
function makeNode<Held>(
  paths: readonly string[],
  from: number,
  to: number,
  above: Prefixed<Held> | undefined,
  contents: Contents<Held>,
): Node<Held> {
  const first = paths[0] ?? ''
  const last = paths.at(-1) ?? ''
  // Sorted: what the first and the last share, all share.
  let end = to
  while (end < first.length && first.charCodeAt(end) === last.charCodeAt(end)) end += 1
  const path = first.slice(0, end)
  const isHeld = first.length === end
  const held = isHeld ? contents.prefixes.get(path) : undefined
  const prefix = held === undefined ? undefined : { held, shorter: above }
  const below = new Map<number, Node<Held>>()
  const rest = isHeld ? paths.slice(1) : paths
  for (let start = 0; start < rest.length; ) {
    const code = rest[start]?.charCodeAt(end) ?? 0
    let stop = start + 1
    while (stop < rest.length && rest[stop]?.charCodeAt(end) === code) stop += 1
    // A prefix reaches on to what continues it with a slash.
    const reaching = prefix !== undefined && code === SLASH ? prefix : above
    below.set(code, makeNode(rest.slice(start, stop), end, end + 1, reaching, contents))
    start = stop
  }
  return {
    label: path.slice(from),
    exact: isHeld ? contents.exact.get(path) : undefined,
    prefix,
    below,
  }
}
