/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes to messages of wire.proto and back. Connections, peers and the tree hand over checked
 * frames or log entries; frame.c gives the frame around what is packed here.
 *
 * protobuf-c takes what it unpacks from an arena: few calls of malloc a message, one call to free
 * it, and a maximum on what a hostile message can make us allocate.
 *
 * Invariants:
 *   1. The message lies right behind its arena, at the start of the first chunk: wire_free finds
 *      the arena by it.
 *   2. A message that is given out has a body in each oneof and known numbers in each enum field,
 *      at every depth.
 */
#include "common/wire.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/frame.h"
#include "common/limits.h"

#define ALIGNMENT 16u

/* A message takes more memory than bytes: an element of 6 bytes becomes a struct of 48, a pointer
 * and some bookkeeping. What needs more than this is made to hurt. */
#define ARENA_BYTES_MIN      ((size_t)256 * KIB)
#define ARENA_BYTES_PER_BYTE 32u

struct chunk {
    struct chunk *next;
    size_t room;
    size_t used;
    _Alignas(ALIGNMENT) uint8_t bytes[];
};

/* Lies at the start of its own first chunk. */
struct arena {
    struct chunk *newest;
    size_t bytes; /* of all chunks */
    size_t bytes_max;
    bool no_memory;
};

static size_t aligned(size_t len)
{
    return (len + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static struct arena *arena_new(size_t message_len)
{
    /* Enough for most messages: the structs around the bytes, and the bytes. */
    size_t room = aligned(2048 + message_len + message_len / 2);
    struct chunk *chunk = malloc(sizeof(*chunk) + room);
    struct arena *arena = NULL;

    if (chunk == NULL) {
        return NULL;
    }
    *chunk = (struct chunk){.room = room, .used = aligned(sizeof(*arena))};
    arena = (struct arena *)(void *)chunk->bytes;
    *arena = (struct arena){
        .newest = chunk,
        .bytes = room,
        .bytes_max = ARENA_BYTES_MIN + message_len * ARENA_BYTES_PER_BYTE,
    };
    return arena;
}

static void arena_free(struct arena *arena)
{
    struct chunk *chunk = arena->newest;

    while (chunk != NULL) {
        struct chunk *next = chunk->next;
        free(chunk); /* the last one holds the arena itself */
        chunk = next;
    }
}

/* A further chunk with room for `len` bytes; each doubles the arena, so there are few. */
static struct chunk *arena_grow(struct arena *arena, size_t len)
{
    size_t room = len > arena->bytes ? len : arena->bytes;
    struct chunk *chunk = NULL;

    if (len > arena->bytes_max - arena->bytes) {
        return NULL;
    }
    if (room > arena->bytes_max - arena->bytes) {
        room = arena->bytes_max - arena->bytes;
    }
    chunk = malloc(sizeof(*chunk) + room);
    if (chunk == NULL) {
        arena->no_memory = true;
        return NULL;
    }
    *chunk = (struct chunk){.next = arena->newest, .room = room};
    arena->newest = chunk;
    arena->bytes += room;
    return chunk;
}

static void *arena_take(void *arg, size_t len)
{
    struct arena *arena = arg;
    struct chunk *chunk = arena->newest;
    uint8_t *bytes = NULL;

    if (len > arena->bytes_max) {
        return NULL;
    }
    len = aligned(len != 0 ? len : 1);
    if (len > chunk->room - chunk->used) {
        chunk = arena_grow(arena, len);
        if (chunk == NULL) {
            return NULL;
        }
    }
    bytes = chunk->bytes + chunk->used;
    chunk->used += len;
    return bytes;
}

/* Memory goes back with the arena only. */
static void arena_give_back(void *arg, void *pointer)
{
    (void)arg;
    (void)pointer;
}

/* The arena that a message came from: invariant 1. */
static struct arena *arena_of(ProtobufCMessage *message)
{
    return (struct arena *)(void *)((uint8_t *)message - aligned(sizeof(struct arena)));
}

static bool enums_are_known(const ProtobufCFieldDescriptor *field, const uint8_t *base)
{
    const int32_t *value = (const int32_t *)(const void *)(base + field->offset);
    size_t count = 1;

    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        count = *(const size_t *)(const void *)(base + field->quantifier_offset);
        value = *(const int32_t *const *)(const void *)(base + field->offset);
    }
    for (size_t i = 0; i < count; i++) {
        if (protobuf_c_enum_descriptor_get_value(field->descriptor, value[i]) == NULL) {
            return false;
        }
    }
    return true;
}

/* The number of the field that is set in the oneof of this field; 0: none. */
static uint32_t oneof_case(const ProtobufCFieldDescriptor *field, const uint8_t *base)
{
    return *(const uint32_t *)(const void *)(base + field->quantifier_offset);
}

static bool message_is_valid(const ProtobufCMessage *message, bool strict);

static bool submessages_are_valid(const ProtobufCFieldDescriptor *field, const uint8_t *base,
                                  bool strict)
{
    const void *member = base + field->offset;

    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        const ProtobufCMessage *one = *(const ProtobufCMessage *const *)member;
        return one == NULL || message_is_valid(one, strict);
    }
    const ProtobufCMessage *const *all = *(const ProtobufCMessage *const *const *)member;
    size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
    for (size_t i = 0; i < count; i++) {
        if (!message_is_valid(all[i], strict)) {
            return false;
        }
    }
    return true;
}

