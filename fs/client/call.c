/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of calls in flight: numbers, window, resend, answers. Handed requests by the owner of
 * the client, answers by attach.c; hands frames on to link.c, and what is given up to giveup.c.
 *
 * Invariants: see struct client.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "common/check.h"
#include "common/frame.h"
#include "fs/client/call.h"

/* ---- table ---- */

static struct call **call_bucket(struct client *client, uint64_t id)
{
    return &client->bucket[id % CALL_BUCKETS];
}

static struct call *call_find(struct client *client, uint64_t id)
{
    struct call *call = *call_bucket(client, id);

    while (call != NULL && call->id != id) {
        call = call->bucket_next;
    }
    return call;
}

void call_enter(struct client *client, struct call *call)
{
    struct call **bucket = call_bucket(client, call->id);

    call->bucket_next = *bucket;
    *bucket = call;
    client->call_count++;
    client->call_bytes += call->frame.len;
}

void call_leave(struct client *client, struct call *call)
{
    struct call **at = call_bucket(client, call->id);

    while (*at != call) {
        CHECK(*at != NULL);
        at = &(*at)->bucket_next;
    }
    *at = call->bucket_next;
    CHECK(client->call_count > 0 && client->call_bytes >= call->frame.len);
    client->call_count--;
    client->call_bytes -= call->frame.len;
}

void call_free(struct call *call)
{
    buffer_done(&call->frame);
    free(call);
}

static struct call **call_list(struct client *client, const struct call *call)
{
    switch (call->state) {
    case CALL_WAITING:
        return call->write ? &client->waiting_writes : &client->waiting_reads;
    case CALL_SENT:
        return call->write ? &client->sent_writes : &client->sent_reads;
    case CALL_ENDING:
        break;
    }
    return &client->ending;
}

/* Takes a call out of its list and the table; done comes in the next turn. A call whose caller has
 * its answer already is freed. */
void call_end(struct client *client, struct call *call, enum err err)
{
    struct call **list = call_list(client, call);

    CHECK(call->state != CALL_ENDING);
    DL_DELETE(*list, call);
    call_leave(client, call);
    if (call->done == NULL) {
        call_free(call);
        return;
    }
    call->state = CALL_ENDING;
    call->end_err = err;
    DL_APPEND(client->ending, call);
}

/* The same with an answer at hand: done is called now. */
void call_finish(struct client *client, struct call *call, enum err err, const Wire__Answer *answer)
{
    struct call **list = call_list(client, call);

    DL_DELETE(*list, call);
    call_leave(client, call);
    if (call->done != NULL) {
        call->done(call->arg, err, answer);
    }
    call_free(call);
}

void call_wake(struct client *client, uint64_t at_ms)
{
    if (at_ms < client->calls_wake_ms) {
        client->calls_wake_ms = at_ms;
    }
}

/* ---- sending ---- */

static uint64_t answered_below(const struct client *client)
{
    return client->sent_writes != NULL ? client->sent_writes->sequence : client->next_sequence;
}

/* Each write in flight may need a cancel: there is always a slot left for it. */
bool call_window_is_open(const struct client *client)
{
    bool is_cancel = client->waiting_writes != NULL && client->waiting_writes->target != NULL;
    uint64_t window = is_cancel ? SESSION_WINDOW : WRITES_IN_FLIGHT_MAX;

    return client->next_sequence < answered_below(client) + window;
}

bool calls_reads_flow(const struct client *client)
{
    if (client->phase < PHASE_WELCOMED || client->closing || link_is_full(client->link)) {
        return false;
    }
    /* While the session is being attached a read would get no promise; without a leader that can
     * take for ever, and a read without a promise is better than none. */
    return !client->options.session || client->phase == PHASE_OPENED || client->leader == 0;
}

bool calls_writes_flow(const struct client *client)
{
    return client->phase == PHASE_OPENED && client->leader != 0 && !client->closing &&
           !link_is_full(client->link) && call_window_is_open(client);
}

/* Packs the request with the numbers that it has now. ERR_MEMORY, ERR_TOO_BIG: no frame. */
enum err call_pack(struct client *client, struct call *call, Wire__Request *request)
{
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    request->call = call->id;
    request->sequence = call->sequence;
    request->answered_below = call->write ? answered_below(client) : 0;
    request->zxid_seen = client->zxid_seen;
    message.body_case = WIRE__TO_REPLICA__BODY_REQUEST;
    message.request = request;
    buffer_clear(&call->frame);
    return wire_frame(&message.base, NULL, 0, &call->frame);
}

