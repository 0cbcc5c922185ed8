/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a stream to checked frames and back. The connections of both programs hand their bytes
 * to frame_parse and its messages on to wire.c; wire.c begins and ends frames for them.
 *
 * Invariants:
 *   1. What frame_parse calls whole lies within the given bytes and within every limit, and its
 *      checksum is right.
 *   2. Lengths are judged before anything is computed from them, and as soon as they are there: a
 *      connection never waits for (or allocates) more than FRAME_BYTES_MAX.
 */
#include "common/frame.h"

#include <stdbool.h>
#include <string.h>

/* Compiled in: only so is the state a complete type that can lie on the stack, and a checksum
 * never fails for want of memory. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/check.h"
#include "common/limits.h"

enum offset {
    OFFSET_MAGIC = 0,
    OFFSET_MESSAGE_BYTES = 4,
    OFFSET_RAW_BYTES = 8,
    OFFSET_ZERO = 12,
    OFFSET_CHECKSUM = 16,
};

static const uint8_t magic[4] = {0xd1, 'Q', 'F', 0x01};

/* Whether a frame of these lengths may be. */
static bool lengths_are_allowed(size_t message_len, size_t raw_len)
{
    const size_t body_bytes_max = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;

    return message_len <= body_bytes_max && raw_len <= FRAME_RAW_BYTES_MAX &&
           raw_len <= body_bytes_max - message_len;
}

/* Over the header up to the checksum, and over the body behind it. */
static uint64_t checksum(const uint8_t *frame, size_t body_len)
{
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    CHECK(XXH3_64bits_reset(&state) == XXH_OK);
    CHECK(XXH3_64bits_update(&state, frame, OFFSET_CHECKSUM) == XXH_OK);
    CHECK(XXH3_64bits_update(&state, frame + FRAME_HEADER_BYTES, body_len) == XXH_OK);
    return XXH3_64bits_digest(&state);
}

/* Judges as much of the header as there is; sets the lengths when it is whole. */
static enum frame_state parse_header(const uint8_t *bytes, size_t len, size_t *out_message_len,
                                     size_t *out_raw_len)
{
    size_t magic_len = len < sizeof(magic) ? len : sizeof(magic);
    size_t message_len = 0;
    size_t raw_len = 0;

    if (magic_len != 0 && memcmp(bytes, magic, magic_len) != 0) {
        return FRAME_MALFORMED;
    }
    if (len >= OFFSET_RAW_BYTES) {
        message_len = get_be32(bytes + OFFSET_MESSAGE_BYTES);
    }
    if (len >= OFFSET_ZERO) {
        raw_len = get_be32(bytes + OFFSET_RAW_BYTES);
    }
    if (!lengths_are_allowed(message_len, raw_len)) {
        return FRAME_MALFORMED;
    }
    if (len >= OFFSET_CHECKSUM && get_be32(bytes + OFFSET_ZERO) != 0) {
        return FRAME_MALFORMED;
    }
    *out_message_len = message_len;
    *out_raw_len = raw_len;
    return len >= FRAME_HEADER_BYTES ? FRAME_WHOLE : FRAME_PARTIAL;
}

enum frame_state frame_parse(const uint8_t *bytes, size_t len, struct frame *out)
{
    size_t message_len = 0;
    size_t raw_len = 0;
    enum frame_state state = parse_header(bytes, len, &message_len, &raw_len);

    if (state != FRAME_WHOLE) {
        return state;
    }
    if (len - FRAME_HEADER_BYTES < message_len + raw_len) {
        return FRAME_PARTIAL;
    }
    if (checksum(bytes, message_len + raw_len) != get_be64(bytes + OFFSET_CHECKSUM)) {
        return FRAME_MALFORMED;
    }
    out->message = bytes + FRAME_HEADER_BYTES;
    out->message_len = message_len;
    out->raw = out->message + message_len;
    out->raw_len = raw_len;
    out->total_len = FRAME_HEADER_BYTES + message_len + raw_len;
    CHECK_OP(out->total_len, <=, len);
    return FRAME_WHOLE;
}

enum err frame_begin(struct buffer *out, size_t *out_start)
{
    static const uint8_t header[FRAME_HEADER_BYTES];
    size_t start = out->len;
    enum err err = buffer_append(out, header, sizeof(header));

    if (err != ERR_OK) {
        return err;
    }
    *out_start = start;
    return ERR_OK;
}

enum err frame_end(struct buffer *out, size_t start, size_t raw_len)
{
    uint8_t *frame = NULL;
    size_t body_len = 0;

    CHECK(out->len >= FRAME_HEADER_BYTES && start <= out->len - FRAME_HEADER_BYTES);
    frame = out->data + start;
    body_len = out->len - start - FRAME_HEADER_BYTES;
    CHECK_OP(raw_len, <=, body_len);
    if (!lengths_are_allowed(body_len - raw_len, raw_len)) {
        out->len = start;
        return ERR_TOO_BIG;
    }
    memcpy(frame + OFFSET_MAGIC, magic, sizeof(magic));
    put_be32(frame + OFFSET_MESSAGE_BYTES, (uint32_t)(body_len - raw_len));
    put_be32(frame + OFFSET_RAW_BYTES, (uint32_t)raw_len);
    put_be32(frame + OFFSET_ZERO, 0);
    put_be64(frame + OFFSET_CHECKSUM, checksum(frame, body_len));
    return ERR_OK;
}
