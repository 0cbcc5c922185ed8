/* SPDX-License-Identifier: Apache-2.0
 *
 * Locks of the whole ensemble: flock and byte ranges. Handed operations by tree_apply.c and the ends
 * of sessions by tree_session.c; the rows are tree_lock_row.c's.
 *
 * The queue is fair: who asks is put behind those that wait for what it asks for, unless it holds
 * something on the node already (behind one who waits for that, both would wait for ever).
 *
 * Invariants:
 *   1. No two locks of different owners that are held on bytes in common are other than reads.
 *   2. The locks of one owner that are held do not overlap, and equal ones do not touch.
 *   3. After an entry nobody waits whom nothing is in the way of.
 */
#include "common/check.h"
#include "server/tree/tree_internal.h"

#define DEADLOCK_OWNERS_MAX 1024u /* that a search looks at; beyond: there is none */

static bool is_same_owner(const struct tree_lock *a, const struct tree_lock *b)
{
    return a->session == b->session && a->owner == b->owner;
}

static bool overlaps(const struct tree_lock *a, const struct tree_lock *b)
{
    return a->start <= b->end && b->start <= a->end;
}

static bool is_in_the_way(const struct tree_lock *lock, const struct tree_lock *wanted)
{
    return (lock->type == LOCK_WRITE || wanted->type == LOCK_WRITE) &&
           !is_same_owner(lock, wanted) && overlaps(lock, wanted);
}

/* ---- lists of locks in a buffer ---- */

static void list_add(struct buffer *list, const struct tree_lock *lock)
{
    CHECK(buffer_append(list, lock, sizeof(*lock)) == ERR_OK);
}

static size_t list_count(const struct buffer *list)
{
    return list->len / sizeof(struct tree_lock);
}

static const struct tree_lock *list_at(const struct buffer *list, size_t i)
{
    return (const struct tree_lock *)(const void *)list->data + i;
}

static bool gather(void *arg, const struct tree_lock *lock)
{
    list_add(arg, lock);
    return true;
}

/* ---- who is in the way ---- */

struct search {
    const struct tree_lock *wanted;
    struct buffer *out; /* all of them; NULL: one is enough */
    uint64_t below;     /* of those that wait: with a ticket below this one */
    struct tree_lock found;
    bool is_found;
};

static bool look(void *arg, const struct tree_lock *lock)
{
    struct search *search = arg;

    if (lock->zxid >= search->below) {
        return false;
    }
    if (is_in_the_way(lock, search->wanted)) {
        search->found = *lock;
        search->is_found = true;
        if (search->out == NULL) {
            return false;
        }
        list_add(search->out, lock);
    }
    return true;
}

static bool stop_at_first(void *arg, const struct tree_lock *lock)
{
    (void)lock;
    *(bool *)arg = true;
    return false;
}

static bool holds_something(struct tree *tree, struct lock_set set, const struct tree_lock *owner)
{
    bool is_found = false;

    lock_each_of_owner(tree, set, owner, stop_at_first, &is_found);
    return is_found;
}

/* Looks at the locks that are held, then at those before the ticket `below`. */
static bool search_blockers(struct tree *tree, struct lock_set set, uint64_t below,
                            struct search *search)
{
    search->below = UINT64_MAX;
    lock_each(tree, set, LOCK_HELD, look, search);
    if ((search->is_found && search->out == NULL) || holds_something(tree, set, search->wanted)) {
        return search->is_found;
    }
    search->below = below;
    lock_each(tree, set, LOCK_WAITS, look, search);
    return search->is_found;
}

static bool is_blocked(struct tree *tree, struct lock_set set, const struct tree_lock *wanted,
                       uint64_t below)
{
    struct search search = {.wanted = wanted};

    return search_blockers(tree, set, below, &search);
}

/* ---- deadlocks ---- */

struct deadlock {
    struct tree *tree;
    struct buffer owners; /* struct tree_lock each, of which only the owner counts */
};

