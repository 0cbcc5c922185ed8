/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes as lines: `ZXID EVENT PATH VERSION [NEW-PATH]`, and `ZXID gap FROM-TO` for what nobody knows
 * any more. Paths are one word each (text_escape). For quorumctl watch and `.quorumfs/events`.
 */
#ifndef QUORUMFS_CLIENT_WATCH_TEXT_H
#define QUORUMFS_CLIENT_WATCH_TEXT_H

#include "common/buffer.h"
#include "common/wire.h"

/* created, data, attr, removed, renamed, exchanged. */
const char *watch_text_event(const Wire__Change *change);

/* Appends a line, with paths as they are seen from the directory `root`: "/" is the directory itself,
 * "-" a path outside. ERR_MEMORY. */
enum err watch_text_change(const Wire__Change *change, const char *root, struct buffer *out);
enum err watch_text_gap(uint64_t from, uint64_t to, struct buffer *out);

#endif
