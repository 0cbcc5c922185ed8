/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is at the other end of a connection between replicas. Used by peer_conn.c.
 */
#include "server/net/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "common/wire.h"

#define PEER_VERSION 1u
#define NONCE_BYTES  32u
#define PROOF_BYTES  32u

void handshake_done(struct handshake *handshake)
{
    buffer_done(&handshake->own);
    buffer_done(&handshake->other);
}

enum err handshake_begin(struct handshake *handshake, const struct replica_hello *own,
                         bool is_dialer, bool is_bulk, struct buffer *out)
{
    Wire__PeerHello hello = WIRE__PEER_HELLO__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    uint64_t members[MEMBERS_MAX];
    uint8_t nonce[NONCE_BYTES];
    enum err err = ERR_OK;

    memcpy(members, own->member, sizeof(members)); /* protobuf-c takes no const */
    if (RAND_bytes(nonce, sizeof(nonce)) != 1) {
        return ERR_IO;
    }
    hello.version = PEER_VERSION;
    hello.replica = own->id;
    hello.incarnation = own->incarnation;
    hello.members_index = own->members_index;
    hello.feature_level = own->feature_level;
    hello.address = wire_bytes(own->address, strlen(own->address));
    hello.n_members = own->member_count;
    hello.members = members;
    hello.nonce = wire_bytes(nonce, sizeof(nonce));
    hello.bulk = is_bulk;
    hello.ensemble = wire_bytes(own->ensemble, own->ensemble_len);
    message.body_case = WIRE__PEER_MESSAGE__BODY_HELLO;
    message.hello = &hello;
    *handshake = (struct handshake){.is_dialer = is_dialer};
    err = wire_pack(&message.base, &handshake->own);
    return err == ERR_OK ? wire_frame(&message.base, NULL, 0, out) : err;
}

/* The proof that a dialer or an acceptor has to give. */
static enum err prove(const struct handshake *handshake, const struct handshake_self *self,
                      bool by_dialer, uint8_t out[PROOF_BYTES])
{
    const struct buffer *dialer = handshake->is_dialer ? &handshake->own : &handshake->other;
    const struct buffer *acceptor = handshake->is_dialer ? &handshake->other : &handshake->own;
    struct buffer text = {0};
    unsigned int len = PROOF_BYTES;
    enum err err = buffer_append_u8(&text, by_dialer ? 'D' : 'A');

    err = err == ERR_OK ? buffer_append(&text, dialer->data, dialer->len) : err;
    err = err == ERR_OK ? buffer_append(&text, acceptor->data, acceptor->len) : err;
    if (err == ERR_OK &&
        HMAC(EVP_sha256(), self->key, (int)self->key_len, text.data, text.len, out, &len) == NULL) {
        err = ERR_MEMORY;
    }
    buffer_done(&text);
    return err;
}

static enum err take_hello(struct handshake *handshake, const struct handshake_self *self,
                           const Wire__PeerHello *hello, const struct frame *frame,
                           struct buffer *out)
{
    Wire__PeerProof proof = WIRE__PEER_PROOF__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    uint8_t hmac[PROOF_BYTES];
    enum err err = ERR_OK;

    if (handshake->other.len != 0 || hello->replica == 0 || hello->nonce.len != NONCE_BYTES ||
        (hello->ensemble.len != 0 && hello->ensemble.len != ENSEMBLE_ID_BYTES) ||
        hello->address.len > ADDRESS_BYTES_MAX || hello->n_members > MEMBERS_MAX) {
        return ERR_MALFORMED;
    }
    if (hello->version < PEER_VERSION) {
        return ERR_PROTOCOL_VERSION;
    }
    handshake->is_bulk = hello->bulk;
    handshake->said = (struct replica_hello){
        .id = hello->replica,
        .incarnation = hello->incarnation,
        .ensemble_len = hello->ensemble.len,
        .members_index = hello->members_index,
        .feature_level = hello->feature_level,
    };
    if (hello->ensemble.len != 0) {
        memcpy(handshake->said.ensemble, hello->ensemble.data, hello->ensemble.len);
    }
    handshake->said.member_count = hello->n_members;
    for (size_t i = 0; i < hello->n_members; i++) {
        handshake->said.member[i] = hello->members[i];
    }
    if (hello->address.len != 0) {
        memcpy(handshake->said.address, hello->address.data, hello->address.len);
    }
    err = buffer_append(&handshake->other, frame->message, frame->message_len);
    err = err == ERR_OK ? prove(handshake, self, handshake->is_dialer, hmac) : err;
    if (err != ERR_OK) {
        return err;
    }
    proof.hmac = wire_bytes(hmac, sizeof(hmac));
    message.body_case = WIRE__PEER_MESSAGE__BODY_PROOF;
    message.proof = &proof;
    return wire_frame(&message.base, NULL, 0, out);
}

static enum err take_proof(const struct handshake *handshake, const struct handshake_self *self,
                           const Wire__PeerProof *proof)
{
    uint8_t expected[PROOF_BYTES];
    enum err err = ERR_OK;

    if (handshake->other.len == 0 || proof->hmac.len != PROOF_BYTES) {
        return ERR_MALFORMED;
    }
    err = prove(handshake, self, !handshake->is_dialer, expected);
    if (err != ERR_OK) {
        return err;
    }
    return CRYPTO_memcmp(expected, proof->hmac.data, PROOF_BYTES) == 0 ? ERR_OK : ERR_STRANGER;
}

enum err handshake_take(struct handshake *handshake, const struct handshake_self *self,
                        const struct frame *frame, struct buffer *out, bool *out_done)
{
    ProtobufCMessage *unpacked = NULL;
    const Wire__PeerMessage *message = NULL;
    enum err err =
        wire_unpack(&wire__peer_message__descriptor, frame->message, frame->message_len, &unpacked);

    *out_done = false;
    if (err != ERR_OK) {
        return err;
    }
    message = (const Wire__PeerMessage *)unpacked;
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_HELLO) {
        err = take_hello(handshake, self, message->hello, frame, out);
    } else if (message->body_case == WIRE__PEER_MESSAGE__BODY_PROOF) {
        err = take_proof(handshake, self, message->proof);
        *out_done = err == ERR_OK;
    } else {
        err = ERR_MALFORMED;
    }
    wire_free(unpacked);
    return err;
}
