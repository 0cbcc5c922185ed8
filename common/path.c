/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and paths of the tree. The rims check what comes in with it, the tree walks with it.
 *
 * Invariant: path_next and path_split see only paths that path_check has let through; that they
 * rely on this is a CHECK.
 */
#include "common/path.h"

#include <string.h>

#include "common/check.h"
#include "common/limits.h"

enum err path_name_check(const uint8_t *name, size_t len)
{
    if (len == 0) {
        return ERR_BAD_NAME;
    }
    if (len > NAME_BYTES_MAX) {
        return ERR_NAME_TOO_LONG;
    }
    if (memchr(name, '/', len) != NULL || memchr(name, '\0', len) != NULL) {
        return ERR_BAD_NAME;
    }
    if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'))) {
        return ERR_BAD_NAME;
    }
    return ERR_OK;
}

/* Where the name that begins at `begin` ends. */
static size_t name_end(const char *path, size_t len, size_t begin)
{
    const char *slash = memchr(path + begin, '/', len - begin);

    return slash != NULL ? (size_t)(slash - path) : len;
}

enum err path_check(const char *path, size_t len)
{
    size_t begin = 1;

    if (len == 0 || path[0] != '/') {
        return ERR_BAD_NAME;
    }
    if (len > PATH_BYTES_MAX) {
        return ERR_NAME_TOO_LONG;
    }
    if (len == 1) {
        return ERR_OK;
    }
    /* `begin` may reach `len`: behind a closing slash stands an empty name, which is refused. */
    while (begin <= len) {
        size_t end = name_end(path, len, begin);
        enum err err = path_name_check((const uint8_t *)path + begin, end - begin);

        if (err != ERR_OK) {
            return err;
        }
        begin = end + 1;
    }
    return ERR_OK;
}

int path_next(const char *path, size_t len, size_t *offset, const char **out_name,
              size_t *out_name_len)
{
    size_t begin = *offset + 1;
    size_t end = 0;

    CHECK_OP(*offset, <=, len);
    if (begin >= len) {
        return 0;
    }
    CHECK(path[*offset] == '/');
    end = name_end(path, len, begin);
    *out_name = path + begin;
    *out_name_len = end - begin;
    *offset = end;
    return 1;
}

void path_split(const char *path, size_t len, size_t *out_parent_len, const char **out_name,
                size_t *out_name_len)
{
    const char *slash = memrchr(path, '/', len);
    size_t slash_at = 0;

    CHECK(slash != NULL && len > 1);
    slash_at = (size_t)(slash - path);
    CHECK_OP(slash_at + 1, <, len);
    *out_parent_len = slash_at != 0 ? slash_at : 1;
    *out_name = slash + 1;
    *out_name_len = len - slash_at - 1;
}
