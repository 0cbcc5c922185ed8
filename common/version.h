/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of all programs; CHANGELOG.md says what is in it.
 */
#ifndef QUORUMFS_COMMON_VERSION_H
#define QUORUMFS_COMMON_VERSION_H

#define QUORUMFS_VERSION "0.1.0"

/* Levels of what replicas understand of each other (CONSENSUS 33): commands, rows, the digest. The
 * level of an ensemble lies in its tree and rises when all members know a higher one; it never
 * falls. Whatever needs a level asks for its name below, never for a number. */
#define FEATURE_BASE      1u /* an empty tree */
#define FEATURE_DIGESTS   2u /* replicas tell each other the digests of their states */
#define FEATURE_FILES     3u /* stored attributes, large files, transactions, locks */
#define FEATURE_LEVEL_MAX FEATURE_FILES

#endif
