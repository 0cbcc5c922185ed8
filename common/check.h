/* SPDX-License-Identifier: Apache-2.0
 *
 * CHECK: for what only a bug of ours can break. On in release builds. Data from outside is never
 * CHECKed but refused.
 */
#ifndef QUORUMFS_COMMON_CHECK_H
#define QUORUMFS_COMMON_CHECK_H

#include <stdint.h>

/* Writes one line with place and values to stderr and aborts. Any thread. */
_Noreturn void check_failed(const char *file, int line, const char *what, int64_t a, int64_t b);

#define CHECK(condition)                                        \
    do {                                                        \
        if (!(condition)) {                                     \
            check_failed(__FILE__, __LINE__, #condition, 0, 0); \
        }                                                       \
    } while (0)

/* Compares two integers and shows both when it fails. */
#define CHECK_OP(a, op, b)                                                                   \
    do {                                                                                     \
        if (!((a)op(b))) {                                                                   \
            check_failed(__FILE__, __LINE__, #a " " #op " " #b, (int64_t)(a), (int64_t)(b)); \
        }                                                                                    \
    } while (0)

#endif
