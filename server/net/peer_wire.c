/* SPDX-License-Identifier: Apache-2.0
 *
 * Raft messages to frames and back. Handed messages by peers.c, which sends and receives them.
 */
#include "server/net/peer_wire.h"

#include <stdlib.h>
#include <string.h>

#include "common/frame.h"
#include "common/limits.h"

#define ENTRY_HEADER_BYTES (8u + 8u + 8u + 1u + 4u)

/* ---- packing ---- */

static enum err append_entry(struct buffer *out, const struct raft_entry *entry)
{
    enum err err = buffer_append_be64(out, entry->index);

    err = err == ERR_OK ? buffer_append_be64(out, entry->term) : err;
    err = err == ERR_OK ? buffer_append_be64(out, (uint64_t)entry->time_ns) : err;
    err = err == ERR_OK ? buffer_append_u8(out, entry->type) : err;
    err = err == ERR_OK ? buffer_append_be32(out, entry->len) : err;
    return err == ERR_OK ? buffer_append(out, entry->data, entry->len) : err;
}

enum err peer_wire_pack(const struct raft_message *message, struct buffer *out)
{
    Wire__Raft raft = WIRE__RAFT__INIT;
    Wire__PeerMessage peer_message = WIRE__PEER_MESSAGE__INIT;
    size_t start = 0;
    size_t raw_len = 0;
    enum err err = frame_begin(out, &start);

    if (err != ERR_OK) {
        return err;
    }
    raft.type = (uint32_t)message->type;
    raft.from = message->from;
    raft.to = message->to;
    raft.term = message->term;
    raft.log_index = message->log_index;
    raft.log_term = message->log_term;
    raft.commit = message->commit;
    raft.context = message->context;
    raft.hint_index = message->hint_index;
    raft.hint_term = message->hint_term;
    raft.reject = message->reject;
    raft.force = message->force;
    raft.entry_count = (uint32_t)message->entry_count;
    peer_message.body_case = WIRE__PEER_MESSAGE__BODY_RAFT;
    peer_message.raft = &raft;
    err = wire_pack(&peer_message.base, out);
    for (size_t i = 0; i < message->entry_count && err == ERR_OK; i++) {
        err = append_entry(out, message->entries[i]);
        raw_len += ENTRY_HEADER_BYTES + message->entries[i]->len;
    }
    if (err != ERR_OK) {
        out->len = start;
        return err;
    }
    return frame_end(out, start, raw_len);
}

/* ---- unpacking ---- */

/* The entry at the start of the bytes; NULL: malformed or no memory. */
static struct raft_entry *take_entry(const uint8_t *raw, size_t raw_len, size_t *out_taken,
                                     enum err *out_err)
{
    struct raft_entry *entry = NULL;
    size_t len = 0;

    *out_err = ERR_MALFORMED;
    if (raw_len < ENTRY_HEADER_BYTES) {
        return NULL;
    }
    len = get_be32(raw + 25);
    if (len > raw_len - ENTRY_HEADER_BYTES || len > COMMAND_BYTES_MAX) {
        return NULL;
    }
    *out_err = ERR_MEMORY;
    entry = raft_entry_new(raw[24], raw + ENTRY_HEADER_BYTES, len);
    if (entry != NULL) {
        entry->index = get_be64(raw);
        entry->term = get_be64(raw + 8);
        entry->time_ns = (int64_t)get_be64(raw + 16);
        *out_taken = ENTRY_HEADER_BYTES + len;
        *out_err = ERR_OK;
    }
    return entry;
}

static enum err take_entries(struct raft_message *out, size_t count, const uint8_t *raw,
                             size_t raw_len)
{
    enum err err = ERR_OK;

    if (count > APPEND_ENTRIES_MAX) {
        return ERR_MALFORMED;
    }
    if (count > 0) {
        out->entries = calloc(count, sizeof(struct raft_entry *));
        if (out->entries == NULL) {
            return ERR_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++) {
        size_t taken = 0;
        struct raft_entry *entry = take_entry(raw, raw_len, &taken, &err);

        if (entry == NULL) {
            return err;
        }
        out->entries[out->entry_count++] = entry;
        raw += taken;
        raw_len -= taken;
    }
    return raw_len == 0 ? ERR_OK : ERR_MALFORMED;
}

enum err peer_wire_unpack(const Wire__Raft *raft, const uint8_t *raw, size_t raw_len,
                          struct raft_message *out)
{
    enum err err = ERR_OK;

    if (raft->type < RAFT_MSG_PREVOTE || raft->type > RAFT_MSG_TRANSFER) {
        return ERR_MALFORMED;
    }
    *out = (struct raft_message){
        .type = (enum raft_message_type)raft->type,
        .from = raft->from,
        .to = raft->to,
        .term = raft->term,
        .log_index = raft->log_index,
        .log_term = raft->log_term,
        .commit = raft->commit,
        .context = raft->context,
        .hint_index = raft->hint_index,
        .hint_term = raft->hint_term,
        .reject = raft->reject,
        .force = raft->force,
    };
    err = take_entries(out, raft->entry_count, raw, raw_len);
    if (err != ERR_OK) {
        peer_wire_free(out);
    }
    return err;
}

void peer_wire_free(struct raft_message *message)
{
    for (size_t i = 0; i < message->entry_count; i++) {
        raft_entry_unref(message->entries[i]);
    }
    free(message->entries);
    message->entries = NULL;
    message->entry_count = 0;
}
