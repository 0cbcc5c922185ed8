/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions: opened, attached and closed by log entries, and by nothing else. Handed operations by
 * tree_apply.c; hands the ephemeral nodes of an ended session to tree_dir.c,
 * its staged writes to tree_stage.c, its locks to tree_lock.c.
 *
 * Invariants:
 *   1. A session's id is the index of the entry that opened it: never used again.
 *   2. The epoch grows with every attach and with nothing else.
 *   3. Every session has one 'O' row, by which an open that is sent again finds it.
 */
#include <string.h>

#include "common/check.h"
#include "common/plant.h"
#include "server/tree/tree_internal.h"

#define SESSION_FORMAT 1u

enum session_offset {
    SESSION_VERSION_OF_FORMAT = 0,
    SESSION_EPOCH = 1,
    SESSION_TIMEOUT = 9,
    SESSION_PASSWORD = 13,
    SESSION_OPENED_BY = 29, /* nonce of the open entry */
    SESSION_NONCE = 45,     /* of the newest open or attach */
    SESSION_ROW_BYTES = 61,
};

struct session_row {
    uint64_t id;
    uint64_t epoch;
    uint32_t timeout_ms;
    uint8_t password[PASSWORD_BYTES];
    uint8_t opened_by[NONCE_BYTES];
    uint8_t nonce[NONCE_BYTES];
};

static void decode(const uint8_t *row, size_t len, uint64_t id, struct session_row *out)
{
    CHECK_OP(len, ==, SESSION_ROW_BYTES);
    CHECK_OP(row[SESSION_VERSION_OF_FORMAT], ==, SESSION_FORMAT);
    out->id = id;
    out->epoch = get_be64(row + SESSION_EPOCH);
    out->timeout_ms = get_be32(row + SESSION_TIMEOUT);
    memcpy(out->password, row + SESSION_PASSWORD, PASSWORD_BYTES);
    memcpy(out->opened_by, row + SESSION_OPENED_BY, NONCE_BYTES);
    memcpy(out->nonce, row + SESSION_NONCE, NONCE_BYTES);
}

static bool load(struct tree *tree, uint64_t id, struct session_row *out)
{
    struct row_key key = key_of_session(id);

    if (!row_get(tree, &key, &tree->value)) {
        return false;
    }
    decode(tree->value.data, tree->value.len, id, out);
    return true;
}

static void store(struct tree *tree, const struct session_row *session)
{
    struct row_key key = key_of_session(session->id);
    uint8_t row[SESSION_ROW_BYTES];

    row[SESSION_VERSION_OF_FORMAT] = SESSION_FORMAT;
    put_be64(row + SESSION_EPOCH, session->epoch);
    put_be32(row + SESSION_TIMEOUT, session->timeout_ms);
    memcpy(row + SESSION_PASSWORD, session->password, PASSWORD_BYTES);
    memcpy(row + SESSION_OPENED_BY, session->opened_by, NONCE_BYTES);
    memcpy(row + SESSION_NONCE, session->nonce, NONCE_BYTES);
    row_put(tree, &key, row, sizeof(row));
}

static void fill_in(const struct session_row *session, struct tree_result *out)
{
    out->session = session->id;
    out->epoch = session->epoch;
    out->timeout_ms = session->timeout_ms;
    memcpy(out->password, session->password, PASSWORD_BYTES);
}

static uint32_t allowed_timeout(uint32_t asked_ms)
{
    if (asked_ms == 0) {
        return SESSION_TIMEOUT_MS_DEFAULT;
    }
    if (asked_ms < SESSION_TIMEOUT_MS_MIN) {
        return SESSION_TIMEOUT_MS_MIN;
    }
    return asked_ms > SESSION_TIMEOUT_MS_MAX ? SESSION_TIMEOUT_MS_MAX : asked_ms;
}

enum err tree_session_open(struct apply *apply, const Wire__SessionOpenOp *op)
{
    struct tree *tree = apply->tree;
    struct row_key opened_by = key_of_nonce(op->nonce.data);
    struct session_row session = {
        .id = apply->zxid,
        .epoch = 1,
        .timeout_ms = allowed_timeout(op->timeout_ms),
    };
    uint8_t id[8];

