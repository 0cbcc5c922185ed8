/* SPDX-License-Identifier: Apache-2.0
 *
 * What concerns the promises of a mount: the stream of events, forgets, reclaims. Handed events by
 * attach.c; hands them to the owner in the order of the stream, which is commit order.
 *
 * Invariants:
 *   1. Forgets are sent only on the connection on which their grants were given: grant numbers
 *      belong to a connection.
 *   2. A reclaim ends with done exactly once: all answered, or the connection has ended.
 */
#include <stdlib.h>
#include <string.h>

#include "fs/client/client_internal.h"

void events_event(struct client *client, const Wire__Event *event)
{
    if (event->zxid > client->zxid_seen) {
        client->zxid_seen = event->zxid;
    }
    if (client->options.event != NULL && !client->closing) {
        client->options.event(client->options.arg, event);
    }
}

/* ---- forgets ---- */

void client_forget(struct client *client, uint64_t ino, uint64_t grant)
{
    if (client->phase != PHASE_OPENED || !client->options.promises ||
        client->forget_count >= FORGETS_MAX) {
        return;
    }
    if (client->forget_count == client->forget_capacity) {
        size_t capacity = client->forget_capacity == 0 ? 64 : client->forget_capacity * 2;
        Wire__Forget__One *forgets = realloc(client->forgets, capacity * sizeof *client->forgets);
        if (forgets == NULL) {
            return; /* The replica keeps a promise too many. */
        }
        client->forgets = forgets;
        client->forget_capacity = capacity;
    }
    Wire__Forget__One *one = &client->forgets[client->forget_count++];
    wire__forget__one__init(one);
    one->ino = ino;
    one->grant = grant;
}

static void send_forgets(struct client *client)
{
    Wire__Forget__One *nodes[NODES_PER_MESSAGE];

    for (size_t sent = 0; sent < client->forget_count;) {
        Wire__Forget forget = WIRE__FORGET__INIT;
        Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

        while (forget.n_nodes < NODES_PER_MESSAGE && sent < client->forget_count) {
            nodes[forget.n_nodes++] = &client->forgets[sent++];
        }
        forget.nodes = nodes;
        message.body_case = WIRE__TO_REPLICA__BODY_FORGET;
        message.forget = &forget;
        link_send(client->link, &message);
    }
    client->forget_count = 0;
}

/* ---- reclaims ---- */

enum err client_reclaim(struct client *client, const struct client_promise *promises, size_t count,
                        void (*done)(void *arg, enum err err), void *arg)
{
    struct reclaim *reclaim = &client->reclaim;

    if (client->phase != PHASE_OPENED || client->closing) {
        return ERR_CLOSED;
    }
    if (!client->options.promises) {
        return ERR_INVALID;
    }
    if (reclaim->active) {
        return ERR_BUSY;
    }
    struct client_promise *copy = calloc(count > 0 ? count : 1, sizeof *copy);
    if (copy == NULL) {
        return ERR_MEMORY;
    }
    if (count > 0) {
        memcpy(copy, promises, count * sizeof *copy);
    }
    *reclaim = (struct reclaim){
        .promises = copy, .count = count, .active = true, .done = done, .arg = arg};
    return ERR_OK;
}

static void reclaim_end(struct client *client, enum err err)
{
    struct reclaim ended = client->reclaim;

    if (!ended.active) {
        return;
    }
    client->reclaim = (struct reclaim){0}; /* done may begin the next one. */
    free(ended.promises);
    if (ended.done != NULL) {
        ended.done(ended.arg, err);
    }
}

static void send_reclaim(struct client *client)
{
    struct reclaim *reclaim = &client->reclaim;
    Wire__Reclaim__One rows[NODES_PER_MESSAGE];
    Wire__Reclaim__One *nodes[NODES_PER_MESSAGE];
    Wire__Reclaim message_body = WIRE__RECLAIM__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    while (message_body.n_nodes < NODES_PER_MESSAGE && reclaim->sent < reclaim->count) {
        Wire__Reclaim__One *row = &rows[message_body.n_nodes];
        wire__reclaim__one__init(row);
        row->ino = reclaim->promises[reclaim->sent].ino;
        row->zxid = reclaim->promises[reclaim->sent].zxid;
        nodes[message_body.n_nodes++] = row;
        reclaim->sent++;
    }
    message_body.batch = ++client->last_batch;
    message_body.nodes = nodes;
    message.body_case = WIRE__TO_REPLICA__BODY_RECLAIM;
    message.reclaim = &message_body;
    link_send(client->link, &message);
    reclaim->unanswered++;
}

void events_reclaimed(struct client *client, const Wire__Reclaimed *reclaimed)
{
    if (!client->reclaim.active || client->reclaim.unanswered == 0) {
        attach_lost(client, "unexpected_reclaimed", false);
        return;
    }
    client->reclaim.unanswered--;
    if (reclaimed->zxid > client->zxid_seen) {
        client->zxid_seen = reclaimed->zxid;
    }
}

void events_pump(struct client *client)
{
    struct reclaim *reclaim = &client->reclaim;

    if (client->phase != PHASE_OPENED) {
        return;
    }
    if (client->forget_count > 0) {
        send_forgets(client);
    }
    while (reclaim->sent < reclaim->count && reclaim->unanswered < RECLAIMS_IN_FLIGHT) {
        send_reclaim(client);
    }
    if (reclaim->active && reclaim->sent == reclaim->count && reclaim->unanswered == 0) {
        reclaim_end(client, ERR_OK);
    }
}

void events_detached(struct client *client)
{
    client->forget_count = 0;
    reclaim_end(client, ERR_CLOSED);
}

void events_done(struct client *client)
{
    free(client->forgets);
    client->forgets = NULL;
}
