/* SPDX-License-Identifier: Apache-2.0
 *
 * The only road between bytes and the messages of wire.proto; the only file that includes the
 * generated header. Generated structs are used as they are: a second set of the same structs
 * would stand twice.
 *
 * Everything an unpack function returns lies in one block; free it with wire_free. Any thread.
 */
#ifndef QUORUMFS_COMMON_WIRE_H
#define QUORUMFS_COMMON_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/wire.pb-c.h"

/* Unpacks. Unknown fields are tolerated. ERR_MALFORMED (also: no body in the oneof of an envelope,
 * an unknown enum number), ERR_MEMORY. */
enum err wire_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len,
                     ProtobufCMessage **out);

/* The same, but an unknown field at any depth is ERR_MALFORMED: for log entries (CONSENSUS 33). */
enum err wire_unpack_strict(const ProtobufCMessageDescriptor *type, const uint8_t *bytes,
                            size_t len, ProtobufCMessage **out);

/* Frees what wire_unpack gave; NULL is fine. */
void wire_free(ProtobufCMessage *message);

/* Appends the packed message to `out`. ERR_MEMORY, ERR_TOO_BIG leave it as it was. */
enum err wire_pack(const ProtobufCMessage *message, struct buffer *out);

/* Appends one whole frame with the message and raw_len raw bytes. */
enum err wire_frame(const ProtobufCMessage *message, const void *raw, size_t raw_len,
                    struct buffer *out);

/* A bytes field that points at memory of the caller (not copied, not freed by wire_free: only for
 * packing). */
static inline ProtobufCBinaryData wire_bytes(const void *data, size_t len)
{
    ProtobufCBinaryData bytes = {.len = len, .data = (uint8_t *)(uintptr_t)data};
    return bytes;
}

#endif
