/* SPDX-License-Identifier: Apache-2.0
 *
 * A load for an ensemble over the native protocol: so many sessions, each with so many requests in
 * flight, from one thread. Prints one line of key=value. Also fills a tree for start tests.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "common/parse.h"
#include "fs/client/client.h"

#define SESSIONS_BENCH_MAX 1024u
#define DIRECTORY_NODES    1000u /* nodes in one directory */
#define CALL_TIMEOUT_MS    60000u

/* Latencies in classes: 32 to each power of two of nanoseconds. */
#define CLASSES_PER_POWER 32u
#define CLASSES           (64u * CLASSES_PER_POWER)

enum what {
    WHAT_SET,
    WHAT_GET,
    WHAT_CREATE,
    WHAT_FILL,
    WHAT_REMOVE,
};
static const char *const what_names[] = {"set", "get", "create", "fill", "remove"};
static const char *const folders[] = {"/bench", "/bench", "/create", "/fill", "/fill"};

struct bench;

struct worker {
    struct bench *bench;
    struct client *client;
    bool ready;
    bool closed;
};

/* One request in flight; its place in the struct is its argument. */
struct slot {
    struct worker *worker;
    uint64_t begun_ns;
    enum what what; /* while preparing, another than the bench's */
    bool busy;
};

struct bench {
    /* From the command line. */
    const char *servers;
    const char *folder;
    enum what what;
    uint64_t sessions;
    uint64_t outstanding;
    uint64_t nodes;
    uint64_t bytes;
    uint64_t seconds; /* 0: until `ops` */
    uint64_t ops;     /* 0: until `seconds` */
    bool spread;

    uv_loop_t loop;
    struct worker *workers;
    struct slot *slots;
    uint8_t *data;
    uint64_t next;  /* number of the next operation */
    uint64_t limit; /* operations of this part */
    uint64_t deadline_ns;
    uint64_t in_flight;
    uint64_t done;
    uint64_t errors;
    enum err first_err;
    uint64_t classes[CLASSES];
};

/* ---- latencies ---- */

static unsigned class_of(uint64_t ns)
{
    unsigned power = 0;

    while (power < 58 && ns >> power >= 2 * CLASSES_PER_POWER) {
        power++;
    }
    return power * CLASSES_PER_POWER + (unsigned)(ns >> power);
}

/* The upper end of a class, in microseconds. */
static double class_us(unsigned number)
{
    if (number < 2 * CLASSES_PER_POWER) {
        return (double)number / 1000.0;
    }
    unsigned power = number / CLASSES_PER_POWER - 1;
    uint64_t base = number - power * CLASSES_PER_POWER;
    return (double)((base + 1) << power) / 1000.0;
}

static double percentile_us(const struct bench *bench, unsigned per_mille)
{
    uint64_t wanted = (bench->done * per_mille + 999) / 1000;
    uint64_t count = 0;

    for (unsigned i = 0; i < CLASSES; i++) {
        count += bench->classes[i];
        if (count >= wanted && count > 0) {
            return class_us(i);
        }
    }
    return 0;
}

/* ---- requests ---- */

static size_t node_path(const struct bench *bench, uint64_t number, char *to, size_t size)
{
    int len = snprintf(to, size, "%s/%06llu/%06llu", bench->folder,
                       (unsigned long long)(number / DIRECTORY_NODES),
                       (unsigned long long)(number % DIRECTORY_NODES));
    CHECK(len > 0 && (size_t)len < size);
    return (size_t)len;
}

/* Everything a request points at until it is packed. */
struct message {
    char path[PATH_BYTES_MAX];
    Wire__Address at;
    Wire__Op op;
    Wire__CreateOp create;
    Wire__WriteOp write;
    Wire__RemoveOp remove;
    Wire__Range range;
    Wire__Range *ranges[1];
    Wire__DataRead read;
    Wire__Request request;
};

