/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients that write and read registers while a test kills, stops or parts replicas; at the end
 * their history is checked: linearizable, every acknowledged append there once, none twice.
 *
 *     history --server ADDR[,ADDR] [--clients N] [--registers N] [--seconds N] [--seed N]
 *             [--timeout MS]
 *
 * Says `began` when all have a session. Each client begins with another of the addresses; its session lives for so many milliseconds
 * without a sign of it. Prints one line of key=value: failed counts the writes that were surely not
 * done, unknown those that may be, unread the reads that failed; gap_ms is the longest time in which
 * no write of any client was answered, lost the sessions that expired. Ends with status 1 and a
 * sentence if the history is not what it must be.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "common/parse.h"
#include "fs/client/client.h"
#include "tests/lib/linear.h"

#define CLIENTS_MAX     64u
#define REGISTERS_MAX   64u
#define WRITE_MS        5000u
#define READ_MS         5000u
#define SETTLE_MS       30000u /* after the end: for what is still under way */
#define APPENDS_MAX     60000u /* lines of the log, which must fit into one node */
#define APPEND_PER_CENT 10
#define LINE_BYTES      32u

enum step {
    STEP_WRITE,
    STEP_SYNC, /* a strict read: the barrier, ... */
    STEP_READ, /* ... then the read */
    STEP_APPEND,
};

enum fate {
    FATE_NONE, /* surely not done */
    FATE_DONE,
    FATE_UNKNOWN,
};

struct worker {
    struct history *history;
    struct client *client;
    bool ready;
    bool was_ready;
    bool busy;
    bool closed;
    enum step step;
    size_t at; /* the register, or the number of the line */
    uint64_t value;
    uint64_t begin;
};

struct record {
    size_t at;
    struct linear_op op;
};

struct history {
    const char *servers;
    uint64_t clients;
    uint64_t registers;
    uint64_t seconds;
    uint64_t seed;
    uint64_t timeout_ms; /* of the sessions; 0: default */
    char folder[32];     /* of this run */
    uv_loop_t loop;
    struct worker worker[CLIENTS_MAX];
    uint64_t end_ns;
    uint64_t value; /* newest written */
    struct record *records;
    size_t count;
    size_t capacity;
    enum fate append[APPENDS_MAX];
    size_t appends;
    uint64_t answered_ns; /* of the newest write */
    uint64_t gap_ns;
    uint64_t unknown;
    uint64_t failed;
    uint64_t unread;
    uint64_t lost;
};

static struct history history;

/* ---- requests ---- */

/* What a request points at until it is packed. */
struct message {
    char path[64];
    char text[LINE_BYTES];
    Wire__Address at;
    Wire__Op op;
    Wire__CreateOp create;
    Wire__WriteOp write;
    Wire__Range range;
    Wire__Range *ranges[1];
    Wire__SyncRead sync;
    Wire__DataRead read;
    Wire__Request request;
};

static void message_init(struct message *message, const char *path)
{
    (void)snprintf(message->path, sizeof(message->path), "%s", path);
    wire__address__init(&message->at);
    wire__op__init(&message->op);
    wire__request__init(&message->request);
    message->at.path = wire_bytes(message->path, strlen(message->path));
    message->request.body_case = WIRE__REQUEST__BODY_OP;
    message->request.op = &message->op;
}

static void message_create(struct message *message, Wire__Kind kind)
{
    wire__create_op__init(&message->create);
    message->create.at = &message->at;
    message->create.kind = kind;
    message->create.mode = 0755;
    message->op.body_case = WIRE__OP__BODY_CREATE;
    message->op.create = &message->create;
}

static void message_write(struct message *message, bool append, uint64_t value)
{
    int len = snprintf(message->text, sizeof(message->text), append ? "%" PRIu64 "\n" : "%" PRIu64,
                       value);
    ProtobufCBinaryData text = wire_bytes(message->text, (size_t)len);

    wire__write_op__init(&message->write);
    message->write.at = &message->at;
    if (append) {
        message->write.append = text;
    } else {
        wire__range__init(&message->range);
        message->range.data = text;
        message->ranges[0] = &message->range;
        message->write.truncate = true;
        message->write.n_ranges = 1;
        message->write.ranges = message->ranges;
    }
    message->op.body_case = WIRE__OP__BODY_WRITE;
    message->op.write = &message->write;
}

static void message_read(struct message *message)
{
    wire__data_read__init(&message->read);
    message->read.at = &message->at;
    message->read.bytes_max = FILE_BYTES_MAX;
    message->request.body_case = WIRE__REQUEST__BODY_DATA;
    message->request.data = &message->read;
}