static void note_owner(struct deadlock *deadlock, const struct tree_lock *lock)
{
    for (size_t i = 0; i < list_count(&deadlock->owners); i++) {
        if (is_same_owner(list_at(&deadlock->owners, i), lock)) {
            return;
        }
    }
    list_add(&deadlock->owners, lock);
}

/* Those that are in the way of `wanted`, which waits with this ticket. */
static void note_blockers(struct deadlock *deadlock, struct lock_set set,
                          const struct tree_lock *wanted, uint64_t ticket)
{
    struct buffer blockers = {0};
    struct search search = {.wanted = wanted, .out = &blockers};

    search_blockers(deadlock->tree, set, ticket, &search);
    for (size_t i = 0; i < list_count(&blockers); i++) {
        note_owner(deadlock, list_at(&blockers, i));
    }
    buffer_done(&blockers);
}

struct wait_of_owner {
    struct lock_set set;
    uint64_t ticket;
};

static bool gather_wait(void *arg, struct lock_set set, enum lock_state state, uint64_t owner,
                        uint64_t ticket)
{
    struct wait_of_owner wait = {.set = set, .ticket = ticket};

    (void)owner;
    if (state == LOCK_WAITS && set.space == LOCK_RANGE) {
        CHECK(buffer_append(arg, &wait, sizeof(wait)) == ERR_OK);
    }
    return true;
}

static void note_blockers_of_owner(struct deadlock *deadlock, const struct tree_lock *owner)
{
    struct buffer waits = {0};
    struct tree_lock lock;

    lock_each_of_session(deadlock->tree, owner->session, &owner->owner, gather_wait, &waits);
    for (size_t i = 0; i < waits.len / sizeof(struct wait_of_owner); i++) {
        const struct wait_of_owner *wait = (const struct wait_of_owner *)(void *)waits.data + i;
        CHECK(lock_load(deadlock->tree, wait->set, LOCK_WAITS,
                        &(struct tree_lock){.zxid = wait->ticket}, &lock));
        note_blockers(deadlock, wait->set, &lock, wait->ticket);
    }
    buffer_done(&waits);
}

static bool stop_at_first_of_session(void *arg, struct lock_set set, enum lock_state state,
                                     uint64_t owner, uint64_t start_or_ticket)
{
    (void)set;
    (void)state;
    (void)owner;
    (void)start_or_ticket;
    *(bool *)arg = true;
    return false;
}

/* Whether somebody whom `wanted` would wait for waits for its owner, over whatever others. */
static bool is_deadlock(struct tree *tree, struct lock_set set, const struct tree_lock *wanted)
{
    struct deadlock deadlock = {.tree = tree};
    bool has_any = false;
    bool is_found = false;

    lock_each_of_session(tree, wanted->session, &wanted->owner, stop_at_first_of_session, &has_any);
    if (!has_any) {
        return false; /* nobody can wait for it */
    }
    note_blockers(&deadlock, set, wanted, UINT64_MAX);
    for (size_t i = 0; i < list_count(&deadlock.owners) && i < DEADLOCK_OWNERS_MAX && !is_found;
         i++) {
        struct tree_lock owner = *list_at(&deadlock.owners, i);
        is_found = is_same_owner(&owner, wanted);
        note_blockers_of_owner(&deadlock, &owner);
    }
    buffer_done(&deadlock.owners);
    return is_found;
}

/* ---- taking and giving ---- */

/* Whether two locks of one owner become one. */
static bool touches(const struct tree_lock *a, const struct tree_lock *b)
{
    return overlaps(a, b) || (a->end != UINT64_MAX && a->end + 1 == b->start) ||
           (b->end != UINT64_MAX && b->end + 1 == a->start);
}

