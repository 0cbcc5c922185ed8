/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and paths as text that a terminal and a script can bear.
 */
#ifndef QUORUMFS_COMMON_TEXT_H
#define QUORUMFS_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buffer.h"
#include "common/err.h"

/* Appends the bytes, with those as \xNN that are no UTF-8, control characters or a backslash;
 * `blanks_too`: also blanks, so that the text is one word. ERR_MEMORY. */
enum err text_escape(struct buffer *out, const void *bytes, size_t len, bool blanks_too);

/* Appends what was escaped: \xNN, and \n, \\ beside it. ERR_INVALID: another letter behind a
 * backslash; what stands before it has been appended. ERR_MEMORY, ERR_TOO_BIG. */
enum err text_unescape(struct buffer *out, const char *text, size_t len);

#endif