static void message_create(struct message *message, Wire__Kind kind, const void *data, size_t len)
{
    wire__create_op__init(&message->create);
    message->create.at = &message->at;
    message->create.kind = kind;
    message->create.mode = kind == WIRE__KIND__KIND_DIR ? 0755 : 0644;
    message->create.data = wire_bytes(data, len);
    message->op.body_case = WIRE__OP__BODY_CREATE;
    message->op.create = &message->create;
}

static void message_write(struct message *message, const void *data, size_t len)
{
    wire__write_op__init(&message->write);
    wire__range__init(&message->range);
    message->range.data = wire_bytes(data, len);
    message->ranges[0] = &message->range;
    message->write.at = &message->at;
    message->write.truncate = true;
    message->write.n_ranges = 1;
    message->write.ranges = message->ranges;
    message->op.body_case = WIRE__OP__BODY_WRITE;
    message->op.write = &message->write;
}

static void message_init(struct message *message, size_t path_len)
{
    wire__address__init(&message->at);
    wire__op__init(&message->op);
    wire__request__init(&message->request);
    message->at.path = wire_bytes(message->path, path_len);
    message->request.body_case = WIRE__REQUEST__BODY_OP;
    message->request.op = &message->op;
}

static void message_fill(const struct bench *bench, struct message *message, enum what what,
                         uint64_t number)
{
    uint64_t node = what == WHAT_SET || what == WHAT_GET ? number % bench->nodes : number;

    message_init(message, node_path(bench, node, message->path, sizeof message->path));
    switch (what) {
    case WHAT_SET:
        message_write(message, bench->data, bench->bytes);
        break;
    case WHAT_GET:
        wire__data_read__init(&message->read);
        message->read.at = &message->at;
        message->read.bytes_max = FILE_BYTES_MAX;
        message->request.body_case = WIRE__REQUEST__BODY_DATA;
        message->request.data = &message->read;
        break;
    case WHAT_CREATE:
    case WHAT_FILL:
        message_create(message, WIRE__KIND__KIND_FILE, bench->data, bench->bytes);
        break;
    case WHAT_REMOVE:
        wire__remove_op__init(&message->remove);
        message->remove.at = &message->at;
        message->op.body_case = WIRE__OP__BODY_REMOVE;
        message->op.remove = &message->remove;
        break;
    }
}

/* ---- the load ---- */

static void slot_next(struct slot *slot);

static void on_answer(void *arg, enum err err, const Wire__Answer *answer)
{
    struct slot *slot = arg;
    struct bench *bench = slot->worker->bench;
    (void)answer;

    bench->in_flight--;
    bench->done++;
    bench->classes[class_of(uv_hrtime() - slot->begun_ns)]++;
    /* What a killed run left is as good as made. */
    bool is_fine = err == ERR_OK || (err == ERR_EXISTS && slot->what == WHAT_FILL) ||
                   (err == ERR_NO_NODE && slot->what == WHAT_REMOVE);
    if (!is_fine) {
        bench->first_err = bench->errors == 0 ? err : bench->first_err;
        bench->errors++;
    }
    slot_next(slot);
}

static void slot_next(struct slot *slot)
{
    struct bench *bench = slot->worker->bench;
    struct call_options options = {.timeout_ms = CALL_TIMEOUT_MS, .done = on_answer, .arg = slot};
    struct message message;
    enum err err = ERR_OK;

    if (bench->next >= bench->limit || uv_hrtime() >= bench->deadline_ns) {
        return;
    }
    message_fill(bench, &message, slot->what, bench->next++);
    slot->begun_ns = uv_hrtime();
    if (client_call(slot->worker->client, &message.request, &options, &err) == NULL) {
        (void)fprintf(stderr, "bench_native: %s\n", err_text(err));
        exit(1);
    }
    bench->in_flight++;
}

