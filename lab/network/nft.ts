// SPDX-License-Identifier: Apache-2.0
// How the lab hands a ruleset to nft.

/**
 * A shell command that loads the ruleset on its stdin. nft 1.0.8 to 1.1.0 refuses to read a socket, which is what
 * Node gives a child as stdin; a pipe it reads.
 */
export const NFT_FROM_STDIN = 'cat | nft -f -'