/* The owner's lock on these bytes is `wanted` from now on; LOCK_NONE: it has none. */
static void place(struct tree *tree, struct lock_set set, struct tree_lock wanted)
{
    struct buffer own = {0};

    lock_each_of_owner(tree, set, &wanted, gather, &own);
    for (size_t i = 0; i < list_count(&own); i++) {
        const struct tree_lock *old = list_at(&own, i);
        if (old->type == wanted.type && touches(old, &wanted)) {
            lock_remove(tree, set, LOCK_HELD, old);
            wanted.start = old->start < wanted.start ? old->start : wanted.start;
            wanted.end = old->end > wanted.end ? old->end : wanted.end;
        } else if (overlaps(old, &wanted)) {
            struct tree_lock left = *old;
            struct tree_lock right = *old;
            lock_remove(tree, set, LOCK_HELD, old);
            if (old->start < wanted.start) {
                left.end = wanted.start - 1;
                lock_store(tree, set, LOCK_HELD, &left);
            }
            if (old->end > wanted.end) {
                right.start = wanted.end + 1;
                lock_store(tree, set, LOCK_HELD, &right);
            }
        }
    }
    if (wanted.type != LOCK_NONE) {
        lock_store(tree, set, LOCK_HELD, &wanted);
    }
    buffer_done(&own);
}

struct waiting {
    struct apply *apply;
    struct lock_set set;
    struct buffer granted; /* to be moved when the scan is over */
};

/* Grants nothing itself: a scan must not meet changes. */
static bool find_grantable(void *arg, const struct tree_lock *lock)
{
    struct waiting *waiting = arg;

    if (!is_blocked(waiting->apply->tree, waiting->set, lock, lock->zxid)) {
        list_add(&waiting->granted, lock);
        return false;
    }
    return waiting->set.space == LOCK_RANGE; /* of an flock, all behind it are blocked too */
}

/* Those that wait and that nothing is in the way of have their locks from now on. */
static void grant(struct apply *apply, struct lock_set set)
{
    struct waiting waiting = {.apply = apply, .set = set};

    for (;;) {
        struct tree_lock lock;
        buffer_clear(&waiting.granted);
        lock_each(apply->tree, set, LOCK_WAITS, find_grantable, &waiting);
        if (list_count(&waiting.granted) == 0) {
            break;
        }
        lock = *list_at(&waiting.granted, 0);
        struct tree_grant told = {.session = lock.session, .ino = set.ino, .ticket = lock.zxid};
        lock_remove(apply->tree, set, LOCK_WAITS, &lock);
        lock.zxid = apply->zxid;
        place(apply->tree, set, lock);
        CHECK(buffer_append(&apply->tree->grants, &told, sizeof(told)) == ERR_OK);
    }
    buffer_done(&waiting.granted);
}

static enum err acquire(struct apply *apply, struct lock_set set, const struct tree_lock *wanted,
                        bool wait)
{
    struct tree *tree = apply->tree;
    struct tree_lock held;

    if (lock_count(tree, wanted->session) >= LOCKS_PER_SESSION_MAX) {
        return ERR_LOCKS_FULL;
    }
    if (set.space == LOCK_FLOCK && lock_load(tree, set, LOCK_HELD, wanted, &held)) {
        if (held.type == wanted->type) {
            return ERR_OK;
        }
        lock_remove(tree, set, LOCK_HELD, &held);
        grant(apply, set);
    }
    if (!is_blocked(tree, set, wanted, UINT64_MAX)) {
        place(tree, set, *wanted);
        grant(apply, set);
        return ERR_OK;
    }
    if (!wait) {
        return ERR_LOCKED;
    }
    if (set.space == LOCK_RANGE && is_deadlock(tree, set, wanted)) {
        return ERR_DEADLOCK;
    }
    lock_store(tree, set, LOCK_WAITS, wanted);
    apply->out->queued = true;
    return ERR_OK;
}

static enum err cancel(struct apply *apply, struct lock_set set, uint64_t ticket)
{
    struct tree_lock lock;

    if (!lock_load(apply->tree, set, LOCK_WAITS, &(struct tree_lock){.zxid = ticket}, &lock) ||
        lock.session != apply->session) {
        return ERR_OK;
    }
    lock_remove(apply->tree, set, LOCK_WAITS, &lock);
    grant(apply, set);
    return ERR_CANCELED;
}

/* Whom the kernel of its host has not checked needs to be able to read the node. */
static enum err check_access(struct apply *apply, uint64_t ino)
{
    struct tree_address address = {.ino = ino};
    enum err err = ERR_OK;

