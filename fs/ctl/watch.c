/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl watch: prints the changes at and below a path, or runs a command after them (reload.c).
 *
 * Lines are gathered a batch at a time and written as far as the reader takes them; only then the
 * replica is asked for more. A reader that is slow costs a batch of memory, and at last a gap.
 */
#include "fs/ctl/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/parse.h"
#include "fs/client/watch_text.h"

#define DEBOUNCE_MS_DEFAULT 100u
#define DEBOUNCE_MS_MAX     3600000u
#define WRITE_BYTES         4096u /* PIPE_BUF: so much fits into a pipe that polls as writable */
#define WRITE_POLL_MS       50    /* between two looks after the connection while nobody reads */

/* ---- the loop ---- */

bool watching_is_over(const struct watching *watching)
{
    return watching->stopped || watching->err != ERR_OK;
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* It has ended a wait. */
}

void watching_wait(struct watching *watching, uint64_t until_ms)
{
    uint64_t now_ms = uv_now(&watching->ctl->loop);

    if (until_ms != UINT64_MAX) {
        (void)uv_timer_start(&watching->timer, on_timer, until_ms > now_ms ? until_ms - now_ms : 0,
                             /* repeat */ 0);
    }
    (void)uv_run(&watching->ctl->loop, UV_RUN_ONCE);
    (void)uv_timer_stop(&watching->timer);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct watching *watching = handle->data;
    (void)number;
    watching->stopped = true;
}

static void on_told(void *arg, uint64_t zxid)
{
    struct watching *watching = arg;
    (void)zxid;
    watching->started = true;
}

static void on_failed(void *arg, enum err err)
{
    struct watching *watching = arg;
    watching->err = err;
}

/* ---- printing ---- */

static void put_json(FILE *to, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);

    if (text != NULL) {
        (void)fprintf(to, "%s\n", text);
    }
    free(text);
    json_decref(object);
}

static void put_change_json(FILE *to, const Wire__Change *change)
{
    json_t *object = json_object();

    ctl_json_number(object, "zxid", change->zxid);
    (void)json_object_set_new(object, "event", json_string(watch_text_event(change)));
    ctl_json_bytes(object, "path", change->path.data, change->path.len);
    if (change->to_path.len > 0) {
        ctl_json_bytes(object, "to", change->to_path.data, change->to_path.len);
    }
    ctl_json_number(object, "version", change->version);
    (void)json_object_set_new(object, "kind", json_string(ctl_kind_name(change->node_kind)));
    if (change->truncated) {
        (void)json_object_set_new(object, "truncated", json_true());
    }
    put_json(to, object);
}

static void put_change(FILE *to, const Wire__Change *change)
{
    struct buffer line = {0};

    if (watch_text_change(change, "/", &line) == ERR_OK) {
        (void)fwrite(line.data, 1, line.len, to);
    }
    buffer_done(&line);
}

/* Lines can be added. */
static FILE *lines_begin(struct watching *watching)
{
    if (watching->lines == NULL) {
        watching->lines = open_memstream(&watching->text, &watching->text_len);
    }
    if (watching->lines == NULL) {
        watching->err = ERR_MEMORY;
    }
    return watching->lines;
}

static void print_changes(void *arg, Wire__Change *const *changes, size_t count)
{
    struct watching *watching = arg;
    FILE *to = lines_begin(watching);

    for (size_t i = 0; to != NULL && i < (watching->once ? 1 : count); i++) {
        if (watching->ctl->json) {
            put_change_json(to, changes[i]);
        } else {
            put_change(to, changes[i]);
        }
    }
}

static void print_gap(void *arg, uint64_t from, uint64_t to_zxid)
{
    struct watching *watching = arg;
    FILE *to = lines_begin(watching);

    if (to != NULL && watching->ctl->json) {
        json_t *object = json_object();
        ctl_json_number(object, "zxid", to_zxid);
        (void)json_object_set_new(object, "event", json_string("gap"));
        ctl_json_number(object, "from", from);
        ctl_json_number(object, "to", to_zxid);
        put_json(to, object);
    } else if (to != NULL) {
        struct buffer line = {0};
        if (watch_text_gap(from, to_zxid, &line) == ERR_OK) {
            (void)fwrite(line.data, 1, line.len, to);
        }
        buffer_done(&line);
    }
}