/* Runs operations [0, limit) or until the deadline; counters are those of this part. */
static double run_part(struct bench *bench, enum what what, uint64_t limit, uint64_t seconds)
{
    uint64_t begin_ns = uv_hrtime();

    bench->next = 0;
    bench->limit = limit;
    bench->deadline_ns = seconds == 0 ? UINT64_MAX : begin_ns + seconds * 1000000000u;
    bench->done = 0;
    bench->errors = 0;
    memset(bench->classes, 0, sizeof bench->classes);
    for (uint64_t i = 0; i < bench->sessions * bench->outstanding; i++) {
        bench->slots[i].what = what;
        slot_next(&bench->slots[i]);
    }
    while (bench->in_flight > 0) {
        (void)uv_run(&bench->loop, UV_RUN_ONCE);
    }
    return (double)(uv_hrtime() - begin_ns) / 1e9;
}

/* ---- before and after ---- */

static void on_state(void *arg, enum client_state state)
{
    struct worker *worker = arg;
    worker->ready = state == CLIENT_READY;
}

static void on_closed(void *arg)
{
    struct worker *worker = arg;
    worker->closed = true;
}

/* The list of servers with the one of this session first. */
static enum err rotated(const char *servers, uint64_t by, struct buffer *out)
{
    uint64_t count = 1;
    const char *first = servers;

    for (const char *at = servers; *at != '\0'; at++) {
        count += *at == ',';
    }
    for (by %= count; by > 0; by--) {
        first = strchr(first, ',') + 1;
    }
    enum err err = buffer_printf(out, "%s", first);
    if (err == ERR_OK && first != servers) {
        err = buffer_printf(out, ",%.*s", (int)(first - servers - 1), servers);
    }
    return err;
}

static enum err connect_all(struct bench *bench)
{
    for (uint64_t i = 0; i < bench->sessions; i++) {
        struct worker *worker = &bench->workers[i];
        struct buffer servers = {0};
        struct buffer error = {0};
        worker->bench = bench;
        enum err err = rotated(bench->servers, bench->spread ? i : 0, &servers);
        struct client_options options = {.servers = (const char *)servers.data,
                                         .program = "bench_native",
                                         .session = true,
                                         .state = on_state,
                                         .arg = worker};
        err = err == ERR_OK ? client_new(&bench->loop, &options, &worker->client, &error) : err;
        if (err != ERR_OK) {
            (void)fprintf(stderr, "bench_native: %s\n",
                          error.len > 0 ? (const char *)error.data : err_text(err));
        }
        buffer_done(&servers);
        buffer_done(&error);
        if (err != ERR_OK) {
            return err;
        }
    }
    for (uint64_t i = 0; i < bench->sessions; i++) {
        while (!bench->workers[i].ready) {
            (void)uv_run(&bench->loop, UV_RUN_ONCE);
        }
    }
    return ERR_OK;
}

struct prepared {
    bool done;
    enum err err;
};

static void on_prepared(void *arg, enum err err, const Wire__Answer *answer)
{
    struct prepared *prepared = arg;
    (void)answer;
    prepared->done = true;
    prepared->err = err;
}

/* Makes one directory; one that is there is fine. */
static enum err make_directory(struct bench *bench, const char *path)
{
    struct message message;
    struct prepared prepared = {0};
    struct call_options options = {
        .timeout_ms = CALL_TIMEOUT_MS, .done = on_prepared, .arg = &prepared};
    enum err err = ERR_OK;

    message_init(&message, 0);
    message.at.path = wire_bytes(path, strlen(path));
    message_create(&message, WIRE__KIND__KIND_DIR, NULL, 0);
    if (client_call(bench->workers[0].client, &message.request, &options, &err) == NULL) {
        return err;
    }
    while (!prepared.done) {
        (void)uv_run(&bench->loop, UV_RUN_ONCE);
    }
    return prepared.err == ERR_EXISTS ? ERR_OK : prepared.err;
}

