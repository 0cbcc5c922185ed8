/* SPDX-License-Identifier: Apache-2.0
 *
 * The error table of err.h as functions. Everybody calls them; they call nobody.
 *
 * Invariant: each number stands in one row only (tests/unit/test_common_err.c).
 */
#include "common/err.h"

#include <errno.h>
#include <stddef.h>

struct row {
    int number;
    int errno_value;
    const char *name;
    const char *text;
};

static const struct row rows[] = {
#define ERR_ROW(name, number, errno_value, text) {number, errno_value, #name, text},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

/* The row of a number, or NULL. */
static const struct row *find(int number)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].number == number) {
            return &rows[i];
        }
    }
    return NULL;
}

int err_errno(enum err err)
{
    const struct row *row = find((int)err);

    return row != NULL ? row->errno_value : EIO;
}

const char *err_name(enum err err)
{
    const struct row *row = find((int)err);

    return row != NULL ? row->name : "UNKNOWN";
}

const char *err_text(enum err err)
{
    const struct row *row = find((int)err);

    return row != NULL ? row->text : "UNKNOWN";
}

enum err err_from_number(int number)
{
    return find(number) != NULL ? (enum err)number : ERR_INTERNAL;
}

/* Not the table backwards: several errors share an errno, and EROFS of a disk, say, does not mean
 * that the ensemble has no leader. */
enum err err_from_errno(int errno_value)
{
    switch (errno_value) {
    case 0:
        return ERR_OK;
    case ENOMEM:
        return ERR_MEMORY;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        return ERR_LIMIT;
    case EBUSY:
        return ERR_BUSY;
    case EINVAL:
        return ERR_INVALID;
    case ENOTSUP:
    case ENOSYS:
        return ERR_UNSUPPORTED;
    case EMSGSIZE:
        return ERR_TOO_BIG;
    case ENOTCONN:
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
    case ECONNABORTED:
        return ERR_CLOSED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case EINTR:
    case ECANCELED:
        return ERR_CANCELED;
    case ENOENT:
        return ERR_NO_NODE;
    case EEXIST:
        return ERR_EXISTS;
    case ENOTDIR:
        return ERR_NOT_DIR;
    case EISDIR:
        return ERR_IS_DIR;
    case ENOTEMPTY:
        return ERR_NOT_EMPTY;
    case EACCES:
        return ERR_ACCESS;
    case EPERM:
        return ERR_PERM;
    case ENAMETOOLONG:
        return ERR_NAME_TOO_LONG;
    case EFBIG:
        return ERR_FILE_TOO_BIG;
    default:
        return ERR_IO;
    }
}