/* Writes what can be written without waiting. False: the reader has gone, or another error. */
static bool write_some(const char *text, size_t len, size_t *at)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    int ready = poll(&out, 1, WRITE_POLL_MS);

    if (ready <= 0) {
        return ready == 0 || errno == EINTR;
    }
    size_t part = len - *at < WRITE_BYTES ? len - *at : WRITE_BYTES;
    ssize_t count = write(STDOUT_FILENO, text + *at, part);
    if (count < 0) {
        return errno == EINTR || errno == EAGAIN;
    }
    *at += (size_t)count;
    return true;
}

/* Writes the gathered lines; the connection lives meanwhile. */
static enum ctl_exit write_lines(struct watching *watching)
{
    enum ctl_exit code = CTL_OK;
    size_t at = 0;

    if (fclose(watching->lines) != 0) {
        watching->err = ERR_MEMORY;
    }
    watching->lines = NULL;
    while (code == CTL_OK && at < watching->text_len && !watching_is_over(watching)) {
        if (!write_some(watching->text, watching->text_len, &at)) {
            if (errno != EPIPE) {
                (void)fprintf(stderr, "quorumctl: standard output: %s\n", strerror(errno));
            }
            code = CTL_FAILED;
        }
        (void)uv_run(&watching->ctl->loop, UV_RUN_NOWAIT);
    }
    free(watching->text);
    watching->text = NULL;
    return code;
}

static enum ctl_exit print_run(struct watching *watching)
{
    enum ctl_exit code = CTL_OK;

    while (code == CTL_OK && !watching_is_over(watching)) {
        if (watching->lines == NULL) {
            client_watch_more(watching->watch);
            watching_wait(watching, UINT64_MAX);
            continue;
        }
        code = write_lines(watching);
        if (watching->once) {
            return code;
        }
    }
    return code;
}

/* ---- the command ---- */

/* Signals and timer; none of these can fail but for a lack of memory. */
static void handles_open(struct watching *watching)
{
    static const int numbers[2] = {SIGTERM, SIGINT};

    for (size_t i = 0; i < 2; i++) {
        (void)uv_signal_init(&watching->ctl->loop, &watching->signal[i]);
        watching->signal[i].data = watching;
        (void)uv_signal_start(&watching->signal[i], on_signal, numbers[i]);
    }
    (void)uv_timer_init(&watching->ctl->loop, &watching->timer);
}

static void handles_close(struct watching *watching)
{
    uv_close((uv_handle_t *)&watching->signal[0], NULL);
    uv_close((uv_handle_t *)&watching->signal[1], NULL);
    uv_close((uv_handle_t *)&watching->timer, NULL);
    (void)uv_run(&watching->ctl->loop, UV_RUN_NOWAIT);
}

/* Waits for a replica that says where the stream begins. */
static void wait_for_start(struct watching *watching)
{
    uint64_t until_ms = uv_now(&watching->ctl->loop) + watching->ctl->timeout_ms;

    while (!watching->started && !watching_is_over(watching)) {
        if (uv_now(&watching->ctl->loop) >= until_ms) {
            watching->err = ERR_TIMEOUT;
            return;
        }
        watching_wait(watching, until_ms);
    }
}