    if (apply->who.trusted) {
        return ino < apply->tree->next_ino ? ERR_OK : ERR_STALE;
    }
    err = place_find(apply->tree, &address, &apply->who, &apply->tree->at);
    return err == ERR_OK ? access_check(&apply->tree->at.node->attr, &apply->who, ACCESS_READ)
                         : err;
}

enum err tree_lock(struct apply *apply, const Wire__LockOp *op)
{
    struct lock_set set = {.ino = op->ino, .space = (enum lock_space)op->space};
    struct tree_lock wanted = {
        .type = (enum lock_type)op->type,
        .session = apply->session,
        .owner = op->owner,
        .start = op->start,
        .end = op->end,
        .zxid = apply->zxid,
        .pid = op->pid,
    };
    enum err err = ERR_OK;

    apply->out->ino = op->ino;
    if (op->cancel != 0) {
        return cancel(apply, set, op->cancel);
    }
    if (wanted.type == LOCK_NONE) {
        place(apply->tree, set, wanted);
        grant(apply, set);
        return ERR_OK;
    }
    err = check_access(apply, op->ino);
    return err == ERR_OK ? acquire(apply, set, &wanted, op->wait) : err;
}

/* ---- the end of a session ---- */

struct found_lock {
    struct lock_set set;
    enum lock_state state;
    struct tree_lock which;
};

struct of_session {
    uint64_t session;
    struct buffer found;
};

static bool gather_found(void *arg, struct lock_set set, enum lock_state state, uint64_t owner,
                         uint64_t start_or_ticket)
{
    struct of_session *of_session = arg;
    struct found_lock found = {
        .set = set,
        .state = state,
        .which = {.session = of_session->session,
                  .owner = owner,
                  .start = start_or_ticket,
                  .zxid = start_or_ticket},
    };

    CHECK(buffer_append(&of_session->found, &found, sizeof(found)) == ERR_OK);
    return true;
}

void tree_locks_drop(struct apply *apply, uint64_t session)
{
    struct of_session of_session = {.session = session};
    const struct found_lock *found = NULL;
    size_t count = 0;

    lock_each_of_session(apply->tree, session, NULL, gather_found, &of_session);
    found = (const struct found_lock *)(const void *)of_session.found.data;
    count = of_session.found.len / sizeof(*found);
    for (size_t i = 0; i < count; i++) {
        lock_remove(apply->tree, found[i].set, found[i].state, &found[i].which);
    }
    for (size_t i = 0; i < count; i++) {
        bool is_again = i > 0 && found[i].set.ino == found[i - 1].set.ino &&
                        found[i].set.space == found[i - 1].set.space;
        if (!is_again) {
            grant(apply, found[i].set);
        }
    }
    buffer_done(&of_session.found);
}

/* ---- reading ---- */

bool tree_lock_conflict(struct tree *tree, uint64_t ino, enum lock_space space,
                        const struct tree_lock *wanted, struct tree_lock *out)
{
    struct lock_set set = {.ino = ino, .space = space};
    struct search search = {.wanted = wanted, .below = UINT64_MAX};

    lock_each(tree, set, LOCK_HELD, look, &search);
    *out = search.found;
    return search.is_found;
}

bool tree_lock_waits(struct tree *tree, uint64_t ino, enum lock_space space, uint64_t ticket)
{
    struct tree_lock lock;

    return lock_load(tree, (struct lock_set){.ino = ino, .space = space}, LOCK_WAITS,
                     &(struct tree_lock){.zxid = ticket}, &lock);
}

static bool take_newest(void *arg, const struct tree_lock *lock)
{
    uint64_t *newest = arg;

    *newest = lock->zxid > *newest ? lock->zxid : *newest;
    return true;
}

uint64_t tree_lock_fence(struct tree *tree, uint64_t ino)
{
    uint64_t newest = 0;

    lock_each(tree, (struct lock_set){.ino = ino, .space = LOCK_FLOCK}, LOCK_HELD, take_newest,
              &newest);
    lock_each(tree, (struct lock_set){.ino = ino, .space = LOCK_RANGE}, LOCK_HELD, take_newest,
              &newest);
    return newest;
}