static enum err make_directories(struct bench *bench, uint64_t nodes)
{
    char path[PATH_BYTES_MAX];
    enum err err = make_directory(bench, bench->folder);

    for (uint64_t i = 0; err == ERR_OK && i * DIRECTORY_NODES < nodes; i++) {
        (void)snprintf(path, sizeof path, "%s/%06llu", bench->folder, (unsigned long long)i);
        err = make_directory(bench, path);
    }
    return err;
}

/* Nodes that the load needs or makes. */
static enum err prepare(struct bench *bench)
{
    bool makes = bench->what == WHAT_CREATE || bench->what == WHAT_FILL;
    uint64_t nodes = makes && bench->ops > bench->nodes ? bench->ops : bench->nodes;
    enum err err = bench->what == WHAT_REMOVE ? ERR_OK : make_directories(bench, nodes);

    if (err == ERR_OK && (bench->what == WHAT_SET || bench->what == WHAT_GET)) {
        (void)run_part(bench, WHAT_FILL, bench->nodes, 0);
        err = bench->errors == 0 ? ERR_OK : bench->first_err;
    }
    return err;
}

static int measure(struct bench *bench)
{
    /* What makes or removes nodes has an end. */
    bool bounded = bench->what != WHAT_SET && bench->what != WHAT_GET;
    uint64_t limit = bench->ops != 0 ? bench->ops : bounded ? bench->nodes : UINT64_MAX;
    double seconds = run_part(bench, bench->what, limit, bench->seconds);

    (void)printf("op=%s sessions=%llu outstanding=%llu nodes=%llu bytes=%llu ops=%llu errors=%llu "
                 "seconds=%.3f ops_per_s=%.0f p50_us=%.1f p99_us=%.1f p999_us=%.1f\n",
                 what_names[bench->what], (unsigned long long)bench->sessions,
                 (unsigned long long)bench->outstanding, (unsigned long long)bench->nodes,
                 (unsigned long long)bench->bytes, (unsigned long long)bench->done,
                 (unsigned long long)bench->errors, seconds, (double)bench->done / seconds,
                 percentile_us(bench, 500), percentile_us(bench, 990), percentile_us(bench, 999));
    if (bench->errors > 0) {
        (void)fprintf(stderr, "bench_native: first error: %s\n", err_text(bench->first_err));
        return 1;
    }
    return 0;
}

static void close_all(struct bench *bench)
{
    for (uint64_t i = 0; i < bench->sessions; i++) {
        if (bench->workers[i].client != NULL) {
            client_close(bench->workers[i].client, on_closed, &bench->workers[i]);
        }
    }
    (void)uv_run(&bench->loop, UV_RUN_DEFAULT);
}

static int run(struct bench *bench)
{
    int status = 1;

    bench->workers = calloc(bench->sessions, sizeof *bench->workers);
    bench->slots = calloc(bench->sessions * bench->outstanding, sizeof *bench->slots);
    bench->data = malloc(bench->bytes + 1);
    if (bench->workers == NULL || bench->slots == NULL || bench->data == NULL ||
        uv_loop_init(&bench->loop) != 0) {
        (void)fputs("bench_native: out of memory\n", stderr);
        goto out;
    }
    memset(bench->data, 'x', bench->bytes + 1);
    for (uint64_t i = 0; i < bench->sessions * bench->outstanding; i++) {
        bench->slots[i].worker = &bench->workers[i % bench->sessions];
    }
    if (connect_all(bench) != ERR_OK) {
        goto out;
    }
    enum err err = prepare(bench);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "bench_native: prepare: %s\n", err_text(err));
    } else {
        status = measure(bench);
    }
    close_all(bench);
    (void)uv_loop_close(&bench->loop);

out:
    free(bench->data);
    free(bench->slots);
    free(bench->workers);
    return status;
}

/* ---- command line ---- */

