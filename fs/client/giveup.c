/* SPDX-License-Identifier: Apache-2.0
 *
 * How calls end without their answer: deadlines, cancels. Handed calls by call.c and by the owner,
 * time by client.c.
 *
 * A sent write is given up by a CancelOp with a sequence of its own (CONSENSUS 21). The cancel
 * decides, once it has been sent: it may take back what the write made, so the write's own answer
 * must not be believed any more. Its outcome is ERR_CANCELED (the write is not, and never will be)
 * or the answer of the write. A write whose cancel is sent is not sent again. While the cancel
 * waits for a leader the write's own answer is as good, unless the caller was told that it had
 * failed: then only the cancel may end it.
 */
#include <stdlib.h>
#include <utlist.h>

#include "common/check.h"
#include "fs/client/call.h"

/* Puts a cancel for this sent write in front of the waiting writes. */
static enum err cancel_start(struct client *client, struct call *call)
{
    Wire__CancelOp cancel_op = WIRE__CANCEL_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    struct call *cancel = calloc(1, sizeof *cancel);

    if (cancel == NULL) {
        return ERR_MEMORY;
    }
    cancel->id = ++client->last_call;
    cancel->write = true;
    cancel->state = CALL_WAITING;
    cancel->deadline_ms = UINT64_MAX;
    cancel_op.sequence = call->sequence;
    op.body_case = WIRE__OP__BODY_CANCEL;
    op.cancel = &cancel_op;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    enum err err = call_pack(client, cancel, &request);
    if (err != ERR_OK) {
        call_free(cancel);
        return err;
    }
    cancel->target = call;
    call->cancel = cancel;
    call_enter(client, cancel);
    DL_PREPEND(client->waiting_writes, cancel);
    return ERR_OK;
}

static void give_up(struct client *client, struct call *call, enum give_up why)
{
    uint64_t now_ms = uv_now(client->loop);

    CHECK(call->state == CALL_SENT && call->write && call->cancel == NULL);
    if (cancel_start(client, call) == ERR_OK) {
        call->give_up = why;
        call->deadline_ms = now_ms + client->timers.cancel_ms;
    } else {
        /* A cancel by the caller becomes one by the deadline then, which comes soon. */
        call->deadline_ms = now_ms + TRY_AGAIN_MS;
    }
    call_wake(client, call->deadline_ms);
}

void client_cancel(struct client *client, struct call *call)
{
    if (call->state == CALL_ENDING) {
        return;
    }
    if (call->state == CALL_WAITING || !call->write) {
        call_end(client, call, ERR_CANCELED);
        return;
    }
    if (call->give_up == GIVE_UP_NOT) {
        give_up(client, call, GIVE_UP_CANCEL);
    }
}

void giveup_canceled(struct client *client, struct call *cancel, enum err err,
                     const Wire__Answer *answer)
{
    struct call *call = cancel->target;

    call->cancel = NULL;
    call_end(client, cancel, ERR_OK);
    if (err == ERR_CANCELED) {
        err = call->give_up == GIVE_UP_DEADLINE ? ERR_NO_LEADER : ERR_CANCELED;
        answer = NULL;
    } else if (err == ERR_ANSWER_LOST || err == ERR_INVALID) {
        err = ERR_TIMEOUT; /* The ensemble does not know either. */
        answer = NULL;
    }
    call_finish(client, call, err, answer);
}

bool giveup_may_end(struct client *client, struct call *call, enum err err)
{
    if (call->cancel == NULL) {
        return true;
    }
    if (call->cancel->state == CALL_SENT || (call->done == NULL && err == ERR_OK)) {
        return false;
    }
    call_end(client, call->cancel, ERR_OK); /* Not needed any more. */
    call->cancel = NULL;
    return true;
}

/* ---- deadlines ---- */

/* The outcome stays unknown: the caller is told so, but the sequence lives on in a call without
 * caller until the ensemble has answered its cancel. */
static void abandon(struct client *client, struct call *call)
{
    struct call *rest = calloc(1, sizeof *rest);

    if (rest == NULL) {
        call->deadline_ms = uv_now(client->loop) + TRY_AGAIN_MS;
        call_wake(client, call->deadline_ms);
        return;
    }
    call_leave(client, call);
    *rest = *call;
    rest->done = NULL;
    rest->deadline_ms = UINT64_MAX;
    rest->cancel->target = rest;
    call_enter(client, rest);
    DL_REPLACE_ELEM(client->sent_writes, call, rest);
    call->frame = (struct buffer){0};
    call->cancel = NULL;
    call->state = CALL_ENDING;
    call->end_err = ERR_TIMEOUT;
    DL_APPEND(client->ending, call);
    if (client->leader == 0) {
        client->no_leader_failed = true;
    }
}

static void deadline_passed(struct client *client, struct call *call)
{
    if (!call->write) {
        call_end(client, call, ERR_TIMEOUT);
    } else if (call->state == CALL_WAITING) {
        /* A session without an attached replica has no leader that it could ask. */
        if (client->leader == 0 || client->phase != PHASE_OPENED) {
            client->no_leader_failed = true;
        }
        call_end(client, call, ERR_NO_LEADER);
    } else if (call->give_up == GIVE_UP_NOT) {
        give_up(client, call, GIVE_UP_DEADLINE);
    } else {
        abandon(client, call);
    }
}

static uint64_t list_expire(struct client *client, struct call *list, uint64_t now_ms)
{
    uint64_t next_ms = UINT64_MAX;
    struct call *call = NULL;
    struct call *after = NULL;

    DL_FOREACH_SAFE(list, call, after)
    {
        if (call->deadline_ms <= now_ms) {
            deadline_passed(client, call);
        } else if (call->deadline_ms < next_ms) {
            next_ms = call->deadline_ms;
        }
    }
    return next_ms;
}

void calls_expire(struct client *client, uint64_t now_ms)
{
    struct call *lists[] = {client->waiting_reads, client->waiting_writes, client->sent_reads,
                            client->sent_writes};

    /* deadline_passed lowers calls_wake_ms for the deadlines that it sets. */
    client->calls_wake_ms = UINT64_MAX;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        call_wake(client, list_expire(client, lists[i], now_ms));
    }
}
