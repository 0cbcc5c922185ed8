/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of locks. Called by tree_lock.c; hands on to the kv.
 *
 * Invariants:
 *   1. Every 'L' row has one 'K' row, by which the end of a session finds it, and the other way round.
 *   2. The count of a session is the number of its 'K' rows; without any it has no row.
 */
#include "common/check.h"
#include "server/tree/tree_internal.h"

#define LOCK_FORMAT 1u

enum lock_offset {
    LOCK_VERSION_OF_FORMAT = 0,
    LOCK_TYPE = 1,
    LOCK_SESSION = 2,
    LOCK_OWNER = 10,
    LOCK_START = 18,
    LOCK_END = 26,
    LOCK_ZXID = 34,
    LOCK_PID = 42,
    LOCK_ROW_BYTES = 46,
};

/* Of a 'K' row's key. */
enum index_offset {
    INDEX_OWNER = 9,
    INDEX_STATE = 17,
    INDEX_SPACE = 18,
    INDEX_INO = 19,
    INDEX_START_OR_TICKET = 27,
    INDEX_BYTES = 35,
};

static void decode(const uint8_t *row, size_t len, struct tree_lock *out)
{
    CHECK_OP(len, ==, LOCK_ROW_BYTES);
    CHECK_OP(row[LOCK_VERSION_OF_FORMAT], ==, LOCK_FORMAT);
    *out = (struct tree_lock){
        .type = (enum lock_type)row[LOCK_TYPE],
        .session = get_be64(row + LOCK_SESSION),
        .owner = get_be64(row + LOCK_OWNER),
        .start = get_be64(row + LOCK_START),
        .end = get_be64(row + LOCK_END),
        .zxid = get_be64(row + LOCK_ZXID),
        .pid = get_be32(row + LOCK_PID),
    };
}

static struct row_key key_of_owner(struct lock_set set, uint64_t session, uint64_t owner)
{
    struct row_key key = key_of_locks(set.ino, (uint8_t)set.space, LOCK_HELD);

    key_append_be64(&key, session);
    key_append_be64(&key, owner);
    return key;
}

static struct row_key key_of_lock(struct lock_set set, enum lock_state state,
                                  const struct tree_lock *lock)
{
    struct row_key key;

    if (state == LOCK_HELD) {
        key = key_of_owner(set, lock->session, lock->owner);
        key_append_be64(&key, lock->start);
    } else {
        key = key_of_locks(set.ino, (uint8_t)set.space, LOCK_WAITS);
        key_append_be64(&key, lock->zxid);
    }
    return key;
}

static struct row_key key_of_index(struct lock_set set, enum lock_state state,
                                   const struct tree_lock *lock)
{
    struct row_key key = key_of_session_locks(lock->session);

    key_append_be64(&key, lock->owner);
    CHECK_OP(key.len, ==, INDEX_STATE);
    key.bytes[key.len++] = (uint8_t)state;
    key.bytes[key.len++] = (uint8_t)set.space;
    key_append_be64(&key, set.ino);
    key_append_be64(&key, state == LOCK_HELD ? lock->start : lock->zxid);
    CHECK_OP(key.len, ==, INDEX_BYTES);
    return key;
}

struct visit {
    lock_fn *each;
    void *arg;
};

static bool visit_lock(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                       size_t value_len)
{
    const struct visit *visit = arg;
    struct tree_lock lock;

    (void)key;
    (void)key_len;
    decode(value, value_len, &lock);
    return visit->each(visit->arg, &lock);
}

void lock_each(struct tree *tree, struct lock_set set, enum lock_state state, lock_fn *each,
               void *arg)
{
    struct row_key key = key_of_locks(set.ino, (uint8_t)set.space, (uint8_t)state);
    struct visit visit = {.each = each, .arg = arg};

    tree->kv.scan(tree->kv.context, key.bytes, key.len, key.len, visit_lock, &visit);
}