static const char help[] =
    "Usage: bench_native [OPTION]... set|get|create|fill|remove\n"
    "Load an ensemble over the native protocol and print what it did.\n"
    "\n"
    "  --server ADDR[,ADDR]  replicas (default 127.0.0.1:2181)\n"
    "  --spread              each session begins with another of them\n"
    "  --sessions N          sessions (default 1)\n"
    "  --outstanding N       requests in flight of each session (default 1)\n"
    "  --nodes N             nodes (default 1000)\n"
    "  --bytes N             data of a node (default 100)\n"
    "  --folder PATH         where they lie (default /bench, /create or /fill)\n"
    "  --seconds N           stop after N seconds\n"
    "  --ops N               stop after N operations\n"
    "\n"
    "set and get work on --nodes nodes, which are made first, for 5 seconds unless told\n"
    "otherwise. create and fill make --nodes (or --ops) new ones in directories of 1000;\n"
    "fill takes those that are there. remove takes them away again.\n";

struct number_option {
    const char *name;
    uint64_t min, max;
    uint64_t *to;
};

static bool take_number(const struct number_option *numbers, size_t index)
{
    if (parse_u64(optarg, numbers[index].min, numbers[index].max, numbers[index].to) == ERR_OK) {
        return true;
    }
    (void)fprintf(stderr, "bench_native: --%s: '%s' is not a number from %llu to %llu\n",
                  numbers[index].name, optarg, (unsigned long long)numbers[index].min,
                  (unsigned long long)numbers[index].max);
    return false;
}

/* Returns an exit status, or -1 to go on. */
static int parse(struct bench *bench, int argc, char **argv)
{
    const struct number_option numbers[] = {
        {"sessions", 1, SESSIONS_BENCH_MAX, &bench->sessions},
        {"outstanding", 1, SESSION_WINDOW, &bench->outstanding},
        {"nodes", 1, 1000000000, &bench->nodes},
        {"bytes", 0, FILE_BYTES_MAX, &bench->bytes},
        {"seconds", 1, 86400, &bench->seconds},
        {"ops", 1, 1000000000, &bench->ops},
    };
    enum {
        NUMBERS = sizeof numbers / sizeof numbers[0]
    };
    struct option options[NUMBERS + 5] = {{"server", required_argument, NULL, 'S'},
                                          {"folder", required_argument, NULL, 'F'},
                                          {"spread", no_argument, NULL, 'P'},
                                          {"help", no_argument, NULL, 'h'}};
    int option = 0;

    for (size_t i = 0; i < NUMBERS; i++) {
        options[4 + i] = (struct option){numbers[i].name, required_argument, NULL, 256 + (int)i};
    }
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'S') {
            bench->servers = optarg;
        } else if (option == 'F') {
            bench->folder = optarg;
        } else if (option == 'P') {
            bench->spread = true;
        } else if (option == 'h') {
            (void)fputs(help, stdout);
            return 0;
        } else if (option < 256 || !take_number(numbers, (size_t)option - 256)) {
            return 2;
        }
    }
    for (size_t i = 0; argc - optind == 1 && i < sizeof what_names / sizeof what_names[0]; i++) {
        if (strcmp(argv[optind], what_names[i]) == 0) {
            bench->what = (enum what)i;
            return -1;
        }
    }
    (void)fputs("bench_native: set, get, create, fill or remove is needed\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct bench bench = {
        .servers = "127.0.0.1:2181", .sessions = 1, .outstanding = 1, .nodes = 1000, .bytes = 100};

    logging_set_level(LOG_LEVEL_WARN);
    int status = parse(&bench, argc, argv);
    if (status >= 0) {
        return status;
    }
    if (bench.folder == NULL) {
        bench.folder = folders[bench.what];
    }
    if (bench.seconds == 0 && bench.ops == 0 &&
        (bench.what == WHAT_SET || bench.what == WHAT_GET)) {
        bench.seconds = 5;
    }
    return run(&bench);
}
