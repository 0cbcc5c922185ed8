/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes between admission and apply. Handed commands by request.c; replica_peer.c offers them to
 * the leader; replica.c takes them out when their entry is applied.
 *
 * Invariants:
 *   1. The hash table keeps the order of admission (uthash iterates in order of insertion).
 *   2. unsent is true whenever some proposal has sent_ms 0: the common turn with nothing to offer
 *      looks at nothing else than the oldest proposal.
 */
#include "server/proposal.h"

#include <stdlib.h>

#include "common/check.h"
#include "common/table.h"

struct proposal_row {
    struct proposal proposal;
    UT_hash_handle hh;
};

struct proposals {
    struct proposal_row *rows;
    bool unsent;
    uint64_t looked_ms; /* when all were last looked at for their age */
};

struct proposals *proposals_new(void)
{
    return calloc(1, sizeof(struct proposals));
}

static void row_free(struct proposals *proposals, struct proposal_row *row)
{
    HASH_DEL(proposals->rows, row);
    buffer_done(&row->proposal.bytes);
    free(row);
}

void proposals_free(struct proposals *proposals)
{
    if (proposals == NULL) {
        return;
    }
    struct proposal_row *row = NULL;
    struct proposal_row *next = NULL;
    HASH_ITER(hh, proposals->rows, row, next)
    {
        row_free(proposals, row);
    }
    free(proposals);
}

static struct proposal_row *row_find(struct proposals *proposals, const struct proposal_key *key)
{
    struct proposal_row *row = NULL;
    HASH_FIND(hh, proposals->rows, key, sizeof *key, row);
    return row;
}

enum err proposals_add(struct proposals *proposals, const struct proposal_key *key,
                       struct client *client, uint64_t call, struct buffer *bytes)
{
    struct proposal_row *row = row_find(proposals, key);
    if (row == NULL) {
        row = calloc(1, sizeof *row);
        if (row == NULL) {
            return ERR_MEMORY;
        }
        row->proposal.key = *key;
        HASH_ADD(hh, proposals->rows, proposal.key, sizeof row->proposal.key, row);
        if (row->hh.tbl == NULL) {
            free(row);
            return ERR_MEMORY;
        }
    }
    buffer_done(&row->proposal.bytes);
    row->proposal.bytes = *bytes;
    *bytes = (struct buffer){0};
    row->proposal.client = client;
    row->proposal.call = call;
    row->proposal.sent_ms = 0;
    proposals->unsent = true;
    return ERR_OK;
}

struct proposal *proposals_find(struct proposals *proposals, const struct proposal_key *key)
{
    struct proposal_row *row = row_find(proposals, key);
    return row != NULL ? &row->proposal : NULL;
}

void proposals_remove(struct proposals *proposals, struct proposal *proposal)
{
    struct proposal_row *row = row_find(proposals, &proposal->key);
    CHECK(row != NULL && &row->proposal == proposal);
    row_free(proposals, row);
}

void proposals_drop_client(struct proposals *proposals, const struct client *client)
{
    struct proposal_row *row = NULL;
    struct proposal_row *next = NULL;
    HASH_ITER(hh, proposals->rows, row, next)
    {
        if (row->proposal.client == client) {
            row_free(proposals, row);
        }
    }
}

void proposals_unsend(struct proposals *proposals)
{
    for (struct proposal_row *row = proposals->rows; row != NULL; row = row->hh.next) {
        row->proposal.sent_ms = 0;
    }
    proposals->unsent = proposals->rows != NULL;
}

void proposals_offer(struct proposals *proposals, uint64_t now_ms, uint64_t again_ms,
                     bool (*each)(void *arg, const struct proposal *proposal), void *arg)
{
    if (!proposals->unsent && now_ms - proposals->looked_ms < again_ms) {
        return;
    }
    proposals->looked_ms = now_ms;
    proposals->unsent = false;
    for (struct proposal_row *row = proposals->rows; row != NULL; row = row->hh.next) {
        struct proposal *proposal = &row->proposal;
        if (proposal->sent_ms != 0 && now_ms - proposal->sent_ms < again_ms) {
            continue;
        }
        if (!each(arg, proposal)) {
            proposals->unsent = true;
            return;
        }
        proposal->sent_ms = now_ms;
    }
}

size_t proposals_count(const struct proposals *proposals)
{
    return HASH_COUNT(proposals->rows);
}
