/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl watch --exec: carries each state of a node over to a program. Called by watch.c.
 *
 * A round: wait until it is quiet, read the node, put its data into a file of our own, check it,
 * run the command. What changes during a round leads to one more.
 *
 * Invariants:
 *   1. Commands run one after the other, and none is left running.
 *   2. A round reads a state that is not older than the newest change that began it: the reads of a
 *      client wait for what its watch has told.
 *   3. `pending` is cleared only by a state that includes the newest change.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "fs/ctl/watch.h"

#define WAIT_FACTOR    10u  /* a steady stream of changes is waited for so many times longer */
#define READ_AGAIN_MS  500u /* after a state could not be read */
#define STATUS_SIGNALS 128  /* as the shell says: 128 and the number of the signal */
#define STATUS_NOT_RUN 127  /* and this if there is no such program */

/* What a round brought. */
enum round {
    ROUND_DONE,
    ROUND_REFUSED, /* by the check */
    ROUND_MISSING, /* there is no node */
    ROUND_FAILED,  /* said; to be tried again */
};

struct reload {
    struct watching *watching;
    const struct reload_options *options;
    uint64_t refused_mzxid; /* of data that the check refused; 0: none */
    bool missing_told;
    int status; /* of the last --exec */
};

/* ---- changes ---- */

static void changed(struct watching *watching, uint64_t zxid)
{
    uint64_t now_ms = uv_now(&watching->ctl->loop);

    watching->changed_zxid = zxid;
    watching->last_ms = now_ms;
    if (!watching->pending) {
        watching->pending = true;
        watching->first_ms = now_ms;
    }
    client_watch_more(watching->watch);
}

void reload_changes(void *arg, Wire__Change *const *changes, size_t count)
{
    changed(arg, changes[count - 1]->zxid);
}

void reload_gap(void *arg, uint64_t from, uint64_t to)
{
    (void)from;
    changed(arg, to);
}

/* ---- commands ---- */

struct child {
    bool ended;
    int status;
};

static void on_exit_of(uv_process_t *process, int64_t status, int signal_number)
{
    struct child *child = process->data;

    child->ended = true;
    child->status = signal_number != 0 ? STATUS_SIGNALS + signal_number : (int)status;
}

static void on_process_closed(uv_handle_t *handle)
{
    handle->data = NULL;
}

