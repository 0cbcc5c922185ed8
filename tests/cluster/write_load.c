/* SPDX-License-Identifier: Apache-2.0
 *
 * A load that can be checked afterwards: `write_load SERVERS FOLDER NAME IN_FLIGHT`. One session
 * creates the sequential nodes FOLDER/NAME-N-, N = 1 2 3 ..., so many at a time, through whatever
 * happens to the replicas, until SIGTERM; what is in flight then is waited for.
 *
 * One line on stdout for each answer, written at once: name of the node, milliseconds. One line on
 * stderr for each error. So each name on stdout is a node that must be there, and no two nodes may
 * have the same N: a write that was done twice would have made a second one. Exit status 1: some
 * write failed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "common/parse.h"
#include "fs/client/client.h"

#define CALL_TIMEOUT_MS 60000u

struct load;

/* One write in flight; its place in the struct is its argument. */
struct slot {
    struct load *load;
    uint64_t number;
    uint64_t begun_ns;
};

struct load {
    const char *folder;
    const char *name;
    uv_loop_t loop;
    uv_signal_t on_term;
    struct client *client;
    struct slot slots[WRITES_IN_FLIGHT_MAX];
    uint64_t next;
    uint64_t in_flight;
    uint64_t errors;
    bool ready;
    bool stopping;
};

static void slot_next(struct slot *slot);

static void on_answer(void *arg, enum err err, const Wire__Answer *answer)
{
    struct slot *slot = arg;
    struct load *load = slot->load;

    load->in_flight--;
    if (err == ERR_OK) {
        (void)printf("%.*s %llu\n", (int)answer->name.len, (const char *)answer->name.data,
                     (unsigned long long)((uv_hrtime() - slot->begun_ns) / 1000000u));
    } else {
        (void)fprintf(stderr, "%s-%llu: %s\n", load->name, (unsigned long long)slot->number,
                      err_name(err));
        load->errors++;
    }
    slot_next(slot);
}

static void slot_next(struct slot *slot)
{
    struct load *load = slot->load;
    struct call_options options = {.timeout_ms = CALL_TIMEOUT_MS, .done = on_answer, .arg = slot};
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    char path[PATH_BYTES_MAX];
    enum err err = ERR_OK;

    if (load->stopping) {
        return;
    }
    slot->number = ++load->next;
    int len = snprintf(path, sizeof path, "%s/%s-%llu-", load->folder, load->name,
                       (unsigned long long)slot->number);
    CHECK(len > 0 && (size_t)len < sizeof path);
    at.path = wire_bytes(path, (size_t)len);
    create.at = &at;
    create.kind = WIRE__KIND__KIND_FILE;
    create.mode = 0644;
    create.sequential = true;
    op.body_case = WIRE__OP__BODY_CREATE;
    op.create = &create;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    slot->begun_ns = uv_hrtime();
    if (client_call(load->client, &request, &options, &err) == NULL) {
        (void)fprintf(stderr, "write_load: %s\n", err_text(err));
        exit(1);
    }
    load->in_flight++;
}

static void on_state(void *arg, enum client_state state)
{
    struct load *load = arg;

    load->ready = load->ready || state == CLIENT_READY;
    if (state == CLIENT_LOST) {
        (void)fputs("write_load: the session has expired\n", stderr);
        load->errors++;
    }
}

static void on_term(uv_signal_t *handle, int number)
{
    struct load *load = handle->data;
    (void)number;

    load->stopping = true;
    uv_close((uv_handle_t *)handle, NULL);
}

static void on_closed(void *arg)
{
    (void)arg;
}

static void run(struct load *load, uint64_t at_once)
{
    load->on_term.data = load;
    CHECK(uv_signal_init(&load->loop, &load->on_term) == 0);
    CHECK(uv_signal_start(&load->on_term, on_term, SIGTERM) == 0);
    while (!load->ready && !load->stopping) {
        (void)uv_run(&load->loop, UV_RUN_ONCE);
    }
    for (uint64_t i = 0; i < at_once; i++) {
        load->slots[i].load = load;
        slot_next(&load->slots[i]);
    }
    while (load->in_flight > 0 || !load->stopping) {
        (void)uv_run(&load->loop, UV_RUN_ONCE);
    }
    client_close(load->client, on_closed, load);
    (void)uv_run(&load->loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
    static struct load load;
    struct buffer error = {0};
    uint64_t at_once = 0;

    if (argc != 5 || parse_u64(argv[4], 1, WRITES_IN_FLIGHT_MAX, &at_once) != ERR_OK) {
        (void)fputs("usage: write_load SERVERS FOLDER NAME IN_FLIGHT\n", stderr);
        return 2;
    }
    logging_set_level(LOG_LEVEL_ERROR);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    load.folder = argv[2];
    load.name = argv[3];
    struct client_options options = {.servers = argv[1],
                                     .program = "write_load",
                                     .session = true,
                                     .state = on_state,
                                     .arg = &load};
    CHECK(uv_loop_init(&load.loop) == 0);
    if (client_new(&load.loop, &options, &load.client, &error) != ERR_OK) {
        (void)fprintf(stderr, "write_load: %s\n", argv[1]);
        return 2;
    }
    run(&load, at_once);
    CHECK(uv_loop_close(&load.loop) == 0);
    return load.errors == 0 ? 0 : 1;
}
