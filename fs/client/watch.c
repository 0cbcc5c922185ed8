/* SPDX-License-Identifier: Apache-2.0
 *
 * Watches. Handed WatchChanges by attach.c and turns by client.c; hands changes to the owners.
 *
 * A watch is known to a replica under its number as long as the link lasts; on the next link it is
 * asked for again, from where it stands.
 *
 * Invariants:
 *   1. (zxid, skip) is behind the last change that was handed over, and before all others that
 *      match: every change up to zxid, and the first `skip` of zxid + 1.
 *   2. `asked` exactly if the replica of this link was sent the Watch.
 *   3. A batch is handed over only after client_watch_more: the replica sends none before.
 */
#include "fs/client/watch.h"

#include <stdlib.h>
#include <string.h>

#include "common/path.h"
#include "fs/client/client_internal.h"

struct client_watch {
    struct client_watch *previous;
    struct client_watch *next;
    struct client *client;
    struct client_watch_options options; /* path: not used */
    uint64_t number;
    uint64_t zxid;
    uint32_t skip;
    bool has_position;
    bool asked;
    bool wants_more;
    bool more_sent; /* on this link, and no batch since */
    bool failed;
    size_t path_len;
    char path[];
};

enum err client_watch(struct client *client, const struct client_watch_options *options,
                      struct client_watch **out)
{
    enum err err = path_check(options->path, options->path_len);

    if (err != ERR_OK) {
        return err;
    }
    struct client_watch *watch = calloc(1, sizeof *watch + options->path_len);
    if (watch == NULL) {
        return ERR_MEMORY;
    }
    watch->client = client;
    watch->options = *options;
    watch->options.path = NULL;
    watch->number = ++client->last_watch;
    watch->has_position = options->has_since;
    watch->zxid = options->has_since ? options->since_zxid : 0;
    watch->path_len = options->path_len;
    memcpy(watch->path, options->path, options->path_len);
    watch->next = client->watches;
    if (client->watches != NULL) {
        client->watches->previous = watch;
    }
    client->watches = watch;
    *out = watch;
    return ERR_OK;
}

void client_watch_more(struct client_watch *watch)
{
    watch->wants_more = true;
}

uint64_t client_watch_zxid(const struct client_watch *watch)
{
    return watch->has_position ? watch->zxid : 0;
}

void client_watch_end(struct client_watch *watch)
{
    struct client *client = watch->client;

    if (watch->asked && !watch->failed && client->link != NULL) {
        Wire__Unwatch unwatch = WIRE__UNWATCH__INIT;
        Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
        unwatch.watch = watch->number;
        message.body_case = WIRE__TO_REPLICA__BODY_UNWATCH;
        message.unwatch = &unwatch;
        link_send(client->link, &message);
    }
    if (watch->previous != NULL) {
        watch->previous->next = watch->next;
    } else {
        client->watches = watch->next;
    }
    if (watch->next != NULL) {
        watch->next->previous = watch->previous;
    }
    free(watch);
}

/* ---- sending ---- */

static void send_watch(struct client *client, struct client_watch *watch)
{
    Wire__Watch wish = WIRE__WATCH__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    wish.watch = watch->number;
    wish.path = wire_bytes(watch->path, watch->path_len);
    wish.recursive = watch->options.recursive;
    wish.has_since = watch->has_position;
    wish.since_zxid = watch->zxid;
    wish.since_skip = watch->skip;
    message.body_case = WIRE__TO_REPLICA__BODY_WATCH;
    message.watch = &wish;
    link_send(client->link, &message);
    watch->asked = true;
}

static void send_more(struct client *client, struct client_watch *watch)
{
    Wire__WatchMore more = WIRE__WATCH_MORE__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    more.watch = watch->number;
    message.body_case = WIRE__TO_REPLICA__BODY_WATCH_MORE;
    message.watch_more = &more;
    link_send(client->link, &message);
    watch->more_sent = true;
}

static void fail(struct client_watch *watch, enum err err)
{
    watch->failed = true;
    if (watch->options.failed != NULL && !watch->client->closing) {
        watch->options.failed(watch->options.arg, err); /* May end the watch. */
    }
}

