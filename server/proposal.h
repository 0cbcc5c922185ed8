/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands that this replica admitted for its clients and that are not applied yet. They are
 * offered to the leader again after every change of leader or connection; the tree takes each only
 * once (CONSENSUS 20). Thread of the loop.
 */
#ifndef QUORUMFS_SERVER_PROPOSAL_H
#define QUORUMFS_SERVER_PROPOSAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"

struct client;
struct proposals;

enum proposal_kind {
    PROPOSAL_COMMAND = 1, /* a = session, b = sequence */
    PROPOSAL_OPEN = 2,    /* a, b = nonce: open and attach */
    PROPOSAL_CLOSE = 3,   /* a = session, b = epoch */
};

struct proposal_key {
    uint64_t kind;
    uint64_t a;
    uint64_t b;
};

struct proposal {
    struct proposal_key key;
    struct client *client;
    uint64_t call;       /* to answer */
    bool tell_me;        /* its client wants the events too */
    uint64_t sent_ms;    /* last offered to a leader; 0: not */
    struct buffer bytes; /* struct Command, packed */
};

struct proposals *proposals_new(void); /* NULL: no memory */
void proposals_free(struct proposals *proposals);

/* Takes over `proposal` with the content of its bytes (they are empty afterwards). A proposal with
 * the same key is replaced in place: its client asks again. ERR_MEMORY: nothing is taken. */
enum err proposals_add(struct proposals *proposals, struct proposal *proposal);

/* NULL: none. */
struct proposal *proposals_find(struct proposals *proposals, const struct proposal_key *key);

/* Removes and frees. */
void proposals_remove(struct proposals *proposals, struct proposal *proposal);

/* Removes all of a client that has gone, calls nothing. */
void proposals_drop_client(struct proposals *proposals, const struct client *client);

/* All are to be offered again, in order. */
void proposals_unsend(struct proposals *proposals);

/* Calls each() in order of admission for those that were not offered since `again_ms` ago, until
 * it returns false; the ones it took are marked as offered now. */
void proposals_offer(struct proposals *proposals, uint64_t now_ms, uint64_t again_ms,
                     bool (*each)(void *arg, const struct proposal *proposal), void *arg);

size_t proposals_count(const struct proposals *proposals);
size_t proposals_bytes(const struct proposals *proposals);

#endif
