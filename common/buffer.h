/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing run of bytes with a maximum, and big-endian numbers in byte runs.
 *
 * A zeroed struct buffer is an empty one without a maximum of its own. Not thread safe.
 */
#ifndef QUORUMFS_COMMON_BUFFER_H
#define QUORUMFS_COMMON_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct buffer {
    uint8_t *data; /* owned, NULL while capacity is 0 */
    size_t len;
    size_t capacity;
    size_t max; /* 0 = no maximum; appending beyond it is ERR_TOO_BIG and changes nothing */
};

/* Frees the bytes; the struct is empty again and keeps its maximum. */
void buffer_done(struct buffer *buffer);

/* Keeps the memory, drops the content. */
void buffer_clear(struct buffer *buffer);

/* Appends. ERR_MEMORY or ERR_TOO_BIG leave the buffer as it was. */
enum err buffer_append(struct buffer *buffer, const void *bytes, size_t len);
enum err buffer_append_u8(struct buffer *buffer, uint8_t value);
enum err buffer_append_be16(struct buffer *buffer, uint16_t value);
enum err buffer_append_be32(struct buffer *buffer, uint32_t value);
enum err buffer_append_be64(struct buffer *buffer, uint64_t value);

/* printf to the end, without the closing NUL in len (but it is there: data is a C string). */
enum err buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes room for `len` more bytes behind buffer->len and returns where, or NULL (memory, max).
 * buffer->len is unchanged; add what was written to it. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t len);

/* Removes the first `len` (<= buffer->len) bytes. */
void buffer_consume(struct buffer *buffer, size_t len);

static inline void put_be16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

static inline void put_be32(uint8_t *to, uint32_t value)
{
    put_be16(to, (uint16_t)(value >> 16));
    put_be16(to + 2, (uint16_t)value);
}

static inline void put_be64(uint8_t *to, uint64_t value)
{
    put_be32(to, (uint32_t)(value >> 32));
    put_be32(to + 4, (uint32_t)value);
}

static inline uint16_t get_be16(const uint8_t *from)
{
    return (uint16_t)((uint16_t)(from[0] << 8) | from[1]);
}

static inline uint32_t get_be32(const uint8_t *from)
{
    return (uint32_t)get_be16(from) << 16 | get_be16(from + 2);
}

static inline uint64_t get_be64(const uint8_t *from)
{
    return (uint64_t)get_be32(from) << 32 | get_be32(from + 4);
}

#endif