/* The first one that a replica does not understand: told one a turn, as the owner may end any. */
static struct client_watch *find_unsupported(struct client *client)
{
    struct client_watch *watch = client->watches;

    while (watch != NULL && watch->failed) {
        watch = watch->next;
    }
    return client->watches_known ? NULL : watch;
}

void watches_pump(struct client *client)
{
    if (client->phase < PHASE_WELCOMED || client->closing) {
        return;
    }
    for (struct client_watch *bad = find_unsupported(client); bad != NULL;
         bad = find_unsupported(client)) {
        fail(bad, ERR_UNSUPPORTED);
    }
    for (struct client_watch *watch = client->watches; watch != NULL; watch = watch->next) {
        if (watch->failed) {
            continue;
        }
        if (!watch->asked) {
            send_watch(client, watch);
        }
        if (watch->wants_more && !watch->more_sent) {
            send_more(client, watch);
        }
    }
}

void watches_detached(struct client *client)
{
    for (struct client_watch *watch = client->watches; watch != NULL; watch = watch->next) {
        watch->asked = false;
        watch->more_sent = false;
    }
}

/* ---- what comes ---- */

static struct client_watch *find(struct client *client, uint64_t number)
{
    struct client_watch *watch = client->watches;

    while (watch != NULL && watch->number != number) {
        watch = watch->next;
    }
    return watch;
}

/* Moves behind what this message tells. */
static void move(struct client_watch *watch, const Wire__WatchChanges *message)
{
    struct client *client = watch->client;
    const Wire__Change *last =
        message->n_changes > 0 ? message->changes[message->n_changes - 1] : NULL;

    if (last != NULL && last->zxid > message->zxid) { /* The middle of an entry. */
        watch->zxid = last->zxid - 1;
        watch->skip = last->number;
    } else if (!watch->has_position || message->zxid > watch->zxid || last != NULL) {
        watch->zxid = message->zxid;
        watch->skip = 0;
    } else {
        return; /* Nothing new; it may be what the owner gave as `since`, which may never be. */
    }
    watch->has_position = true;
    if (watch->zxid > client->zxid_seen) {
        client->zxid_seen = watch->zxid;
    }
}

static bool is_sound(const struct client_watch *watch, const Wire__WatchChanges *message)
{
    bool is_batch = message->n_changes > 0 || message->gap;

    for (size_t i = 0; i < message->n_changes; i++) {
        if (message->changes[i]->zxid == 0 || message->changes[i]->number == 0) {
            return false;
        }
    }
    return watch->asked && (!watch->has_position || message->zxid >= watch->zxid) &&
           (!is_batch || watch->more_sent) && (message->n_changes == 0 || !message->gap);
}

/* Hands it over. The owner may end the watch in the first callback: then the second does not
 * come. */
static void hand_over(struct client *client, uint64_t number, const Wire__WatchChanges *message)
{
    struct client_watch *watch = find(client, number);
    const struct client_watch_options *options = &watch->options;

    if (message->gap) {
        options->gap(options->arg, message->gap_from, message->gap_to);
    } else if (message->n_changes > 0) {
        options->changes(options->arg, message->changes, message->n_changes);
    }
    watch = find(client, number);
    if (watch != NULL && watch->options.told != NULL) {
        watch->options.told(watch->options.arg, watch->zxid);
    }
}

void watches_changes(struct client *client, const Wire__WatchChanges *message)
{
    struct client_watch *watch = find(client, message->watch);
    enum err err = err_from_number(message->err);

    if (watch == NULL || watch->failed || client->closing) {
        return; /* It was ended while this was on its way. */
    }
    if (err != ERR_OK) {
        fail(watch, err);
        return;
    }
    if (!is_sound(watch, message)) {
        attach_lost(client, "malformed_changes", false);
        return;
    }
    move(watch, message);
    if (message->n_changes > 0 || message->gap) {
        watch->wants_more = false;
        watch->more_sent = false;
    }
    hand_over(client, message->watch, message);
}
