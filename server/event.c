/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes of the tree as events to the clients that hold a promise. Called by replica.c for every
 * applied entry, before its answer; hands on to the connections.
 */
#include "common/wire.h"
#include "server/replica_internal.h"

struct event_target {
    struct replica *replica;
    const Wire__ToClient *message;
    uint64_t maker;
};

static void send_event(void *arg, struct watcher *watcher)
{
    struct event_target *target = arg;
    struct client *client = watcher->owner;
    if (target->maker == 0 || client->session != target->maker) {
        client_send(target->replica, client, target->message);
    }
}

static void send_change(struct replica *replica, const struct tree_change *change, uint64_t maker)
{
    Wire__Attr attr;
    Wire__Attr parent_attr;
    Wire__Attr to_parent_attr;
    Wire__Attr replaced_attr;
    Wire__Event event = WIRE__EVENT__INIT;
    event.zxid = change->zxid;
    event.kind = (Wire__EventKind)change->kind;
    event.parent = change->parent;
    event.name = wire_bytes(change->name.bytes, change->name.len);
    event.ino = change->ino;
    uint64_t inos[4] = {change->ino, change->parent};
    size_t ino_count = 2;
    attr_to_wire(&change->attr, &attr);
    event.attr = &attr;
    event.truncated = change->truncated;
    if (change->kind != CHANGE_DATA && change->kind != CHANGE_ATTR) {
        attr_to_wire(&change->parent_attr, &parent_attr);
        event.parent_attr = &parent_attr;
    }
    if (change->kind == CHANGE_RENAMED) {
        event.to_parent = change->to_parent;
        event.to_name = wire_bytes(change->to_name.bytes, change->to_name.len);
        attr_to_wire(&change->to_parent_attr, &to_parent_attr);
        event.to_parent_attr = &to_parent_attr;
        inos[ino_count++] = change->to_parent;
        event.exchanged = change->exchanged;
        if (change->replaced || change->exchanged) {
            event.replaced_ino = change->replaced_attr.ino;
            inos[ino_count++] = change->replaced_attr.ino;
            attr_to_wire(&change->replaced_attr, &replaced_attr);
            event.replaced_attr = &replaced_attr;
        }
    }
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_EVENT;
    message.event = &event;
    struct event_target target = {.replica = replica, .message = &message, .maker = maker};
    watch_each(replica->watches, inos, ino_count, send_event, &target);
}

/* The maker of a change knows it by the answer, unless its kernel did not do the change. */
static bool wants_events(struct replica *replica, const struct tree_result *result)
{
    struct proposal_key key = {
        .kind = PROPOSAL_COMMAND, .a = result->session, .b = result->sequence};
    const struct proposal *proposal = proposals_find(replica->proposals, &key);
    return result->session_closed || (proposal != NULL && proposal->tell_me);
}

/* Tells those of this replica's clients that have a lock now for which they waited. */
static void send_grants(struct replica *replica, const struct tree_result *result)
{
    for (size_t i = 0; i < result->grant_count; i++) {
        const struct tree_grant *granted = &result->grants[i];
        const struct session *session = sessions_find(replica->sessions, granted->session);
        if (session == NULL || session->client == NULL) {
            continue; /* Another replica's; or it asks when it is back. */
        }
        Wire__Event event = WIRE__EVENT__INIT;
        event.zxid = replica->applied_index;
        event.kind = WIRE__EVENT_KIND__EVENT_LOCK_GRANTED;
        event.ino = granted->ino;
        event.ticket = granted->ticket;
        Wire__ToClient message = WIRE__TO_CLIENT__INIT;
        message.body_case = WIRE__TO_CLIENT__BODY_EVENT;
        message.event = &event;
        client_send(replica, session->client, &message);
    }
}

void requests_events(struct replica *replica, const struct tree_result *result)
{
    send_grants(replica, result);
    if (watches_count(replica->watches) == 0) {
        return;
    }
    uint64_t maker = wants_events(replica, result) ? 0 : result->session;
    for (size_t i = 0; i < result->change_count; i++) {
        send_change(replica, &result->changes[i], maker);
    }
}
