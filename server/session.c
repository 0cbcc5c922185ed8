/* SPDX-License-Identifier: Apache-2.0
 *
 * Run-time state of the sessions. Handed touches by request.c and replica_peer.c, opens and closes
 * by replica.c; hands on nothing.
 *
 * Invariants:
 *   1. The table holds exactly the sessions of the tree at the applied index.
 *   2. touched_count is the number of sessions with `touched` set.
 */
#include "server/session.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/table.h"

#define BATCHES_MAX    64u
#define CLOSE_AGAIN_MS 1000u

struct session_row {
    struct session session;
    UT_hash_handle hh;
};

/* The sessions that one Touch named, with the ping that each had then. */
struct batch {
    uint64_t number; /* 0: free */
    size_t count;
    struct touched {
        uint64_t id;
        uint64_t attachment;
        uint64_t ping;
    } * touched;
};

struct sessions {
    struct session_row *rows;
    size_t touched_count;
    uint64_t last_batch;
    struct batch batch[BATCHES_MAX];
};

struct sessions *sessions_new(void)
{
    return calloc(1, sizeof(struct sessions));
}

static void batch_clear(struct batch *batch)
{
    free(batch->touched);
    *batch = (struct batch){0};
}

void sessions_free(struct sessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    struct session_row *row = NULL;
    struct session_row *next = NULL;
    HASH_ITER(hh, sessions->rows, row, next)
    {
        HASH_DEL(sessions->rows, row);
        free(row);
    }
    for (size_t i = 0; i < BATCHES_MAX; i++) {
        batch_clear(&sessions->batch[i]);
    }
    free(sessions);
}

static struct session_row *row_find(struct sessions *sessions, uint64_t id)
{
    struct session_row *row = NULL;
    HASH_FIND(hh, sessions->rows, &id, sizeof id, row);
    return row;
}

struct session *sessions_find(struct sessions *sessions, uint64_t id)
{
    struct session_row *row = row_find(sessions, id);
    return row != NULL ? &row->session : NULL;
}

enum err sessions_set(struct sessions *sessions, uint64_t id, uint64_t epoch, uint32_t timeout_ms,
                      uint64_t now_ms)
{
    struct session_row *row = row_find(sessions, id);
    if (row == NULL) {
        row = calloc(1, sizeof *row);
        if (row == NULL) {
            return ERR_MEMORY;
        }
        row->session.id = id;
        HASH_ADD(hh, sessions->rows, session.id, sizeof row->session.id, row);
        if (row->hh.tbl == NULL) {
            free(row);
            return ERR_MEMORY;
        }
    }
    row->session.epoch = epoch;
    row->session.timeout_ms = timeout_ms;
    row->session.deadline_ms = now_ms + timeout_ms;
    row->session.close_asked_ms = 0;
    return ERR_OK;
}

void sessions_remove(struct sessions *sessions, uint64_t id)
{
    struct session_row *row = row_find(sessions, id);
    if (row == NULL) {
        return;
    }
    if (row->session.touched) {
        sessions->touched_count--;
    }
    HASH_DEL(sessions->rows, row);
    free(row);
}

size_t sessions_count(const struct sessions *sessions)
{
    return HASH_COUNT(sessions->rows);
}

void session_touch(struct sessions *sessions, struct session *session)
{
    if (!session->touched) {
        session->touched = true;
        sessions->touched_count++;
    }
}

size_t sessions_take_batch(struct sessions *sessions, uint64_t *ids, size_t max,
                           uint64_t *out_batch)
{
    if (sessions->touched_count == 0) {
        return 0;
    }
    size_t wanted = sessions->touched_count < max ? sessions->touched_count : max;
    struct touched *touched = calloc(wanted, sizeof *touched);
    if (touched == NULL) {
        return 0; /* They stay touched: the next turn tries again. */
    }
    uint64_t number = ++sessions->last_batch;
    struct batch *batch = &sessions->batch[number % BATCHES_MAX];
    batch_clear(batch);
    size_t count = 0;
    for (struct session_row *row = sessions->rows; row != NULL && count < wanted;
         row = row->hh.next) {
        if (row->session.touched) {
            row->session.touched = false;
            sessions->touched_count--;
            touched[count] = (struct touched){.id = row->session.id,
                                              .attachment = row->session.attachment,
                                              .ping = row->session.ping};
            ids[count] = row->session.id;
            count++;
        }
    }
    CHECK_OP(count, ==, wanted);
    *batch = (struct batch){.number = number, .count = count, .touched = touched};
    *out_batch = number;
    return count;
}

void sessions_confirm_batch(struct sessions *sessions, uint64_t number,
                            void (*each)(void *arg, struct session *session, uint64_t ping),
                            void *arg)
{
    struct batch *batch = &sessions->batch[number % BATCHES_MAX];
    if (number == 0 || batch->number != number) {
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct session *session = sessions_find(sessions, batch->touched[i].id);
        if (session != NULL && session->client != NULL &&
            session->attachment == batch->touched[i].attachment) {
            each(arg, session, batch->touched[i].ping);
        }
    }
    batch_clear(batch);
}

bool sessions_extend(struct sessions *sessions, uint64_t id, uint64_t now_ms)
{
    struct session *session = sessions_find(sessions, id);
    if (session == NULL || session->close_asked_ms != 0) {
        return false;
    }
    session->deadline_ms = now_ms + session->timeout_ms;
    return true;
}

void sessions_extend_all(struct sessions *sessions, uint64_t now_ms)
{
    for (struct session_row *row = sessions->rows; row != NULL; row = row->hh.next) {
        row->session.deadline_ms = now_ms + row->session.timeout_ms;
        row->session.close_asked_ms = 0;
    }
}

void sessions_shift(struct sessions *sessions, uint64_t gap_ms)
{
    for (struct session_row *row = sessions->rows; row != NULL; row = row->hh.next) {
        row->session.deadline_ms += gap_ms;
    }
}

void sessions_expired(struct sessions *sessions, uint64_t now_ms,
                      bool (*each)(void *arg, struct session *session), void *arg)
{
    for (struct session_row *row = sessions->rows; row != NULL; row = row->hh.next) {
        struct session *session = &row->session;
        if (session->deadline_ms > now_ms) {
            continue;
        }
        if (session->close_asked_ms == 0 || now_ms - session->close_asked_ms >= CLOSE_AGAIN_MS) {
            session->close_asked_ms = each(arg, session) ? now_ms : session->close_asked_ms;
        }
    }
}
