/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes between admission and apply. Handed commands by request.c; replica_peer.c offers them to
 * the leader; replica.c takes them out when their entry is applied.
 *
 * Invariants:
 *   1. The hash table keeps the order of admission (uthash iterates in order of insertion).
 *   2. All before unsent_from have been offered (NULL: all): a turn looks at the new ones only.
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
    struct proposal_row *unsent_from;
    size_t bytes;
    uint64_t looked_ms; /* when all were last looked at for their age */
};

struct proposals *proposals_new(void)
{
    return calloc(1, sizeof(struct proposals));
}

static void row_free(struct proposals *proposals, struct proposal_row *row)
{
    if (proposals->unsent_from == row) {
        proposals->unsent_from = row->hh.next;
    }
    proposals->bytes -= row->proposal.bytes.len;
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

enum err proposals_add(struct proposals *proposals, struct proposal *proposal)
{
    struct proposal_row *row = row_find(proposals, &proposal->key);
    bool is_new = row == NULL;
    if (is_new) {
        row = calloc(1, sizeof *row);
        if (row == NULL) {
            return ERR_MEMORY;
        }
        row->proposal.key = proposal->key;
        HASH_ADD(hh, proposals->rows, proposal.key, sizeof row->proposal.key, row);
        if (row->hh.tbl == NULL) {
            free(row);
            return ERR_MEMORY;
        }
    }
    proposals->bytes += proposal->bytes.len - row->proposal.bytes.len;
    buffer_done(&row->proposal.bytes);
    row->proposal = *proposal;
    row->proposal.sent_ms = 0;
    proposal->bytes = (struct buffer){0};
    if (!is_new) {
        proposals->unsent_from = proposals->rows; /* it stands somewhere among them */
    } else if (proposals->unsent_from == NULL) {
        proposals->unsent_from = row;
    }
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
    proposals->unsent_from = proposals->rows;
}

void proposals_offer(struct proposals *proposals, uint64_t now_ms, uint64_t again_ms,
                     bool (*each)(void *arg, const struct proposal *proposal), void *arg)
{
    struct proposal_row *row = proposals->unsent_from;
    if (now_ms - proposals->looked_ms >= again_ms) {
        proposals->looked_ms = now_ms;
        row = proposals->rows;
    }
    for (; row != NULL; row = row->hh.next) {
        struct proposal *proposal = &row->proposal;
        if (proposal->sent_ms != 0 && now_ms - proposal->sent_ms < again_ms) {
            continue;
        }
        if (!each(arg, proposal)) {
            break;
        }
        proposal->sent_ms = now_ms;
    }
    proposals->unsent_from = row;
}

size_t proposals_bytes(const struct proposals *proposals)
{
    return proposals->bytes;
}

size_t proposals_count(const struct proposals *proposals)
{
    return HASH_COUNT(proposals->rows);
}