void lock_each_of_owner(struct tree *tree, struct lock_set set, const struct tree_lock *owner,
                        lock_fn *each, void *arg)
{
    struct row_key key = key_of_owner(set, owner->session, owner->owner);
    struct visit visit = {.each = each, .arg = arg};

    tree->kv.scan(tree->kv.context, key.bytes, key.len, key.len, visit_lock, &visit);
}

struct visit_index {
    lock_of_session_fn *each;
    void *arg;
};

static bool visit_index(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                        size_t value_len)
{
    const struct visit_index *visit = arg;
    struct lock_set set;

    (void)value;
    (void)value_len;
    if (key_len == INDEX_OWNER) {
        return true; /* the count */
    }
    CHECK_OP(key_len, ==, INDEX_BYTES);
    set = (struct lock_set){.ino = get_be64(key + INDEX_INO),
                            .space = (enum lock_space)key[INDEX_SPACE]};
    return visit->each(visit->arg, set, (enum lock_state)key[INDEX_STATE],
                       get_be64(key + INDEX_OWNER), get_be64(key + INDEX_START_OR_TICKET));
}

void lock_each_of_session(struct tree *tree, uint64_t session, const uint64_t *owner,
                          lock_of_session_fn *each, void *arg)
{
    struct row_key key = key_of_session_locks(session);
    struct visit_index visit = {.each = each, .arg = arg};

    if (owner != NULL) {
        key_append_be64(&key, *owner);
    }
    tree->kv.scan(tree->kv.context, key.bytes, key.len, key.len, visit_index, &visit);
}

bool lock_load(struct tree *tree, struct lock_set set, enum lock_state state,
               const struct tree_lock *which, struct tree_lock *out)
{
    struct row_key key = key_of_lock(set, state, which);

    if (!row_get(tree, &key, &tree->value)) {
        return false;
    }
    decode(tree->value.data, tree->value.len, out);
    return true;
}

uint64_t lock_count(struct tree *tree, uint64_t session)
{
    struct row_key key = key_of_session_locks(session);

    if (!row_get(tree, &key, &tree->value)) {
        return 0;
    }
    CHECK_OP(tree->value.len, ==, 8);
    return get_be64(tree->value.data);
}

static void set_count(struct tree *tree, uint64_t session, uint64_t count)
{
    struct row_key key = key_of_session_locks(session);
    uint8_t row[8];

    if (count == 0) {
        row_remove(tree, &key);
        return;
    }
    put_be64(row, count);
    row_put(tree, &key, row, sizeof(row));
}

void lock_store(struct tree *tree, struct lock_set set, enum lock_state state,
                const struct tree_lock *lock)
{
    struct row_key key = key_of_lock(set, state, lock);
    uint8_t row[LOCK_ROW_BYTES];

    row[LOCK_VERSION_OF_FORMAT] = LOCK_FORMAT;
    row[LOCK_TYPE] = (uint8_t)lock->type;
    put_be64(row + LOCK_SESSION, lock->session);
    put_be64(row + LOCK_OWNER, lock->owner);
    put_be64(row + LOCK_START, lock->start);
    put_be64(row + LOCK_END, lock->end);
    put_be64(row + LOCK_ZXID, lock->zxid);
    put_be32(row + LOCK_PID, lock->pid);
    row_put(tree, &key, row, sizeof(row));
    key = key_of_index(set, state, lock);
    row_put(tree, &key, "", 0);
    set_count(tree, lock->session, lock_count(tree, lock->session) + 1);
}

void lock_remove(struct tree *tree, struct lock_set set, enum lock_state state,
                 const struct tree_lock *lock)
{
    struct row_key key = key_of_lock(set, state, lock);
    uint64_t count = lock_count(tree, lock->session);

    CHECK(count > 0);
    row_remove(tree, &key);
    key = key_of_index(set, state, lock);
    row_remove(tree, &key);
    set_count(tree, lock->session, count - 1);
}
