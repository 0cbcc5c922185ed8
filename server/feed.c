/* SPDX-License-Identifier: Apache-2.0
 *
 * The streams of changes that clients watch. Handed Watch, WatchMore and Unwatch by request.c, and
 * turns by replica.c; reads history.c; hands WatchChanges to the connections.
 *
 * A stream is a position in the history and nothing else: who reads slowly costs no memory, and who
 * reads so slowly that the history has dropped what comes next is told of a gap.
 *
 * Invariants:
 *   1. All changes before `at` that match have been told, or a gap has.
 *   2. A message with changes or a gap is sent only after a WatchMore that came since the last one.
 *   3. client->feed_count is the number of its streams.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/check.h"
#include "common/path.h"
#include "server/replica_internal.h"

#define BATCH_MAX     1024u  /* changes of one message */
#define CHANGE_AROUND 48u    /* rough bytes of a Change beside its paths */
#define TELL_MS       1000u  /* between two messages that only tell how far the stream is */
#define TURN_WORK_MAX 50000u /* records looked at in one turn, one sent counts as more */
#define WORK_BYTES    64u    /* so many bytes sent are the work of one record */
#define WORK_RIGHTS   32u    /* a question about rights is that of so many */

struct feed {
    TAILQ_ENTRY(feed) link;
    struct client *client;
    uint64_t watch; /* the number that the client gave it */
    bool recursive;
    bool wanted; /* a WatchMore came */
    struct history_position at;
    uint64_t told_zxid;
    uint64_t told_ms;
    size_t path_len;
    uint8_t path[]; /* "" is the root, so that all paths below begin with it and a slash */
};

struct feeds {
    TAILQ_HEAD(feed_list, feed) list; /* whose turn was longest ago comes first */
    size_t count;
    size_t work; /* that is left in this turn */
    /* The message that is being made. */
    Wire__Change change[BATCH_MAX];
    Wire__Change *change_at[BATCH_MAX];
    size_t change_count;
    size_t bytes;
};

struct feeds *feeds_new(void)
{
    struct feeds *feeds = calloc(1, sizeof *feeds);

    if (feeds != NULL) {
        TAILQ_INIT(&feeds->list);
    }
    return feeds;
}

void feeds_free(struct feeds *feeds)
{
    CHECK(feeds == NULL || feeds->count == 0);
    free(feeds);
}

/* ---- beginning and end ---- */

static struct feed *find(struct replica *replica, const struct client *client, uint64_t watch)
{
    struct feed *feed = NULL;

    if (client->feed_count == 0) {
        return NULL;
    }
    TAILQ_FOREACH(feed, &replica->feeds->list, link)
    {
        if (feed->client == client && feed->watch == watch) {
            return feed;
        }
    }
    return NULL;
}

static void drop(struct replica *replica, struct feed *feed)
{
    CHECK(feed->client->feed_count > 0 && replica->feeds->count > 0);
    feed->client->feed_count--;
    replica->feeds->count--;
    TAILQ_REMOVE(&replica->feeds->list, feed, link);
    free(feed);
}

static void send_message(struct replica *replica, struct client *client,
                         Wire__WatchChanges *changes)
{
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    message.body_case = WIRE__TO_CLIENT__BODY_WATCH_CHANGES;
    message.watch_changes = changes;
    client_send(replica, client, &message);
}

static void refuse(struct replica *replica, struct client *client, uint64_t watch, enum err err)
{
    Wire__WatchChanges changes = WIRE__WATCH_CHANGES__INIT;

    changes.watch = watch;
    changes.err = (int32_t)err;
    send_message(replica, client, &changes);
}

/* How far the stream is, without a change. */
static void tell(struct replica *replica, struct feed *feed)
{
    Wire__WatchChanges changes = WIRE__WATCH_CHANGES__INIT;

    changes.watch = feed->watch;
    changes.zxid = feed->at.zxid;
    feed->told_zxid = changes.zxid;
    feed->told_ms = replica->now_ms;
    send_message(replica, feed->client, &changes);
}

static enum err feed_new(struct replica *replica, struct client *client, const Wire__Watch *watch)
{
    const char *path = (const char *)watch->path.data;
    enum err err = path_check(path, watch->path.len);

    if (err != ERR_OK) {
        return err;
    }
    if (client->feed_count >= WATCHES_PER_CONNECTION_MAX) {
        return ERR_LIMIT;
    }
    size_t len = watch->path.len > 1 ? watch->path.len : 0;
    struct feed *feed = calloc(1, sizeof *feed + len);
    if (feed == NULL) {
        return ERR_MEMORY;
    }
    feed->client = client;
    feed->watch = watch->watch;
    feed->recursive = watch->recursive;
    feed->at = watch->has_since ? (struct history_position){watch->since_zxid, watch->since_skip}
                                : (struct history_position){replica->applied_index, 0};
    feed->path_len = len;
    memcpy(feed->path, path, len);
    TAILQ_INSERT_HEAD(&replica->feeds->list, feed, link);
    replica->feeds->count++;
    client->feed_count++;
    tell(replica, feed);
    return ERR_OK;
}