static void ask(struct worker *worker, struct message *message, uint32_t timeout_ms,
                client_answer_fn *done)
{
    struct call_options options = {.timeout_ms = timeout_ms, .done = done, .arg = worker};
    enum err err = ERR_OK;

    worker->busy = true;
    CHECK(client_call(worker->client, &message->request, &options, &err) != NULL);
}

/* ---- what happened ---- */

static void record(size_t at, struct linear_op op)
{
    if (history.count == history.capacity) {
        history.capacity = history.capacity == 0 ? 65536 : history.capacity * 2;
        history.records =
            reallocarray(history.records, history.capacity, sizeof(history.records[0]));
        CHECK(history.records != NULL);
    }
    history.records[history.count++] = (struct record){.at = at, .op = op};
}

static enum fate fate_of(enum err err)
{
    if (err == ERR_OK) {
        return FATE_DONE;
    }
    if (err == ERR_NO_LEADER || err == ERR_CANCELED || err == ERR_DISK_LOW) {
        history.failed++;
        return FATE_NONE;
    }
    CHECK(err == ERR_TIMEOUT || err == ERR_SESSION_EXPIRED || err == ERR_CLOSED ||
          err == ERR_ANSWER_LOST);
    history.unknown++;
    return FATE_UNKNOWN;
}

static void write_was_answered(void)
{
    uint64_t now_ns = uv_hrtime();

    if (history.answered_ns != 0 && now_ns - history.answered_ns > history.gap_ns) {
        history.gap_ns = now_ns - history.answered_ns;
    }
    history.answered_ns = now_ns;
}

static void next(struct worker *worker);

static void on_answer(void *arg, enum err err, const Wire__Answer *answer)
{
    struct worker *worker = arg;
    struct linear_op op = {.value = worker->value, .begin = worker->begin, .end = uv_hrtime()};
    enum fate fate = FATE_NONE;
    struct message message;
    char path[64];
    char text[LINE_BYTES] = "";

    worker->busy = false;
    switch (worker->step) {
    case STEP_APPEND:
        history.append[worker->at] = fate_of(err);
        break;
    case STEP_WRITE:
        fate = fate_of(err);
        op.is_write = true;
        op.end = fate == FATE_UNKNOWN ? LINEAR_NEVER : op.end;
        if (fate != FATE_NONE) {
            record(worker->at, op);
        }
        break;
    case STEP_SYNC:
        history.unread += err == ERR_OK ? 0 : 1;
        if (err == ERR_OK) {
            worker->step = STEP_READ;
            (void)snprintf(path, sizeof(path), "%s/%zu", history.folder, worker->at);
            message_init(&message, path);
            message_read(&message);
            ask(worker, &message, READ_MS, on_answer);
            return;
        }
        break;
    case STEP_READ:
        history.unread += err == ERR_OK ? 0 : 1;
        if (err == ERR_OK) {
            CHECK(answer->data.len < sizeof(text));
            if (answer->data.len > 0) {
                memcpy(text, answer->data.data, answer->data.len);
                CHECK(parse_u64(text, 1, UINT64_MAX, &op.value) == ERR_OK);
            } else {
                op.value = 0;
            }
            record(worker->at, op);
        }
        break;
    }
    if (err == ERR_OK && (worker->step == STEP_WRITE || worker->step == STEP_APPEND)) {
        write_was_answered();
    }
    next(worker);
}

/* ---- the load ---- */

static uint64_t random_below(uint64_t limit)
{
    /* xorshift64*, by seed: which operations there are does not depend on the C library. */
    history.seed ^= history.seed >> 12;
    history.seed ^= history.seed << 25;
    history.seed ^= history.seed >> 27;
    return history.seed * UINT64_C(0x2545F4914F6CDD1D) % limit;
}

static void next(struct worker *worker)
{
    struct message message;
    char path[64];

    if (uv_hrtime() >= history.end_ns) {
        return;
    }
    worker->begin = uv_hrtime();
    worker->at = random_below(history.registers);
    (void)snprintf(path, sizeof(path), "%s/%zu", history.folder, worker->at);
    if (random_below(100) < APPEND_PER_CENT && history.appends < APPENDS_MAX) {
        worker->step = STEP_APPEND;
        worker->at = history.appends++;
        history.append[worker->at] = FATE_UNKNOWN;
        (void)snprintf(path, sizeof(path), "%s/log", history.folder);
        message_init(&message, path);
        message_write(&message, /* append */ true, worker->at);
        ask(worker, &message, WRITE_MS, on_answer);
    } else if (random_below(2) == 0) {
        worker->step = STEP_WRITE;
        worker->value = ++history.value;
        message_init(&message, path);
        message_write(&message, /* append */ false, worker->value);
        ask(worker, &message, WRITE_MS, on_answer);
    } else {
        worker->step = STEP_SYNC;
        message_init(&message, path);
        wire__sync_read__init(&message.sync);
        message.request.body_case = WIRE__REQUEST__BODY_SYNC;
        message.request.sync = &message.sync;
        ask(worker, &message, READ_MS, on_answer);
    }
}