static enum ctl_exit watch_path(struct watching *watching, uint64_t since_zxid,
                                const struct reload_options *reload)
{
    struct ctl *ctl = watching->ctl;
    bool reloads = reload->exec != NULL;
    struct client_watch_options options = {
        .path = (const char *)watching->path->data,
        .path_len = watching->path->len,
        .recursive = ctl->given['r'],
        .has_since = ctl->given['s'],
        .since_zxid = since_zxid,
        .changes = reloads ? reload_changes : print_changes,
        .gap = reloads ? reload_gap : print_gap,
        .told = on_told,
        .failed = on_failed,
        .arg = watching,
    };
    enum ctl_exit code = CTL_OK;

    watching->err = client_watch(ctl->client, &options, &watching->watch);
    if (watching->err != ERR_OK) {
        return ctl_fail(ctl, options.path, watching->err);
    }
    handles_open(watching);
    wait_for_start(watching);
    if (!watching_is_over(watching)) {
        code = reloads ? reload_run(watching, reload) : print_run(watching);
    }
    if (watching->err != ERR_OK) {
        code = ctl_fail(ctl, options.path, watching->err);
    }
    client_watch_end(watching->watch);
    handles_close(watching);
    if (watching->lines != NULL) {
        (void)fclose(watching->lines);
    }
    free(watching->text);
    return code;
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    struct buffer path = {0};
    struct watching watching = {.ctl = ctl, .path = &path, .once = ctl->given['o']};
    struct reload_options reload = {
        .exec = ctl->value['e'], .check = ctl->value['c'], .debounce_ms = DEBOUNCE_MS_DEFAULT};
    uint64_t since_zxid = 0;
    (void)argc;

    if (ctl->given['s'] && parse_u64(ctl->value['s'], 0, UINT64_MAX - 1, &since_zxid) != ERR_OK) {
        return ctl_usage(ctl, "'%s' is not a zxid", ctl->value['s']);
    }
    if (ctl->given['d'] &&
        parse_u64(ctl->value['d'], 0, DEBOUNCE_MS_MAX, &reload.debounce_ms) != ERR_OK) {
        return ctl_usage(ctl, "'%s' is not a number of milliseconds", ctl->value['d']);
    }
    if (reload.exec == NULL && (reload.check != NULL || ctl->given['d'])) {
        return ctl_usage(ctl, "--check and --debounce go with --exec only");
    }
    enum err err = ctl_path(ctl, argv[0], &path);
    enum ctl_exit code = CTL_FAILED;
    if (err != ERR_OK) {
        code = ctl_fail(ctl, argv[0], err);
    } else if (ctl_connect(ctl, /* session */ false)) {
        code = watch_path(&watching, since_zxid, &reload);
    }
    buffer_done(&path);
    return code;
}

const struct command command_watch = {
    .name = "watch",
    .arguments = "PATH",
    .summary = "print changes as they come, or run a command after them",
    .help = "Print a line for each change of the node and of its children, in the order of\n"
            "the ensemble, until a signal (INT, TERM) comes:\n"
            "  ZXID EVENT PATH VERSION [NEW-PATH]\n"
            "EVENT is created, data, attr, removed, renamed or exchanged. A line\n"
            "  ZXID gap FROM-TO\n"
            "says that the changes of these entries are not all known any more. Blanks and\n"
            "unprintable bytes of names are shown as \\xNN.\n"
            "\n"
            "  -r, --recursive        all below PATH, too\n"
            "  -s, --since ZXID       begin behind this entry, not now\n"
            "  -o, --once             end after the first change\n"
            "  -e, --exec CMD         instead of printing: run CMD with /bin/sh at the start\n"
            "                         (not with --once) and when something has changed;\n"
            "                         never two at once\n"
            "  -d, --debounce MS      wait until nothing has changed for so long (default\n"
            "                         100), at most ten times that\n"
            "  -c, --check CMD        run CMD before; unless it ends with 0, the version is\n"
            "                         passed over until the data changes again\n"
            "\n"
            "The commands find QUORUMFS_FILE, a private file with the data (none for a\n"
            "directory), QUORUMFS_PATH, QUORUMFS_ZXID and QUORUMFS_VERSION in their\n"
            "environment. With --once --exec the exit status is that of the command.\n",
    .options = {{'r', "recursive", false},
                {'s', "since", true},
                {'o', "once", false},
                {'e', "exec", true},
                {'d', "debounce", true},
                {'c', "check", true}},
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run,
};