enum err feeds_watch(struct replica *replica, struct client *client, const Wire__Watch *watch)
{
    if (client->phase == CLIENT_CONNECTED || find(replica, client, watch->watch) != NULL) {
        return ERR_MALFORMED;
    }
    enum err err = feed_new(replica, client, watch);
    if (err != ERR_OK) {
        refuse(replica, client, watch->watch, err);
    }
    return ERR_OK;
}

void feeds_more(struct replica *replica, const struct client *client, uint64_t watch)
{
    struct feed *feed = find(replica, client, watch);

    if (feed != NULL) { /* It may have ended meanwhile. */
        feed->wanted = true;
    }
}

void feeds_unwatch(struct replica *replica, struct client *client, uint64_t watch)
{
    struct feed *feed = find(replica, client, watch);

    if (feed != NULL) {
        drop(replica, feed);
    }
}

void feeds_client_closed(struct replica *replica, struct client *client)
{
    struct feed *feed = TAILQ_FIRST(&replica->feeds->list);

    while (client->feed_count > 0) {
        CHECK(feed != NULL);
        struct feed *next = TAILQ_NEXT(feed, link);
        if (feed->client == client) {
            drop(replica, feed);
        }
        feed = next;
    }
}

/* ---- what matches ---- */

/* Whether `path` is `top` or lies below it. */
static bool is_below(const uint8_t *path, size_t len, const uint8_t *top, size_t top_len)
{
    return len >= top_len && memcmp(path, top, top_len) == 0 &&
           (len == top_len || path[top_len] == '/');
}

static bool path_matches(const struct feed *feed, const uint8_t *path, size_t len)
{
    if (!is_below(path, len, feed->path, feed->path_len)) {
        return false;
    }
    return feed->recursive || len <= feed->path_len + 1 ||
           memchr(path + feed->path_len + 1, '/', len - feed->path_len - 1) == NULL;
}

/* A directory above that gets another name takes what is watched along. */
static bool moves_whole(const struct feed *feed, const uint8_t *path, size_t len)
{
    return is_below(feed->path, feed->path_len, path, len);
}

static bool matches(const struct feed *feed, const struct history_record *record)
{
    const uint8_t *to_path = record->bytes + record->path_len;

    if (path_matches(feed, record->bytes, record->path_len)) {
        return true;
    }
    return record->kind == CHANGE_RENAMED && (path_matches(feed, to_path, record->to_path_len) ||
                                              moves_whole(feed, record->bytes, record->path_len) ||
                                              moves_whole(feed, to_path, record->to_path_len));
}

static bool no_child(void *arg, const uint8_t *name, size_t name_len, uint64_t cookie, bool same,
                     const struct node_attr *attr)
{
    (void)arg;
    (void)name;
    (void)name_len;
    (void)cookie;
    (void)same;
    (void)attr;
    return false;
}

/* Whether the client could list that directory now: then its names are no secret. */
static bool may_see(struct replica *replica, const struct client *client, uint64_t ino)
{
    struct tree_address at = {.ino = ino};
    struct tree_identity who = {
        .trusted = client->origin.trusted, .uid = client->origin.uid, .gid = client->origin.gid};
    struct node_attr attr;
    bool end = false;

    return who.trusted || tree_children(replica->tree, &at, &who, /* behind all */ UINT64_MAX,
                                        no_child, NULL, &attr, &end) == ERR_OK;
}

/* ---- messages ---- */

static void spend(struct feeds *feeds, size_t work)
{
    feeds->work -= work < feeds->work ? work : feeds->work;
}

static void batch_add(struct feeds *feeds, const struct history_record *record)
{
    Wire__Change *change = &feeds->change[feeds->change_count];

    wire__change__init(change);
    change->zxid = record->zxid;
    change->number = record->number;
    change->kind = (Wire__EventKind)record->kind;
    change->path = wire_bytes(record->bytes, record->path_len);
    change->node_kind = (Wire__Kind)record->node_kind;
    change->version = record->version;
    change->truncated = record->truncated;
    if (record->kind == CHANGE_RENAMED) {
        change->to_path = wire_bytes(record->bytes + record->path_len, record->to_path_len);
        change->exchanged = record->exchanged;
    }
    feeds->change_at[feeds->change_count++] = change;
    feeds->bytes += CHANGE_AROUND + record->path_len + record->to_path_len;
}

