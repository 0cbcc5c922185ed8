/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes from a connection, as they come and within a good frame (by chance no checksum would
 * fit): first the frame, then the messages that clients and replicas send, then the Raft entries
 * behind them.
 */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/frame.h"
#include "common/limits.h"
#include "common/wire.h"
#include "server/net/peer_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The entries of a Raft message: packed anew they give the same bytes. */
static void take_raft(const Wire__Raft *raft, const struct frame *frame)
{
    struct raft_message message;
    struct buffer packed = {0};
    struct frame again;

    if (peer_wire_unpack(raft, frame->raw, frame->raw_len, &message) != ERR_OK) {
        return;
    }
    CHECK_OP(message.entry_count, <=, APPEND_ENTRIES_MAX);
    CHECK(peer_wire_pack(&message, &packed) == ERR_OK);
    CHECK(frame_parse(packed.data, packed.len, &again) == FRAME_WHOLE);
    CHECK_OP(again.raw_len, ==, frame->raw_len);
    CHECK(again.raw_len == 0 || memcmp(again.raw, frame->raw, again.raw_len) == 0);
    buffer_done(&packed);
    peer_wire_free(&message);
}

static void take_messages(const struct frame *frame)
{
    ProtobufCMessage *message = NULL;
    const Wire__PeerMessage *peer = NULL;

    CHECK(frame->message_len <= FRAME_BYTES_MAX && frame->raw_len <= FRAME_RAW_BYTES_MAX);
    if (wire_unpack(&wire__to_replica__descriptor, frame->message, frame->message_len, &message) ==
        ERR_OK) {
        CHECK(((const Wire__ToReplica *)message)->body_case != WIRE__TO_REPLICA__BODY__NOT_SET);
        wire_free(message);
    }
    if (wire_unpack(&wire__peer_message__descriptor, frame->message, frame->message_len,
                    &message) != ERR_OK) {
        return;
    }
    peer = (const Wire__PeerMessage *)message;
    CHECK(peer->body_case != WIRE__PEER_MESSAGE__BODY__NOT_SET);
    if (peer->body_case == WIRE__PEER_MESSAGE__BODY_RAFT) {
        take_raft(peer->raft, frame);
    }
    wire_free(message);
}

/* The bytes as a stream: frame after frame. */
static void take_stream(const uint8_t *data, size_t size)
{
    struct frame frame;

    while (frame_parse(data, size, &frame) == FRAME_WHOLE) {
        CHECK(frame.total_len >= FRAME_HEADER_BYTES && frame.total_len <= size);
        take_messages(&frame);
        data += frame.total_len;
        size -= frame.total_len;
    }
}

/* The first two bytes tell where the raw bytes begin. */
static void take_framed(const uint8_t *data, size_t size)
{
    struct buffer bytes = {0};
    struct frame frame;
    size_t start = 0;
    size_t message_len = 0;

    if (size < 2) {
        return;
    }
    message_len = get_be16(data) % (size - 1);
    CHECK(frame_begin(&bytes, &start) == ERR_OK);
    CHECK(buffer_append(&bytes, data + 2, size - 2) == ERR_OK);
    CHECK(frame_end(&bytes, start, size - 2 - message_len) == ERR_OK);
    CHECK(frame_parse(bytes.data, bytes.len, &frame) == FRAME_WHOLE);
    CHECK_OP(frame.message_len, ==, message_len);
    CHECK(frame_parse(bytes.data, bytes.len - 1, &frame) == FRAME_PARTIAL);
    take_stream(bytes.data, bytes.len);
    buffer_done(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    take_stream(data, size);
    take_framed(data, size);
    return 0;
}