/* Packs the request of a frame that was packed before anew. On error the frame is as it was. */
static enum err call_repack(struct client *client, struct call *call)
{
    struct frame frame = {0};
    ProtobufCMessage *message = NULL;
    struct buffer before = call->frame;

    CHECK(frame_parse(before.data, before.len, &frame) == FRAME_WHOLE);
    enum err err =
        wire_unpack(&wire__to_replica__descriptor, frame.message, frame.message_len, &message);
    if (err != ERR_OK) {
        CHECK(err == ERR_MEMORY); /* We packed it ourselves. */
        return err;
    }
    Wire__Request *request = ((Wire__ToReplica *)message)->request;
    call->frame = (struct buffer){0};
    err = call_pack(client, call, request);
    if (err == ERR_OK) {
        client->call_bytes = client->call_bytes - before.len + call->frame.len;
        buffer_done(&before);
    } else {
        buffer_done(&call->frame);
        call->frame = before;
    }
    wire_free(message);
    return err;
}

/* Gives a waiting call its numbers and moves it to those that are sent. False: no memory, it waits
 * on. */
static bool call_number(struct client *client, struct call *call)
{
    struct call **list = call_list(client, call);

    if (call->write) {
        call->sequence = client->next_sequence;
    }
    if (call_repack(client, call) != ERR_OK) {
        call->sequence = 0;
        call_wake(client, uv_now(client->loop) + TRY_AGAIN_MS);
        return false;
    }
    DL_DELETE(*list, call);
    call->state = CALL_SENT;
    if (call->write) {
        client->next_sequence++;
        DL_APPEND(client->sent_writes, call);
    } else {
        DL_APPEND(client->sent_reads, call);
    }
    return true;
}

static bool call_send_waiting(struct client *client, struct call *call)
{
    if (!call_number(client, call)) {
        return false;
    }
    link_append(client->link, call->frame.data, call->frame.len);
    return true;
}

void calls_pump(struct client *client)
{
    while (client->waiting_reads != NULL && calls_reads_flow(client)) {
        if (!call_send_waiting(client, client->waiting_reads)) {
            return;
        }
    }
    while (client->waiting_writes != NULL && calls_writes_flow(client)) {
        if (!call_send_waiting(client, client->waiting_writes)) {
            return;
        }
    }
}

void calls_resend(struct client *client)
{
    struct call *call = NULL;

    /* A cancel that leaves now spares its write from being sent again, and so from being done. */
    while (client->waiting_writes != NULL && client->waiting_writes->target != NULL &&
           call_window_is_open(client) && call_number(client, client->waiting_writes)) {
    }
    /* All at once, even if the link is full then: new writes must not come before them. */
    DL_FOREACH(client->sent_writes, call)
    {
        if (call->cancel == NULL || call->cancel->state != CALL_SENT) {
            link_append(client->link, call->frame.data, call->frame.len);
        }
    }
}

void calls_detached(struct client *client)
{
    struct call *call = NULL;

    DL_FOREACH(client->sent_reads, call)
    {
        call->state = CALL_WAITING;
    }
    /* In front of those that waited before: they are older. */
    DL_CONCAT(client->sent_reads, client->waiting_reads);
    client->waiting_reads = client->sent_reads;
    client->sent_reads = NULL;
}

/* ---- the call ---- */

static struct call *call_new(struct client *client, const struct call_options *options)
{
    struct call *call = calloc(1, sizeof *call);

    if (call == NULL) {
        return NULL;
    }
    call->id = ++client->last_call;
    call->done = options->done;
    call->arg = options->arg;
    call->deadline_ms =
        options->timeout_ms == 0 ? UINT64_MAX : uv_now(client->loop) + options->timeout_ms;
    return call;
}

static enum err call_is_allowed(const struct client *client, const Wire__Request *request)
{
    if (client->closing) {
        return ERR_CLOSED;
    }
    if (request->body_case == WIRE__REQUEST__BODY_OP && !client->options.session) {
        return ERR_INVALID;
    }
    if (client->call_count >= CALLS_MAX || client->call_bytes >= CALLS_BYTES_MAX) {
        return ERR_LIMIT;
    }
    return ERR_OK;
}