/* ---- before and after ---- */

static void on_state(void *arg, enum client_state state)
{
    struct worker *worker = arg;

    worker->ready = state == CLIENT_READY;
    worker->was_ready = worker->was_ready || worker->ready;
    history.lost += state == CLIENT_LOST ? 1 : 0;
}

static void on_closed(void *arg)
{
    struct worker *worker = arg;

    worker->closed = true;
}

static void on_made(void *arg, enum err err, const Wire__Answer *answer)
{
    struct worker *worker = arg;

    (void)answer;
    CHECK(err == ERR_OK || err == ERR_EXISTS);
    worker->busy = false;
}

/* The list of servers beginning with number `by`. */
static void rotate(const char *servers, uint64_t by, struct buffer *out)
{
    const char *first = servers;

    for (; by > 0; by--) {
        const char *comma = strchr(first, ',');
        first = comma != NULL ? comma + 1 : servers;
    }
    CHECK(buffer_printf(out, "%s", first) == ERR_OK);
    if (first != servers) {
        CHECK(buffer_printf(out, ",%.*s", (int)(first - servers - 1), servers) == ERR_OK);
    }
}

static bool all_are(bool (*is)(const struct worker *worker))
{
    for (uint64_t i = 0; i < history.clients; i++) {
        if (!is(&history.worker[i])) {
            return false;
        }
    }
    return true;
}

static bool is_ready(const struct worker *worker)
{
    return worker->was_ready;
}

static bool is_idle(const struct worker *worker)
{
    return !worker->busy;
}

static bool is_closed(const struct worker *worker)
{
    return worker->closed;
}

/* Turns of the loop; false: not within SETTLE_MS. */
static bool run_until_all(bool (*is)(const struct worker *worker))
{
    uint64_t limit_ns = uv_hrtime() + SETTLE_MS * UINT64_C(1000000);

    while (!all_are(is) && uv_hrtime() < limit_ns) {
        (void)uv_run(&history.loop, UV_RUN_ONCE);
    }
    return all_are(is);
}

static void make_node(const char *path, Wire__Kind kind)
{
    struct message message;

    message_init(&message, path);
    message_create(&message, kind);
    ask(&history.worker[0], &message, WRITE_MS, on_made);
    CHECK(run_until_all(is_idle));
}

static void begin(void)
{
    char path[64];

    CHECK(uv_loop_init(&history.loop) == 0);
    for (uint64_t i = 0; i < history.clients; i++) {
        struct worker *worker = &history.worker[i];
        struct buffer servers = {0};
        struct buffer error = {0};
        rotate(history.servers, i, &servers);
        const struct client_options options = {.servers = (const char *)servers.data,
                                               .program = "history",
                                               .session = true,
                                               .timeout_ms = (uint32_t)history.timeout_ms,
                                               .state = on_state,
                                               .arg = worker};
        worker->history = &history;
        CHECK(client_new(&history.loop, &options, &worker->client, &error) == ERR_OK);
        buffer_done(&servers);
    }
    CHECK(run_until_all(is_ready));
    make_node(history.folder, WIRE__KIND__KIND_DIR);
    (void)snprintf(path, sizeof(path), "%s/log", history.folder);
    make_node(path, WIRE__KIND__KIND_FILE);
    for (uint64_t i = 0; i < history.registers; i++) {
        (void)snprintf(path, sizeof(path), "%s/%" PRIu64, history.folder, i);
        make_node(path, WIRE__KIND__KIND_FILE);
    }
}

/* ---- the verdict ---- */

static bool check_registers(void)
{
    struct linear_op *ops = calloc(history.count + 1, sizeof(*ops));
    bool good = true;

    CHECK(ops != NULL);
    for (size_t at = 0; at < history.registers && good; at++) {
        size_t count = 0;
        char why[256] = "";
        for (size_t i = 0; i < history.count; i++) {
            if (history.records[i].at == at) {
                ops[count++] = history.records[i].op;
            }
        }
        good = linear_check(ops, count, why, sizeof(why));
        if (!good) {
            (void)fprintf(stderr, "history: register %zu is not linearizable: %s\n", at, why);
        }
    }
    free(ops);
    return good;
}

/* Each line of the log counts; false: one that was acknowledged is missing, or one is there that
 * must not be. */
