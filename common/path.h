/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and paths of the tree. Names are bytes: 1..NAME_BYTES_MAX of them, without '/' and NUL,
 * not "." and "..". Paths are absolute: "/" or "/name/name", without a closing slash.
 */
#ifndef QUORUMFS_COMMON_PATH_H
#define QUORUMFS_COMMON_PATH_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* ERR_OK, ERR_BAD_NAME or ERR_NAME_TOO_LONG. */
enum err path_name_check(const uint8_t *name, size_t len);

/* ERR_OK, ERR_BAD_NAME or ERR_NAME_TOO_LONG, judged name by name. */
enum err path_check(const char *path, size_t len);

/* Walks the names of a checked path: the next name behind *offset; false at the end. */
int path_next(const char *path, size_t len, size_t *offset, const char **out_name,
              size_t *out_name_len);

/* Splits a checked path other than "/" into parent path length ("/a/b" -> 2; "/a" -> 1: "/") and
 * name. */
void path_split(const char *path, size_t len, size_t *out_parent_len, const char **out_name,
                size_t *out_name_len);

#endif