    memcpy(apply->out->nonce, op->nonce.data, NONCE_BYTES);
    if (row_get(tree, &opened_by, &tree->value)) {
        CHECK_OP(tree->value.len, ==, sizeof(id));
        CHECK(load(tree, get_be64(tree->value.data), &session));
        fill_in(&session, apply->out);
        apply->out->zxid = session.id;
        apply->out->replayed = true;
        return ERR_OK;
    }
    if (tree->session_count >= SESSIONS_MAX) {
        return ERR_LIMIT;
    }
    memcpy(session.password, op->password.data, PASSWORD_BYTES);
    memcpy(session.opened_by, op->nonce.data, NONCE_BYTES);
    memcpy(session.nonce, op->nonce.data, NONCE_BYTES);
    store(tree, &session);
    put_be64(id, session.id);
    row_put(tree, &opened_by, id, sizeof(id));
    tree->session_count++;
    fill_in(&session, apply->out);
    apply->out->session_opened = true;
    return ERR_OK;
}

enum err tree_session_attach(struct apply *apply, const Wire__SessionAttachOp *op)
{
    struct tree *tree = apply->tree;
    struct session_row session;

    memcpy(apply->out->nonce, op->nonce.data, NONCE_BYTES);
    apply->out->session = op->session;
    if (!load(tree, op->session, &session)) {
        return ERR_SESSION_EXPIRED;
    }
    if (memcmp(session.password, op->password.data, PASSWORD_BYTES) != 0) {
        return ERR_BAD_PASSWORD;
    }
    if (memcmp(session.nonce, op->nonce.data, NONCE_BYTES) == 0) {
        apply->out->replayed = true; /* sent again: another epoch would throw out its own sender */
    } else {
        session.epoch++;
        memcpy(session.nonce, op->nonce.data, NONCE_BYTES);
        store(tree, &session);
        apply->out->session_attached = true;
    }
    fill_in(&session, apply->out);
    return ERR_OK;
}

static bool gather_ephemeral(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                             size_t value_len)
{
    (void)value;
    (void)value_len;
    CHECK_OP(key_len, ==, 17);
    CHECK(buffer_append(arg, key + 9, 8) == ERR_OK);
    return true;
}

enum err tree_session_close(struct apply *apply, const Wire__SessionCloseOp *op)
{
    struct tree *tree = apply->tree;
    struct row_key key = key_of_ephemeral(op->session, 0);
    struct buffer inos = {0};
    struct session_row session;

    apply->out->session = op->session;
    apply->out->epoch = op->epoch;
    apply->out->session_close = true;
    if (!load(tree, op->session, &session)) {
        return ERR_SESSION_EXPIRED;
    }
    if (PLANT(CLOSE_OLD_EPOCH, false, session.epoch != op->epoch)) {
        return ERR_SESSION_MOVED;
    }
    tree->kv.scan(tree->kv.context, key.bytes, key.len, 9, gather_ephemeral, &inos);
    for (size_t i = 0; i < PLANT(EPHEMERALS_STAY, 0, inos.len); i += 8) {
        /* One that lay below another one has gone with it. */
        tree_dir_drop_all(apply, get_be64(inos.data + i));
    }
    buffer_done(&inos);
    tree_answers_drop(tree, session.id);
    tree_stages_drop(tree, session.id);
    tree_locks_drop(apply, session.id);
    key = key_of_nonce(session.opened_by);
    row_remove(tree, &key);
    key = key_of_session(session.id);
    row_remove(tree, &key);
    CHECK(tree->session_count > 0);
    tree->session_count--;
    apply->out->session_closed = true;
    return ERR_OK;
}

bool tree_session_get(struct tree *tree, uint64_t id, struct tree_session *out)
{
    struct session_row session;

    if (!load(tree, id, &session)) {
        return false;
    }
    *out = (struct tree_session){
        .id = session.id, .epoch = session.epoch, .timeout_ms = session.timeout_ms};
    return true;
}

struct listing {
    void (*each)(void *arg, const struct tree_session *session);
    void *arg;
};

static bool list_one(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                     size_t value_len)
{
    const struct listing *listing = arg;
    struct session_row session;

    CHECK_OP(key_len, ==, 9);
    decode(value, value_len, get_be64(key + 1), &session);
    listing->each(listing->arg, &(struct tree_session){.id = session.id,
                                                       .epoch = session.epoch,
                                                       .timeout_ms = session.timeout_ms});
    return true;
}

void tree_sessions(struct tree *tree, void (*each)(void *arg, const struct tree_session *session),
                   void *arg)
{
    struct listing listing = {.each = each, .arg = arg};
    struct row_key key = key_of_session(0);

    tree->kv.scan(tree->kv.context, key.bytes, key.len, 1, list_one, &listing);
}
