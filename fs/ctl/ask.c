/* SPDX-License-Identifier: Apache-2.0
 *
 * From a command to the ensemble and back: one question at a time, on a loop of its own. Called by
 * the files of the commands; hands on to fs/client.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/limits.h"
#include "fs/ctl/ctl.h"

#define READ_BYTES 65536u

bool ctl_connect(struct ctl *ctl, bool session)
{
    struct client_options options = {
        .servers = ctl->servers, .program = "quorumctl", .session = session};
    struct buffer error = {0};

    if (uv_loop_init(&ctl->loop) != 0) {
        (void)ctl_fail(ctl, NULL, ERR_MEMORY);
        return false;
    }
    ctl->loop_open = true;
    enum err err = client_new(&ctl->loop, &options, &ctl->client, &error);
    if (err == ERR_INVALID) { /* The fsname of a mount may be anything. */
        (void)fprintf(stderr, "quorumctl: the servers of the mount: %s\n",
                      error.data != NULL ? (const char *)error.data : err_text(err));
    } else if (err != ERR_OK) {
        (void)ctl_fail(ctl, NULL, err);
    }
    buffer_done(&error);
    return err == ERR_OK;
}

struct question {
    bool done;
    enum err err;
    Wire__Answer *answer;
};

/* The answer lives during the callback only. */
static enum err copy_answer(const Wire__Answer *answer, Wire__Answer **out)
{
    struct buffer bytes = {0};
    ProtobufCMessage *copy = NULL;
    enum err err = wire_pack(&answer->base, &bytes);

    if (err == ERR_OK) {
        err = wire_unpack(&wire__answer__descriptor, bytes.data, bytes.len, &copy);
    }
    buffer_done(&bytes);
    *out = (Wire__Answer *)copy;
    return err;
}

static void on_answer(void *arg, enum err err, const Wire__Answer *answer)
{
    struct question *question = arg;

    question->done = true;
    question->err = err;
    if (err == ERR_OK && answer != NULL) {
        question->err = copy_answer(answer, &question->answer);
    }
}

enum err ctl_ask(struct ctl *ctl, Wire__Request *request, Wire__Answer **out)
{
    struct question question = {0};
    struct call_options options = {
        .timeout_ms = ctl->timeout_ms, .done = on_answer, .arg = &question};
    enum err err = ERR_OK;

    *out = NULL;
    if (client_call(ctl->client, request, &options, &err) == NULL) {
        return err;
    }
    while (!question.done) {
        (void)uv_run(&ctl->loop, UV_RUN_ONCE);
    }
    *out = question.answer;
    return question.err;
}

enum err ctl_write(struct ctl *ctl, Wire__Op *op, Wire__Answer **out)
{
    Wire__Request request = WIRE__REQUEST__INIT;

    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = op;
    return ctl_ask(ctl, &request, out);
}

enum err ctl_data(const char *text, size_t bytes_max, struct buffer *out)
{
    out->max = bytes_max;
    if (strcmp(text, "-") != 0) {
        enum err err = buffer_append(out, text, strlen(text));
        return err == ERR_TOO_BIG ? ERR_FILE_TOO_BIG : err;
    }
    for (;;) {
        uint8_t bytes[READ_BYTES];
        ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
        if (count < 0) {
            return ERR_IO;
        }
        if (count == 0) {
            return ERR_OK;
        }
        enum err err = buffer_append(out, bytes, (size_t)count);
        if (err != ERR_OK) {
            return err == ERR_TOO_BIG ? ERR_FILE_TOO_BIG : err;
        }
    }
}

static void on_closed(void *arg)
{
    struct ctl *ctl = arg;
    ctl->client = NULL;
}

void ctl_close(struct ctl *ctl)
{
    if (!ctl->loop_open) {
        return;
    }
    if (ctl->client != NULL) {
        client_close(ctl->client, on_closed, ctl);
    }
    (void)uv_run(&ctl->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&ctl->loop);
    ctl->loop_open = false;
}