static bool check_lines(const char *text, size_t len)
{
    static unsigned seen[APPENDS_MAX];
    const char *end = text + len;

    while (text < end) {
        char line[LINE_BYTES] = "";
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        uint64_t number = 0;
        CHECK(newline != NULL && newline - text < (ptrdiff_t)sizeof(line));
        memcpy(line, text, (size_t)(newline - text));
        CHECK(parse_u64(line, 0, APPENDS_MAX - 1, &number) == ERR_OK);
        seen[number]++;
        text = newline + 1;
    }
    for (size_t i = 0; i < history.appends; i++) {
        bool good = (history.append[i] == FATE_DONE && seen[i] == 1) ||
                    (history.append[i] == FATE_NONE && seen[i] == 0) ||
                    (history.append[i] == FATE_UNKNOWN && seen[i] <= 1);
        if (!good) {
            (void)fprintf(stderr, "history: append %zu is there %u times, its fate was %s\n", i,
                          seen[i],
                          history.append[i] == FATE_DONE   ? "done"
                          : history.append[i] == FATE_NONE ? "not done"
                                                           : "unknown");
            return false;
        }
    }
    return true;
}

static bool log_is_good;

static void on_log(void *arg, enum err err, const Wire__Answer *answer)
{
    struct worker *worker = arg;

    CHECK(err == ERR_OK);
    log_is_good = check_lines((const char *)answer->data.data, answer->data.len);
    worker->busy = false;
}

static bool check_log(void)
{
    struct worker *worker = &history.worker[0];
    struct message message;
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/log", history.folder);
    message_init(&message, path);
    wire__sync_read__init(&message.sync);
    message.request.body_case = WIRE__REQUEST__BODY_SYNC;
    message.request.sync = &message.sync;
    ask(worker, &message, 0, on_made);
    CHECK(run_until_all(is_idle));
    message_init(&message, path);
    message_read(&message);
    ask(worker, &message, 0, on_log);
    CHECK(run_until_all(is_idle));
    return log_is_good;
}

static bool finish(void)
{
    bool good = run_until_all(is_idle);

    if (!good) {
        (void)fputs("history: some operations never ended\n", stderr);
        return false;
    }
    good = check_registers() && check_log();
    (void)printf("ops=%zu appends=%zu unknown=%" PRIu64 " failed=%" PRIu64 " unread=%" PRIu64
                 " lost=%" PRIu64 " gap_ms=%" PRIu64 "\n",
                 history.count, history.appends, history.unknown, history.failed, history.unread,
                 history.lost, history.gap_ns / 1000000);
    for (uint64_t i = 0; i < history.clients; i++) {
        client_close(history.worker[i].client, on_closed, &history.worker[i]);
    }
    CHECK(run_until_all(is_closed));
    (void)uv_run(&history.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&history.loop) == 0);
    free(history.records);
    return good;
}

static bool parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"server", required_argument, NULL, 's'},
        {"clients", required_argument, NULL, 'c'},
        {"registers", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 'e'},
        {"timeout", required_argument, NULL, 'o'},
        {NULL, 0, NULL, 0},
    };
    int letter = 0;
    bool good = true;

    history.clients = 6;
    history.registers = 8;
    history.seconds = 10;
    history.seed = uv_hrtime() | 1;
    while (good && (letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 's':
            history.servers = optarg;
            break;
        case 'c':
            good = parse_u64(optarg, 1, CLIENTS_MAX, &history.clients) == ERR_OK;
            break;
        case 'r':
            good = parse_u64(optarg, 1, REGISTERS_MAX, &history.registers) == ERR_OK;
            break;
        case 't':
            good = parse_u64(optarg, 1, 3600, &history.seconds) == ERR_OK;
            break;
        case 'o':
            good = parse_u64(optarg, SESSION_TIMEOUT_MS_MIN, SESSION_TIMEOUT_MS_MAX,
                             &history.timeout_ms) == ERR_OK;
            break;
        case 'e':
            good = parse_u64(optarg, 1, UINT64_MAX, &history.seed) == ERR_OK;
            break;
        default:
            good = false;
        }
    }
    return good && optind == argc && history.servers != NULL;
}

int main(int argc, char **argv)
{
    if (!parse_arguments(argc, argv)) {
        (void)fputs("usage: history --server ADDR[,ADDR] [--clients N] [--registers N] "
                    "[--seconds N] [--seed N] [--timeout MS]\n",
                    stderr);
        return 2;
    }
    logging_set_level(LOG_LEVEL_ERROR);
    (void)printf("SEED=%" PRIu64 "\n", history.seed);
    (void)snprintf(history.folder, sizeof(history.folder), "/history-%" PRIx64, history.seed);
    begin();
    (void)puts("began");
    (void)fflush(stdout);
    history.end_ns = uv_hrtime() + history.seconds * UINT64_C(1000000000);
    for (uint64_t i = 0; i < history.clients; i++) {
        next(&history.worker[i]);
    }
    while (uv_hrtime() < history.end_ns) {
        (void)uv_run(&history.loop, UV_RUN_ONCE);
    }
    return finish() ? 0 : 1;
}