/* Invariant 2, and with `strict` no unknown field. The types do not contain themselves, so the
 * depth is bounded. */
static bool message_is_valid(const ProtobufCMessage *message, bool strict)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    const uint8_t *base = (const uint8_t *)message;

    if (strict && message->n_unknown_fields != 0) {
        return false;
    }
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            uint32_t set = oneof_case(field, base);
            if (set == 0) {
                return false;
            }
            if (set != field->id) {
                continue; /* the member holds another field */
            }
        }
        if (field->type == PROTOBUF_C_TYPE_ENUM && !enums_are_known(field, base)) {
            return false;
        }
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && !submessages_are_valid(field, base, strict)) {
            return false;
        }
    }
    return true;
}

static enum err unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len,
                       bool strict, ProtobufCMessage **out)
{
    ProtobufCAllocator allocator = {.alloc = arena_take, .free = arena_give_back};
    struct arena *arena = NULL;
    ProtobufCMessage *message = NULL;
    static const uint8_t nothing;
    enum err err = ERR_OK;

    *out = NULL;
    if (len > FRAME_BYTES_MAX) {
        return ERR_MALFORMED;
    }
    arena = arena_new(len);
    if (arena == NULL) {
        return ERR_MEMORY;
    }
    allocator.allocator_data = arena;
    message = protobuf_c_message_unpack(type, &allocator, len, len != 0 ? bytes : &nothing);
    if (message == NULL) {
        err = arena->no_memory ? ERR_MEMORY : ERR_MALFORMED;
        goto out;
    }
    CHECK(arena_of(message) == arena);
    if (!message_is_valid(message, strict)) {
        err = ERR_MALFORMED;
        goto out;
    }
    *out = message;
    arena = NULL;

out:
    if (arena != NULL) {
        arena_free(arena);
    }
    return err;
}

enum err wire_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len,
                     ProtobufCMessage **out)
{
    return unpack(type, bytes, len, /* strict */ false, out);
}

enum err wire_unpack_strict(const ProtobufCMessageDescriptor *type, const uint8_t *bytes,
                            size_t len, ProtobufCMessage **out)
{
    return unpack(type, bytes, len, /* strict */ true, out);
}

void wire_free(ProtobufCMessage *message)
{
    if (message != NULL) {
        arena_free(arena_of(message));
    }
}

enum err wire_pack(const ProtobufCMessage *message, struct buffer *out)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *to = NULL;

    if (len > FRAME_BYTES_MAX ||
        (out->max != 0 && (out->len > out->max || len > out->max - out->len))) {
        return ERR_TOO_BIG;
    }
    to = buffer_reserve(out, len);
    if (to == NULL) {
        return ERR_MEMORY;
    }
    CHECK(protobuf_c_message_pack(message, to) == len);
    out->len += len;
    return ERR_OK;
}

enum err wire_frame(const ProtobufCMessage *message, const void *raw, size_t raw_len,
                    struct buffer *out)
{
    size_t len_before = out->len;
    size_t start = 0;
    enum err err = frame_begin(out, &start);

    if (err != ERR_OK) {
        goto out;
    }
    err = wire_pack(message, out);
    if (err != ERR_OK) {
        goto out;
    }
    err = buffer_append(out, raw, raw_len);
    if (err != ERR_OK) {
        goto out;
    }
    err = frame_end(out, start, raw_len);

out:
    if (err != ERR_OK) {
        out->len = len_before;
    }
    return err;
}
