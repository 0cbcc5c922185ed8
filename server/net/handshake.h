/* SPDX-License-Identifier: Apache-2.0
 *
 * The first two messages of a connection between replicas, the same in both directions: a hello
 * (who, with a nonce), then the proof of the shared key:
 *
 *     HMAC-SHA256(key, role byte of the sender, hello of the dialer, hello of the acceptor)
 *
 * with the hellos as packed. The nonces keep an old proof from being of use, the role byte keeps
 * one from being sent back. Not thread safe.
 */
#ifndef QUORUMFS_NET_HANDSHAKE_H
#define QUORUMFS_NET_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/frame.h"
#include "server/replica.h"

/* What is the same for all connections of a replica. */
struct handshake_self {
    const uint8_t *key;
    size_t key_len;
};

struct handshake {
    bool is_dialer;
    struct buffer own;   /* hellos as packed */
    struct buffer other; /* empty: not yet here */
    /* From the hello of the other side; believed only when handshake_take says done. */
    struct replica_hello said;
    bool is_bulk;
};

void handshake_done(struct handshake *handshake);

/* Appends the frame of our hello; is_bulk: a connection for a snapshot. ERR_MEMORY. */
enum err handshake_begin(struct handshake *handshake, const struct replica_hello *own,
                         bool is_dialer, bool is_bulk, struct buffer *out);

/* Takes a frame of the other side; appends our proof behind its hello. *out_done: it has proved
 * the key. ERR_MALFORMED, ERR_PROTOCOL_VERSION, ERR_STRANGER (wrong proof), ERR_MEMORY. */
enum err handshake_take(struct handshake *handshake, const struct handshake_self *self,
                        const struct frame *frame, struct buffer *out, bool *out_done);

#endif
