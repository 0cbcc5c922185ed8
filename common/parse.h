/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to numbers, sizes, times and addresses, with every bad input refused.
 */
#ifndef QUORUMFS_COMMON_PARSE_H
#define QUORUMFS_COMMON_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* Whole text is a decimal number in [min, max]; ERR_INVALID otherwise, *out unchanged. */
enum err parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* A number of bytes, perhaps with a suffix K, M or G (KiB, MiB, GiB). As parse_u64. */
enum err parse_bytes(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* An octal mode such as 0755 or 755. */
enum err parse_mode(const char *text, uint32_t *out);

/* "host:port", "[v6]:port", "host" (default_port), "unix:/path" (port 0, host = path).
 * `host` holds host_bytes bytes and receives a C string. ERR_INVALID for all else. */
enum err parse_address(const char *text, uint16_t default_port, char *host, size_t host_bytes,
                       uint16_t *out_port);

#endif