/* Puts a packed call where it belongs: on its way, in a queue, or at its end. */
static void call_start(struct client *client, struct call *call, bool send_now, bool fails)
{
    call_enter(client, call);
    call->state = send_now ? CALL_SENT : CALL_WAITING;
    struct call **list = call_list(client, call);
    DL_APPEND(*list, call);
    if (fails) {
        call_end(client, call, ERR_NO_LEADER);
        return;
    }
    if (send_now) {
        client->next_sequence += call->write ? 1 : 0;
        link_append(client->link, call->frame.data, call->frame.len);
    }
    call_wake(client, call->deadline_ms);
}

struct call *client_call(struct client *client, Wire__Request *request,
                         const struct call_options *options, enum err *out_err)
{
    bool write = request->body_case == WIRE__REQUEST__BODY_OP;

    *out_err = call_is_allowed(client, request);
    if (*out_err != ERR_OK) {
        return NULL;
    }
    struct call *call = call_new(client, options);
    if (call == NULL) {
        *out_err = ERR_MEMORY;
        return NULL;
    }
    call->write = write;
    bool fails = write && client->no_leader_failed && options->timeout_ms != 0;
    bool send_now = !fails && (write ? client->waiting_writes == NULL && calls_writes_flow(client)
                                     : client->waiting_reads == NULL && calls_reads_flow(client));
    if (write && send_now) {
        call->sequence = client->next_sequence;
    }
    *out_err = call_pack(client, call, request);
    if (*out_err != ERR_OK) {
        call_free(call);
        return NULL;
    }
    call_start(client, call, send_now, fails);
    return call;
}

/* ---- answers ---- */

/* What only concerns the session, not this write: it will be sent again. */
static bool write_is_refused(struct client *client, enum err err)
{
    if (err == ERR_SESSION_EXPIRED) {
        attach_expired(client);
        return true;
    }
    if (err == ERR_SESSION_MOVED || err == ERR_NOT_READY || err == ERR_NO_LEADER ||
        err == ERR_NOT_LEADER) {
        attach_lost(client, err_name(err), err == ERR_SESSION_MOVED);
        return true;
    }
    return false;
}

void calls_answer(struct client *client, Wire__Answer *answer)
{
    enum err err = err_from_number(answer->err);

    if (answer->zxid > client->zxid_seen) {
        client->zxid_seen = answer->zxid;
    }
    if (client->close_call != 0 && answer->call == client->close_call) {
        client->close_call = 0;
        return;
    }
    struct call *call = call_find(client, answer->call);
    if (call == NULL || call->state != CALL_SENT) {
        return; /* Given up before. */
    }
    if (client->phase != PHASE_OPENED) {
        answer->grant = 0;
    }
    if (!call->write) {
        if (err == ERR_NOT_READY) {
            attach_lost(client, err_name(err), false);
        } else {
            call_finish(client, call, err, answer);
        }
        return;
    }
    if (write_is_refused(client, err)) {
        return;
    }
    if (call->target != NULL) {
        giveup_canceled(client, call, err, answer);
    } else if (giveup_may_end(client, call, err)) {
        call_finish(client, call, err, answer);
    }
}

/* ---- ends ---- */

static void list_end(struct client *client, struct call *list, enum err err)
{
    struct call *call = NULL;
    struct call *after = NULL;

    DL_FOREACH_SAFE(list, call, after)
    {
        call_end(client, call, err);
    }
}

void calls_expired(struct client *client)
{
    list_end(client, client->sent_writes, ERR_SESSION_EXPIRED);
    list_end(client, client->waiting_writes, ERR_SESSION_EXPIRED);
    client->next_sequence = 1;
}

void calls_end_all(struct client *client, enum err err)
{
    list_end(client, client->waiting_reads, err);
    list_end(client, client->waiting_writes, err);
    list_end(client, client->sent_reads, err);
    list_end(client, client->sent_writes, err);
}

void calls_drain(struct client *client)
{
    struct call *ending = client->ending;
    struct call *call = NULL;

    client->ending = NULL; /* What ends from within done waits for the next turn. */
    while (ending != NULL) {
        call = ending;
        DL_DELETE(ending, call);
        call->done(call->arg, call->end_err, NULL);
        call_free(call);
    }
}
