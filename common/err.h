/* SPDX-License-Identifier: Apache-2.0
 *
 * One list of all errors of quorumfs: number, name, errno and text.
 *
 * The numbers cross the wire and lie in stored answers: they never change and are never used
 * again. ERR_OK is zero. The precise cause travels inside; errno appears only at the FUSE rim.
 */
#ifndef QUORUMFS_COMMON_ERR_H
#define QUORUMFS_COMMON_ERR_H

/* X(name, number, errno, text) */
#define ERR_TABLE(X)                                                                       \
    X(OK, 0, 0, "success")                                                                 \
    /* Machine and programs. */                                                            \
    X(MEMORY, 1, ENOMEM, "out of memory")                                                  \
    X(IO, 2, EIO, "input or output failed")                                                \
    X(CORRUPT, 3, EIO, "stored bytes are damaged")                                         \
    X(MALFORMED, 4, EIO, "malformed message")                                              \
    X(TOO_BIG, 5, EMSGSIZE, "larger than its limit")                                       \
    X(LIMIT, 6, EAGAIN, "a table or queue is full")                                        \
    X(BUSY, 7, EBUSY, "in use by another process")                                         \
    X(CONFIG, 8, EINVAL, "bad configuration")                                              \
    X(UNSUPPORTED, 9, ENOTSUP, "not supported")                                            \
    X(INVALID, 10, EINVAL, "invalid argument")                                             \
    X(NO_SPACE, 11, ENOSPC, "no space left on the device")                                 \
    X(INTERNAL, 12, EIO, "internal error")                                                 \
    /* Network and ensemble. */                                                            \
    X(CLOSED, 20, ENOTCONN, "the connection is closed")                                    \
    X(TIMEOUT, 21, ETIMEDOUT, "timed out; the outcome is unknown")                         \
    X(NO_LEADER, 22, EROFS, "the ensemble has no leader; nothing was changed")             \
    X(NOT_LEADER, 23, EROFS, "this replica is not the leader")                             \
    X(STRANGER, 24, EPERM, "the other side does not belong to this ensemble")              \
    X(PROTOCOL_VERSION, 25, EPROTO, "no protocol version in common")                       \
    X(CANCELED, 26, EINTR, "canceled")                                                     \
    X(NOT_READY, 27, EAGAIN, "the replica is not ready to serve")                          \
    X(MEMBER_NONE, 28, ENOENT, "no such member")                                           \
    X(MEMBER_USED, 29, EEXIST, "the id is or was a member's: take a higher one")           \
    X(MEMBERS_BUSY, 30, EAGAIN, "another change is under way: try again")                  \
    X(LAST_VOTER, 31, EINVAL, "the last voter cannot go")                                  \
    X(DISK_LOW, 32, ENOSPC, "the leader's disk is nearly full")                            \
    /* Sessions. */                                                                        \
    X(SESSION_EXPIRED, 40, EIO, "the session is unknown or has expired")                   \
    X(SESSION_MOVED, 41, EIO, "the session is attached elsewhere")                         \
    X(BAD_PASSWORD, 42, EPERM, "wrong session password")                                   \
    X(ANSWER_LOST, 43, EIO, "the answer to this old request is no longer kept")            \
    /* Tree. */                                                                            \
    X(NO_NODE, 60, ENOENT, "no such node")                                                 \
    X(EXISTS, 61, EEXIST, "the node exists")                                               \
    X(NOT_DIR, 62, ENOTDIR, "not a directory")                                             \
    X(IS_DIR, 63, EISDIR, "is a directory")                                                \
    X(NOT_EMPTY, 64, ENOTEMPTY, "the directory is not empty")                              \
    X(BAD_VERSION, 65, ESTALE, "the version is another")                                   \
    X(STALE, 66, ESTALE, "the node is gone")                                               \
    X(ACCESS, 67, EACCES, "permission denied")                                             \
    X(PERM, 68, EPERM, "operation not permitted")                                          \
    X(NAME_TOO_LONG, 69, ENAMETOOLONG, "name or path too long")                            \
    X(BAD_NAME, 70, EINVAL, "not a valid name")                                            \
    X(LOOP, 71, EINVAL, "a directory cannot move into itself")                             \
    X(FILE_TOO_BIG, 72, EFBIG, "larger than file_bytes_max")                               \
    X(QUOTA, 73, EDQUOT, "over quota")                                                     \
    X(CROSS_QUOTA, 74, EXDEV, "the rename crosses a quota root")                           \
    X(EPHEMERAL_CHILDREN, 75, EPERM, "ephemeral nodes have no children")                   \
    X(XATTR_NONE, 76, ENODATA, "no such attribute")                                        \
    X(TOO_MANY_LINKS, 77, EMLINK, "too many entries")                                      \
    X(STAGE_LOST, 78, EIO, "parts of a large write are missing")                           \
    X(XATTRS_FULL, 79, ENOSPC, "too many bytes in the attributes of the node")             \
    X(ROLLED_BACK, 80, ECANCELED, "undone, as another part of the transaction failed")     \
    X(NOT_TRIED, 81, ECANCELED, "not tried, as an earlier part of the transaction failed") \
    X(LOCKED, 82, EAGAIN, "locked by another owner")                                       \
    X(DEADLOCK, 83, EDEADLK, "the locks would wait for each other for ever")               \
    X(LOCKS_FULL, 84, ENOLCK, "too many locks of one session")

enum err {
#define ERR_ENUM(name, number, errno_value, text) ERR_##name = (number),
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

/* The errno for `err`, 0 for ERR_OK, EIO for a number that is not in the table. */
int err_errno(enum err err);

/* The short name ("NO_NODE") and the text; "UNKNOWN" for a number that is not in the table.
 * Static storage. */
const char *err_name(enum err err);
const char *err_text(enum err err);

/* The error for a number from the wire; ERR_INTERNAL if it is not in the table. */
enum err err_from_number(int number);

/* The error that fits an errno of a system call (ENOSPC, ENOMEM, ...); ERR_IO otherwise. */
enum err err_from_errno(int errno_value);

#endif
