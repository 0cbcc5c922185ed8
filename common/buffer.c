/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing run of bytes: what connections read into and what messages are packed into.
 *
 * Invariants:
 *   1. len <= capacity, and len <= max where there is a maximum.
 *   2. data is NULL exactly while capacity is 0.
 *   3. A failing call leaves data, len and max as they were.
 */
#include "common/buffer.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* The first allocation: most messages fit, so that they cost one malloc. */
#define CAPACITY_MIN 256u

/* Whether `len` more bytes stay within the maximum. */
static bool has_room(const struct buffer *buffer, size_t len)
{
    size_t max = buffer->max != 0 ? buffer->max : SIZE_MAX / 4;

    return buffer->len <= max && len <= max - buffer->len;
}

/* Makes the capacity at least `needed`, doubling so that n appends cost O(n). */
static enum err grow(struct buffer *buffer, size_t needed)
{
    size_t capacity = buffer->capacity != 0 ? buffer->capacity : CAPACITY_MIN;
    uint8_t *data = NULL;

    CHECK(buffer->len <= buffer->capacity);
    if (needed <= buffer->capacity) {
        return ERR_OK;
    }
    while (capacity < needed) {
        capacity *= 2; /* has_room keeps `needed` far below SIZE_MAX / 2 */
    }
    data = realloc(buffer->data, capacity);
    if (data == NULL) {
        return ERR_MEMORY;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return ERR_OK;
}

void buffer_done(struct buffer *buffer)
{
    free(buffer->data);
    buffer->data = NULL;
    buffer->len = 0;
    buffer->capacity = 0;
}

void buffer_clear(struct buffer *buffer)
{
    buffer->len = 0;
}

enum err buffer_append(struct buffer *buffer, const void *bytes, size_t len)
{
    enum err err = ERR_OK;

    if (len == 0) {
        return ERR_OK; /* `bytes` may be NULL then, which memcpy must not see */
    }
    if (!has_room(buffer, len)) {
        return ERR_TOO_BIG;
    }
    err = grow(buffer, buffer->len + len);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(buffer->data + buffer->len, bytes, len);
    buffer->len += len;
    return ERR_OK;
}

enum err buffer_append_u8(struct buffer *buffer, uint8_t value)
{
    return buffer_append(buffer, &value, sizeof(value));
}

enum err buffer_append_be16(struct buffer *buffer, uint16_t value)
{
    uint8_t bytes[sizeof(value)];

    put_be16(bytes, value);
    return buffer_append(buffer, bytes, sizeof(bytes));
}

enum err buffer_append_be32(struct buffer *buffer, uint32_t value)
{
    uint8_t bytes[sizeof(value)];

    put_be32(bytes, value);
    return buffer_append(buffer, bytes, sizeof(bytes));
}

enum err buffer_append_be64(struct buffer *buffer, uint64_t value)
{
    uint8_t bytes[sizeof(value)];

    put_be64(bytes, value);
    return buffer_append(buffer, bytes, sizeof(bytes));
}

enum err buffer_printf(struct buffer *buffer, const char *format, ...)
{
    enum err err = ERR_OK;
    va_list arguments;
    int len = 0;

    va_start(arguments, format);
    len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (len < 0) {
        return ERR_INVALID;
    }
    if (!has_room(buffer, (size_t)len)) {
        return ERR_TOO_BIG;
    }
    err = grow(buffer, buffer->len + (size_t)len + 1); /* the closing NUL counts for no maximum */
    if (err != ERR_OK) {
        return err;
    }
    va_start(arguments, format);
    len = vsnprintf((char *)buffer->data + buffer->len, buffer->capacity - buffer->len, format,
                    arguments);
    va_end(arguments);
    CHECK(len >= 0 && (size_t)len < buffer->capacity - buffer->len);
    buffer->len += (size_t)len;
    return ERR_OK;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t len)
{
    /* One byte at least: the result of a reservation of nothing must not look like a failure. */
    size_t room = len != 0 ? len : 1;

    if (!has_room(buffer, len) || grow(buffer, buffer->len + room) != ERR_OK) {
        return NULL;
    }
    return buffer->data + buffer->len;
}

void buffer_consume(struct buffer *buffer, size_t len)
{
    CHECK_OP(len, <=, buffer->len);
    if (len != 0 && len < buffer->len) {
        memmove(buffer->data, buffer->data + len, buffer->len - len);
    }
    buffer->len -= len;
}
