/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames of the native protocol, between clients and replicas and between replicas.
 *
 *     offset 0  4 bytes  magic D1 'Q' 'F' 01 (the last is the frame format)
 *            4  be32     length of the message (protobuf)
 *            8  be32     length of the raw bytes behind it
 *           12  be32     zero
 *           16  be64     XXH3-64 over the first 16 bytes, the message and the raw bytes
 *           24           message, raw bytes
 *
 * No first byte of ZooKeeper's protocol (00), of a four-letter word (a-z) or of TLS (16) is D1.
 */
#ifndef QUORUMFS_COMMON_FRAME_H
#define QUORUMFS_COMMON_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"

#define FRAME_HEADER_BYTES 24u

/* One checked frame; points into the bytes that were parsed. */
struct frame {
    const uint8_t *message;
    size_t message_len;
    const uint8_t *raw;
    size_t raw_len;
    size_t total_len; /* header included: what to consume */
};

enum frame_state {
    FRAME_WHOLE,     /* *out is set */
    FRAME_PARTIAL,   /* more bytes are needed */
    FRAME_MALFORMED, /* magic, lengths (FRAME_BYTES_MAX, FRAME_RAW_BYTES_MAX) or checksum */
};

/* Looks at the start of `bytes`. A wrong magic or length is told as soon as it is there. */
enum frame_state frame_parse(const uint8_t *bytes, size_t len, struct frame *out);

/* Begins a frame at the end of `out`: reserves the header and returns its offset in *out_start.
 * The caller appends the message, then (maybe) raw bytes, and calls frame_end. */
enum err frame_begin(struct buffer *out, size_t *out_start);

/* Fills in the header of the frame begun at `start`; the last raw_len bytes are raw. ERR_TOO_BIG
 * when above the limits (the buffer is cut back to `start`). */
enum err frame_end(struct buffer *out, size_t start, size_t raw_len);

#endif
