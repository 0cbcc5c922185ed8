/* SPDX-License-Identifier: Apache-2.0
 *
 * Sends patches for publish.c. A large one goes as parts, some of them in flight at once, then as
 * one entry that names their stage. A stage that fails is dropped by one more entry, or goes with
 * the session.
 */
#include "fs/mount/send.h"

#include <stdlib.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"

#define PART_BYTES          (512u * KIB)
#define PARTS_IN_FLIGHT_MAX 4u

/* A stage under way. */
struct staging {
    struct mount *mount;
    struct sending sending;
    uint64_t stage;
    uint32_t parts; /* sent */
    unsigned in_flight;
    struct patch_cursor cursor;
    enum err err; /* the first failure: no more is sent */
};

static enum err call_op(struct mount *mount, Wire__Op *op, uint32_t timeout_ms,
                        client_answer_fn *done, void *arg)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    struct call_options options = {.timeout_ms = timeout_ms, .done = done, .arg = arg};
    enum err err = ERR_OK;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = op;
    (void)client_call(mount->client, &request, &options, &err);
    return err;
}

/* The entry that changes the data; with a stage its parts are the ranges. */
static enum err send_write(struct mount *mount, const struct sending *sending,
                           const struct staging *staging, client_answer_fn *done, void *arg)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    enum err err = patch_op(sending->patch, staging == NULL /* with its bytes */, &write);
    if (err != ERR_OK) {
        return err;
    }
    at.ino = sending->ino;
    write.at = &at;
    write.if_version = sending->if_version;
    write.version = sending->version;
    if (staging != NULL) {
        write.stage = staging->stage;
        write.stage_parts = staging->parts;
    }
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &write;
    err = call_op(mount, &op, sending->timeout_ms, done, arg);
    patch_op_done(&write);
    return err;
}

/* ---- stages ---- */

static void dropped(void *arg, enum err err, const Wire__Answer *answer)
{
    (void)arg;
    (void)answer;
    if (err != ERR_OK) {
        log_warn("send", "stage_left", "error=%s", err_name(err));
    }
}

static void stage_drop(const struct staging *staging)
{
    Wire__StageOp stage = WIRE__STAGE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    stage.stage = staging->stage;
    stage.drop = true;
    op.body_case = WIRE__OP__BODY_STAGE;
    op.stage = &stage;
    /* What cannot be sent now goes with the session. */
    (void)call_op(staging->mount, &op, staging->sending.timeout_ms, dropped, NULL);
}

static void stage_end(struct staging *staging, enum err err, const Wire__Answer *answer)
{
    struct sending sending = staging->sending;
    if (err != ERR_OK) {
        stage_drop(staging);
    }
    free(staging);
    sending.done(sending.arg, err, answer);
}

static void written(void *arg, enum err err, const Wire__Answer *answer)
{
    stage_end(arg, err, answer);
}

static void stage_go_on(struct staging *staging);

static void part_answered(void *arg, enum err err, const Wire__Answer *answer)
{
    struct staging *staging = arg;
    (void)answer;
    CHECK(staging->in_flight > 0);
    staging->in_flight--;
    if (staging->err == ERR_OK) {
        staging->err = err;
    }
    if (err == ERR_OK) {
        staging->sending.progress(staging->sending.arg);
    }
    stage_go_on(staging);
}

/* False: there is no more. */
static bool send_part(struct staging *staging)
{
    Wire__StageOp stage = WIRE__STAGE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    enum err err = patch_part(staging->sending.patch, &staging->cursor, PART_BYTES, &stage);
    if (err == ERR_OK && stage.n_ranges == 0 && stage.append.len == 0) {
        return false;
    }
    stage.stage = staging->stage;
    stage.part = staging->parts;
    op.body_case = WIRE__OP__BODY_STAGE;
    op.stage = &stage;
    if (err == ERR_OK) {
        err = call_op(staging->mount, &op, staging->sending.timeout_ms, part_answered, staging);
    }
    patch_part_done(&stage);
    if (err != ERR_OK) {
        staging->err = err;
        return false;
    }
    staging->parts++;
    staging->in_flight++;
    return true;
}

static void stage_go_on(struct staging *staging)
{
    while (staging->err == ERR_OK && staging->in_flight < PARTS_IN_FLIGHT_MAX &&
           send_part(staging)) {
    }
    if (staging->in_flight > 0) {
        return;
    }
    enum err err = staging->err;
    if (err == ERR_OK) {
        err = send_write(staging->mount, &staging->sending, staging, written, staging);
    }
    if (err != ERR_OK) {
        stage_end(staging, err, NULL);
    }
}

enum err send_patch(struct mount *mount, const struct sending *sending)
{
    if (patch_bytes(sending->patch) <= FILE_BYTES_MAX) {
        return send_write(mount, sending, NULL, sending->done, sending->arg);
    }
    struct staging *staging = calloc(1, sizeof *staging);
    if (staging == NULL) {
        return ERR_MEMORY;
    }
    staging->mount = mount;
    staging->sending = *sending;
    staging->stage = ++mount->last_stage;
    while (staging->in_flight < PARTS_IN_FLIGHT_MAX && send_part(staging)) {
    }
    if (staging->in_flight == 0) {
        enum err err = staging->err;
        free(staging);
        return err;
    }
    return ERR_OK;
}
