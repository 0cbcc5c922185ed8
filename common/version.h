/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of all programs; CHANGELOG.md says what is in it.
 */
#ifndef QUORUMFS_COMMON_VERSION_H
#define QUORUMFS_COMMON_VERSION_H

#define QUORUMFS_VERSION "0.1.0"

#endif