/* The same to somebody who does not see all of it. */
static void batch_add_seen(struct replica *replica, const struct feed *feed,
                           const struct history_record *record)
{
    struct feeds *feeds = replica->feeds;
    bool renamed = record->kind == CHANGE_RENAMED;
    bool sees_from = may_see(replica, feed->client, record->parent);
    bool sees_to = renamed && may_see(replica, feed->client, record->to_parent);

    spend(feeds, feed->client->origin.trusted ? 0 : WORK_RIGHTS);
    if (!sees_from && !sees_to) {
        return;
    }
    batch_add(feeds, record);
    if (!renamed || (sees_from && sees_to)) {
        return;
    }
    Wire__Change *change = &feeds->change[feeds->change_count - 1];
    change->kind = sees_from && !record->exchanged ? WIRE__EVENT_KIND__EVENT_REMOVED
                                                   : WIRE__EVENT_KIND__EVENT_CREATED;
    change->path = sees_from ? change->path : change->to_path;
    change->to_path = wire_bytes(NULL, 0);
    change->exchanged = false;
    bool is_told = path_matches(feed, change->path.data, change->path.len) ||
                   moves_whole(feed, change->path.data, change->path.len);
    feeds->change_count -= is_told ? 0 : 1;
}

/* The position before a record, or behind all. */
static struct history_position position_before(const struct replica *replica,
                                               const struct history_record *next)
{
    struct history_position behind_all = {.zxid = replica->applied_index};

    return next == NULL
               ? behind_all
               : (struct history_position){.zxid = next->zxid - 1, .skip = next->number - 1};
}

/* Gathers what comes next for this stream and moves its position behind that. */
static void gather(struct replica *replica, struct feed *feed)
{
    struct feeds *feeds = replica->feeds;
    uint64_t at = history_seek(replica->history, &feed->at);
    const struct history_record *record = history_at(replica->history, at);

    feeds->change_count = 0;
    feeds->bytes = 0;
    while (record != NULL && feeds->work > 0 && feeds->change_count < BATCH_MAX &&
           feeds->bytes < WATCH_BYTES_MAX) {
        if (matches(feed, record)) {
            batch_add_seen(replica, feed, record);
        }
        spend(feeds, 1);
        record = history_at(replica->history, ++at);
    }
    spend(feeds, feeds->bytes / WORK_BYTES);
    struct history_position behind = position_before(replica, record);
    if (history_before(&feed->at, &behind)) { /* It may ask for what is yet to come. */
        feed->at = behind;
    }
}

static void send_batch(struct replica *replica, struct feed *feed)
{
    Wire__WatchChanges changes = WIRE__WATCH_CHANGES__INIT;

    changes.watch = feed->watch;
    changes.n_changes = replica->feeds->change_count;
    changes.changes = replica->feeds->change_at;
    changes.zxid = feed->at.zxid;
    feed->wanted = false;
    feed->told_zxid = changes.zxid;
    feed->told_ms = replica->now_ms;
    send_message(replica, feed->client, &changes);
}

/* The history has dropped what comes next, or never had it. */
static void send_gap(struct replica *replica, struct feed *feed)
{
    Wire__WatchChanges changes = WIRE__WATCH_CHANGES__INIT;
    struct history_position begin = history_begin(replica->history);

    changes.watch = feed->watch;
    changes.gap = true;
    changes.gap_from = feed->at.zxid + 1;
    changes.gap_to = begin.zxid + (begin.skip > 0 ? 1 : 0);
    changes.zxid = begin.zxid;
    feed->at = begin;
    feed->wanted = false;
    feed->told_zxid = changes.zxid;
    feed->told_ms = replica->now_ms;
    send_message(replica, feed->client, &changes);
}

static void feed_turn(struct replica *replica, struct feed *feed)
{
    struct history_position begin = history_begin(replica->history);

    if (!feed->wanted) {
        return;
    }
    if (history_before(&feed->at, &begin)) {
        send_gap(replica, feed);
        return;
    }
    if (feed->at.zxid < replica->applied_index) {
        gather(replica, feed);
        if (replica->feeds->change_count > 0) {
            send_batch(replica, feed);
            return;
        }
    }
    if (feed->at.zxid > feed->told_zxid && replica->now_ms >= feed->told_ms + TELL_MS) {
        tell(replica, feed);
    }
}

bool feeds_turn(struct replica *replica)
{
    struct feeds *feeds = replica->feeds;

    feeds->work = TURN_WORK_MAX;
    for (size_t i = 0; i < feeds->count && feeds->work > 0; i++) {
        struct feed *feed = TAILQ_FIRST(&feeds->list);
        TAILQ_REMOVE(&feeds->list, feed, link);
        TAILQ_INSERT_TAIL(&feeds->list, feed, link);
        feed_turn(replica, feed);
    }
    return feeds->work == 0;
}
