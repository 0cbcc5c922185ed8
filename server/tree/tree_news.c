/* SPDX-License-Identifier: Apache-2.0
 *
 * What is new in a packed command. Asked by tree_command.c while not all replicas know FEATURE_FILES.
 *
 * The unpacked command cannot tell: a field that was written with the value that it has without
 * being written is an unknown field to a replica that does not know it, and no field at all to one
 * that does. The two would part. So the bytes are looked at: a message is a run of fields, each a
 * number (varint of `field << 3 | wire type`) and a value.
 */
#include <string.h>

#include "server/tree/tree_internal.h"

enum wire_type {
    TYPE_VARINT = 0,
    TYPE_64_BITS = 1,
    TYPE_BYTES = 2,
    TYPE_32_BITS = 5,
};

/* Field numbers of wire.proto. */
enum field_number {
    COMMAND_OP = 6,
    OP_WRITE = 2,
    OP_SETATTR = 3,
    OP_STAGE = 11,
    WRITE_STAGE = 13,
    SETATTR_OF_DATA = 14,
};

struct run {
    const uint8_t *at;
    size_t len;
};

struct field {
    uint32_t number;
    struct run bytes; /* of a value of TYPE_BYTES, else empty */
};

static bool take_varint(struct run *run, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 70 && run->len > 0; shift += 7) {
        uint8_t byte = *run->at++;
        run->len--;
        if (shift < 64) {
            *out |= (uint64_t)(byte & 0x7fu) << shift;
        }
        if ((byte & 0x80u) == 0) {
            return true;
        }
    }
    return false;
}

static bool skip(struct run *run, uint64_t len)
{
    if (len > run->len) {
        return false;
    }
    run->at += len;
    run->len -= len;
    return true;
}

/* The next field; false at the end, and where the bytes are no message. */
static bool take_field(struct run *run, struct field *out)
{
    uint64_t value = 0;
    unsigned type = 0;

    *out = (struct field){.number = 0};
    if (!take_varint(run, &value)) {
        return false;
    }
    out->number = (uint32_t)(value >> 3);
    type = (unsigned)(value & 7u);
    if (type == TYPE_VARINT) {
        return take_varint(run, &value);
    }
    if (type == TYPE_64_BITS) {
        return skip(run, 8);
    }
    if (type == TYPE_32_BITS) {
        return skip(run, 4);
    }
    if (type != TYPE_BYTES || !take_varint(run, &value)) {
        return false;
    }
    out->bytes = (struct run){.at = run->at, .len = (size_t)value};
    return skip(run, value);
}

static bool has_field_from(struct run message, uint32_t number)
{
    struct field field;

    while (take_field(&message, &field)) {
        if (field.number >= number) {
            return true;
        }
    }
    return false;
}

static bool op_has_news(struct run op)
{
    struct field field;

    while (take_field(&op, &field)) {
        if (field.number >= OP_STAGE ||
            (field.number == OP_WRITE && has_field_from(field.bytes, WRITE_STAGE)) ||
            (field.number == OP_SETATTR && has_field_from(field.bytes, SETATTR_OF_DATA))) {
            return true;
        }
    }
    return false;
}

bool command_has_files_news(const uint8_t *bytes, size_t len)
{
    struct run command = {.at = bytes, .len = len};
    struct field field;

    while (take_field(&command, &field)) {
        if (field.number == COMMAND_OP && op_has_news(field.bytes)) {
            return true;
        }
    }
    return false;
}