/* Runs a command of the shell to its end, also when we are asked to end meanwhile. */
static int run_command(struct watching *watching, const char *command)
{
    char shell[] = "/bin/sh";
    char option[] = "-c";
    char *arguments[] = {shell, option, (char *)(uintptr_t)command, NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDOUT_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
    };
    struct child child = {0};
    uv_process_options_t options = {
        .exit_cb = on_exit_of, .file = shell, .args = arguments, .stdio_count = 3, .stdio = stdio};
    uv_process_t process = {.data = &child};
    int result = uv_spawn(&watching->ctl->loop, &process, &options);

    if (result != 0) {
        (void)fprintf(stderr, "quorumctl: watch: /bin/sh: %s\n", uv_strerror(result));
        child = (struct child){.ended = true, .status = STATUS_NOT_RUN};
    }
    while (!child.ended) {
        (void)uv_run(&watching->ctl->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&process, on_process_closed);
    while (process.data != NULL) {
        (void)uv_run(&watching->ctl->loop, UV_RUN_NOWAIT);
    }
    return child.status;
}

static void set_number(const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    CHECK(setenv(name, text, /* overwrite */ 1) == 0);
}

/* Tells the commands by their environment; `file` NULL: a directory. */
static void set_environment(const struct watching *watching, const Wire__Answer *answer,
                            const char *file)
{
    CHECK(setenv("QUORUMFS_PATH", (const char *)watching->path->data, /* overwrite */ 1) == 0);
    set_number("QUORUMFS_ZXID", answer->zxid);
    set_number("QUORUMFS_VERSION", answer->attr->version);
    if (file != NULL) {
        CHECK(setenv("QUORUMFS_FILE", file, /* overwrite */ 1) == 0);
    } else {
        (void)unsetenv("QUORUMFS_FILE");
    }
}

/* ---- the file ---- */

static bool write_all(int file, const struct buffer *data)
{
    size_t at = 0;

    while (at < data->len) {
        ssize_t count = write(file, data->data + at, data->len - at);
        if (count < 0 && errno != EINTR) {
            return false;
        }
        at += count > 0 ? (size_t)count : 0;
    }
    return true;
}

/* A new file that only we may read, in $TMPDIR. False: said on stderr, and nothing is left. */
static bool make_file(const struct buffer *data, struct buffer *out_name)
{
    const char *folder = getenv("TMPDIR");
    bool done = false;

    folder = folder != NULL && folder[0] != '\0' ? folder : "/tmp";
    if (buffer_printf(out_name, "%s/quorumctl-XXXXXX", folder) != ERR_OK) {
        return false;
    }
    char *name = (char *)out_name->data;
    int file = mkostemp(name, O_CLOEXEC); /* mode 0600 */
    if (file >= 0) {
        done = write_all(file, data);
        done = close(file) == 0 && done;
    }
    if (!done) {
        (void)fprintf(stderr, "quorumctl: watch: %s: %s\n", name, strerror(errno));
        if (file >= 0) {
            (void)unlink(name);
        }
        buffer_clear(out_name);
    }
    return done;
}

/* ---- a round ---- */

/* One line on stderr about this version. */
static void say(const struct reload *reload, const Wire__Answer *answer, const char *what,
                int status, const char *then)
{
    (void)fprintf(stderr,
                  "quorumctl: watch %s: version %u (zxid %" PRIu64 "): %s ended with %d; %s\n",
                  (const char *)reload->watching->path->data, answer->attr->version, answer->zxid,
                  what, status, then);
}

static enum round carry_over(struct reload *reload, const Wire__Answer *answer)
{
    struct watching *watching = reload->watching;
    const struct reload_options *options = reload->options;

    if (options->check != NULL) {
        int status = run_command(watching, options->check);
        if (status != 0) {
            say(reload, answer, "the check", status, "the state before stays");
            return ROUND_REFUSED;
        }
    }
    if (watching->stopped) {
        return ROUND_REFUSED; /* No command begins any more. */
    }
    reload->status = run_command(watching, options->exec);
    if (reload->status != 0) {
        say(reload, answer, "the command", reload->status, "not run again until the next change");
    }
    return ROUND_DONE;
}

static enum round carry_over_data(struct reload *reload, const Wire__Answer *answer,
                                  const struct buffer *data)
{
    struct buffer name = {0};
    enum round round = ROUND_FAILED;

    if (answer->attr->mzxid == reload->refused_mzxid) {
        return ROUND_REFUSED;
    }
    if (make_file(data, &name)) {
        set_environment(reload->watching, answer, (const char *)name.data);
        round = carry_over(reload, answer);
        (void)unlink((const char *)name.data);
    }
    if (round == ROUND_REFUSED) {
        reload->refused_mzxid = answer->attr->mzxid;
    }
    buffer_done(&name);
    return round;
}

/* What could not be read. */
static enum round not_read(struct reload *reload, enum err err)
{
    if (err == ERR_NO_NODE || err == ERR_NOT_DIR) {
        if (!reload->missing_told) {
            (void)fprintf(stderr, "quorumctl: watch %s: there is no such node; waiting for it\n",
                          (const char *)reload->watching->path->data);
        }
        reload->missing_told = true;
        return ROUND_MISSING;
    }
    (void)ctl_fail(reload->watching->ctl, (const char *)reload->watching->path->data, err);
    return ROUND_FAILED;
}

/* The answer of a state has come: what had changed up to it needs no other round. */
static void note_state(struct watching *watching, uint64_t zxid)
{
    if (watching->changed_zxid <= zxid) {
        watching->pending = false;
    }
}

static enum round one_round(struct reload *reload)
{
    struct watching *watching = reload->watching;
    struct buffer data = {0};
    Wire__Answer *answer = NULL;
    enum round round = ROUND_FAILED;

    watching->pending = false;
    enum err err = ctl_read_data(watching->ctl, watching->path, &data, &answer);
    if (err != ERR_OK) {
        round = watching->stopped ? ROUND_FAILED : not_read(reload, err);
        goto out;
    }
    reload->missing_told = false;
    note_state(watching, answer->zxid);
    if (answer->attr->kind == WIRE__KIND__KIND_DIR) {
        set_environment(watching, answer, NULL);
        round = carry_over(reload, answer);
    } else {
        round = carry_over_data(reload, answer, &data);
    }

out:
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    buffer_done(&data);
    return round;
}

/* Waits for a change, and then until it is quiet, or has not been for long enough. */
static void settle(struct watching *watching, uint64_t debounce_ms)
{
    while (!watching->pending && !watching_is_over(watching)) {
        watching_wait(watching, UINT64_MAX);
    }
    while (!watching_is_over(watching)) {
        uint64_t quiet_ms = watching->last_ms + debounce_ms;
        uint64_t limit_ms = watching->first_ms + WAIT_FACTOR * debounce_ms;
        uint64_t until_ms = quiet_ms < limit_ms ? quiet_ms : limit_ms;
        if (uv_now(&watching->ctl->loop) >= until_ms) {
            return;
        }
        watching_wait(watching, until_ms);
    }
}

static void again_later(struct watching *watching)
{
    uint64_t until_ms = uv_now(&watching->ctl->loop) + READ_AGAIN_MS;

    while (!watching_is_over(watching) && uv_now(&watching->ctl->loop) < until_ms) {
        watching_wait(watching, until_ms);
    }
    changed(watching, watching->changed_zxid);
}

/* The exit status of --once. */
static enum ctl_exit once_status(const struct reload *reload, enum round round)
{
    return round == ROUND_DONE ? (enum ctl_exit)reload->status : CTL_FAILED;
}

enum ctl_exit reload_run(struct watching *watching, const struct reload_options *options)
{
    struct reload reload = {.watching = watching, .options = options};

    client_watch_more(watching->watch);
    if (!watching->once) {
        changed(watching, 0);
    }
    for (;;) {
        settle(watching, options->debounce_ms);
        if (watching_is_over(watching)) {
            return CTL_OK;
        }
        enum round round = one_round(&reload);
        if (round == ROUND_FAILED && !watching_is_over(watching)) {
            again_later(watching);
        } else if (watching->once) {
            return once_status(&reload, round);
        }
    }
}
