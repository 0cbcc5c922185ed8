/* SPDX-License-Identifier: Apache-2.0
 *
 * Scripts that drive an ensemble of cores by hand, with the trace that is expected: a test for each
 * tests/raft/NAME.txt. A script is a row of blocks: commands, a line `----`, what they trace, an
 * empty line. `#` begins a comment (outside of what is expected).
 *
 * RAFT_SCRIPTS_RECORD=1 writes what the cores did into the scripts, to be read over in the diff.
 *
 *     nodes N [LEARNERS]    an ensemble whose nodes are up, seed 1
 *     crash ID [PIECES]     ends a node; PIECES of its unfinished saves reach the disk
 *     start ID [APPLIED]    starts it from its disk, the tree being at APPLIED (1)
 *     disk ID TERM TEXT     an entry more on the disk of a node that is down
 *     timeout ID            moves the clock to the node's deadline and ticks it
 *     wait MS, tick ID      moves the clock; ticks one node
 *     propose ID TEXT, read ID CONTEXT, transfer ID PEER, closed ID PEER, stalled ID
 *     sync ID               finishes the oldest save of a node
 *     deliver ID [FROM]     what lies in the network for a node; drop ID [FROM] loses it
 *     settle                delivers and syncs until nothing is left
 *     fetch on|none|hold    old entries are read, are not there, are not read
 *     status ID             role, term, indexes, peers
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"
#include "tests/lib/raft_ensemble.h"

#define FOLDER       "tests/raft"
#define SCRIPTS_MAX  64u
#define WORDS_MAX    6u
#define SCRIPT_BYTES (256u * 1024u)
#define SEPARATOR    "----"
#define PATH_BYTES   512u

static char names[SCRIPTS_MAX][PATH_BYTES];
static struct CMUnitTest tests[SCRIPTS_MAX];

struct words {
    size_t count;
    char *word[WORDS_MAX];
};

static uint64_t number(const struct words *words, size_t i, uint64_t otherwise)
{
    uint64_t value = otherwise;

    if (i < words->count && parse_u64(words->word[i], 0, UINT32_MAX, &value) != ERR_OK) {
        fail_msg("%s: `%s` is not a number", words->word[0], words->word[i]);
    }
    return value;
}

/* Cuts the line at its blanks. */
static void split(char *line, struct words *out)
{
    char *at = line + strspn(line, " ");

    out->count = 0;
    while (*at != 0) {
        size_t len = strcspn(at, " ");
        bool last = at[len] == 0;
        if (out->count == WORDS_MAX) {
            fail_msg("too many words behind `%s`", out->word[0]);
            return;
        }
        at[len] = 0;
        out->word[out->count++] = at;
        at += last ? len : len + 1 + strspn(at + len + 1, " ");
    }
}

static void say_error(struct ensemble *e, uint64_t id, enum err err)
{
    if (err != ERR_OK) {
        assert_int_equal(buffer_printf(&e->trace, "%" PRIu64 ": error %s\n", id, err_name(err)),
                         ERR_OK);
    }
}

static void say_status(struct ensemble *e, uint64_t id)
{
    struct raft_status s = ensemble_status(e, id);
    struct buffer *out = &e->trace;

    (void)buffer_printf(out,
                        "%" PRIu64 ": %s term=%" PRIu64 " vote=%" PRIu64 " leader=%" PRIu64
                        " ready=%d commit=%" PRIu64 " durable=%" PRIu64 " last=%" PRIu64 "\n",
                        id, ensemble_role_name(s.role), s.term, s.vote, s.leader, s.leader_ready,
                        s.commit_index, s.durable_index, s.last_index);
    for (size_t i = 0; i < s.peer_count && s.role == RAFT_LEADER; i++) {
        (void)buffer_printf(
            out, "    peer=%" PRIu64 " match=%" PRIu64 " next=%" PRIu64 " active=%d\n",
            s.peer[i].id, s.peer[i].match_index, s.peer[i].next_index, s.peer[i].active);
    }
}

/* Delivers or drops what now lies in the network for a node, not what that brings about. */
static void move_packets(struct ensemble *e, const struct words *words, bool deliver)
{
    uint64_t to = number(words, 1, 0);
    uint64_t from = number(words, 2, 0);
    size_t count = ensemble_packet_count(e);
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        struct ensemble_packet *packet = ensemble_packet(e, at);
        if (packet->message.to != to || (from != 0 && packet->message.from != from)) {
            at++;
        } else if (deliver) {
            ensemble_deliver(e, packet);
        } else {
            ensemble_drop(e, packet);
        }
    }
}

/* Commands that hand one event to one node. */
static bool run_event(struct ensemble *e, const struct words *words)
{
    const char *command = words->word[0];
    bool has_id = words->count > 1 && strcmp(command, "fetch") != 0;
    uint64_t id = has_id ? number(words, 1, 0) : 0;
    enum err err = ERR_OK;

    if (strcmp(command, "propose") == 0 && words->count == 3) {
        err = ensemble_propose(e, id, words->word[2]);
    } else if (strcmp(command, "read") == 0) {
        err = ensemble_read(e, id, number(words, 2, 0));
    } else if (strcmp(command, "transfer") == 0) {
        err = ensemble_step(
            e, id, (struct raft_event){.type = RAFT_EV_TRANSFER, .peer = number(words, 2, 0)});
    } else if (strcmp(command, "closed") == 0) {
        err = ensemble_step(
            e, id, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = number(words, 2, 0)});
    } else if (strcmp(command, "stalled") == 0) {
        err = ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_STALLED});
    } else if (strcmp(command, "timeout") == 0) {
        ensemble_timeout(e, id);
    } else if (strcmp(command, "tick") == 0) {
        ensemble_tick(e, id);
    } else {
        return false;
    }
    say_error(e, id, err);
    return true;
}

/* Commands about the world around the nodes. */
static void run_world(struct ensemble *e, const struct words *words)
{
    const char *command = words->word[0];

    if (strcmp(command, "crash") == 0) {
        ensemble_crash(e, number(words, 1, 0), number(words, 2, 0));
    } else if (strcmp(command, "start") == 0) {
        ensemble_start(e, number(words, 1, 0), number(words, 2, 1));
    } else if (strcmp(command, "disk") == 0 && words->count == 4) {
        ensemble_disk_add(e, number(words, 1, 0), number(words, 2, 0), words->word[3]);
    } else if (strcmp(command, "wait") == 0) {
        ensemble_wait(e, number(words, 1, 0));
    } else if (strcmp(command, "sync") == 0) {
        assert_true(ensemble_sync_one(e, number(words, 1, 0)));
    } else if (strcmp(command, "deliver") == 0 || strcmp(command, "drop") == 0) {
        move_packets(e, words, strcmp(command, "deliver") == 0);
    } else if (strcmp(command, "settle") == 0) {
        ensemble_settle(e);
    } else if (strcmp(command, "fetch") == 0 && words->count == 2) {
        e->no_fetch = strcmp(words->word[1], "none") == 0;
        e->ignore_fetch = strcmp(words->word[1], "hold") == 0;
    } else if (strcmp(command, "status") == 0) {
        say_status(e, number(words, 1, 0));
    } else {
        fail_msg("unknown command `%s`", command);
    }
}

static void run_line(struct ensemble **e, char *line)
{
    struct words words = {0};

    if (line[0] == '#' || line[0] == 0) {
        return;
    }
    split(line, &words);
    if (words.count == 0) {
        return;
    }
    if (strcmp(words.word[0], "nodes") == 0) {
        assert_null(*e);
        *e = ensemble_new(number(&words, 1, 0), number(&words, 2, 0), 1 /* seed */);
        (*e)->traced = true;
        return;
    }
    if (*e == NULL) {
        fail_msg("`%s` before `nodes`", words.word[0]);
        return;
    }
    if (!run_event(*e, &words)) {
        run_world(*e, &words);
    }
}

static void append(struct buffer *to, const void *bytes, size_t len)
{
    assert_int_equal(buffer_append(to, bytes, len), ERR_OK);
}

static void read_file(const char *path, struct buffer *out)
{
    FILE *file = fopen(path, "r");
    uint8_t *to = buffer_reserve(out, SCRIPT_BYTES);

    assert_non_null(file);
    assert_non_null(to);
    out->len = fread(to, 1, SCRIPT_BYTES, file);
    assert_true(out->len < SCRIPT_BYTES);
    (void)fclose(file);
}

/* The line at *at, copied without its end; false at the end of the text. */
static bool next_line(const struct buffer *text, size_t *at, char *line, size_t line_bytes)
{
    const char *begin = (const char *)text->data + *at;
    const char *end = NULL;
    size_t len = 0;

    if (*at >= text->len) {
        return false;
    }
    end = memchr(begin, '\n', text->len - *at);
    assert_non_null(end);
    len = (size_t)(end - begin);
    assert_true(len < line_bytes);
    memcpy(line, begin, len);
    line[len] = 0;
    *at += len + 1;
    return true;
}

/* Runs the script; `*out_did` is the script with what the cores did in place of what is expected. */
static size_t run_script(const struct buffer *script, struct buffer *out_did)
{
    struct ensemble *e = NULL;
    char line[1024];
    size_t at = 0;
    size_t blocks = 0;

    while (next_line(script, &at, line, sizeof(line))) {
        append(out_did, line, strlen(line));
        append(out_did, "\n", 1);
        if (strcmp(line, SEPARATOR) != 0) {
            run_line(&e, line);
            continue;
        }
        if (e == NULL) {
            fail_msg("no `nodes` before `%s`", SEPARATOR);
            return 0;
        }
        blocks++;
        append(out_did, e->trace.data, e->trace.len);
        append(out_did, "\n", 1);
        buffer_clear(&e->trace);
        while (next_line(script, &at, line, sizeof(line)) && line[0] != 0) {
        }
    }
    ensemble_free(e);
    return blocks;
}

static void write_file(const char *path, const struct buffer *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text->data, 1, text->len, file), text->len);
    assert_int_equal(fclose(file), 0);
}

/* Shows the first line that differs. */
static void compare(const char *path, const struct buffer *script, const struct buffer *did)
{
    size_t at = 0;
    size_t number_of_line = 1;

    while (at < script->len && at < did->len && script->data[at] == did->data[at]) {
        number_of_line += script->data[at] == '\n' ? 1 : 0;
        at++;
    }
    if (at == script->len && at == did->len) {
        return;
    }
    while (at > 0 && did->data[at - 1] != '\n') {
        at--;
    }
    fprintf(stderr, "%s:%zu: the cores did:\n%.*s\n", path, number_of_line,
            (int)(did->len - at < 1500 ? did->len - at : 1500), (const char *)did->data + at);
    fail_msg("%s:%zu differs", path, number_of_line);
}

static void script_has_the_expected_trace(void **state)
{
    const char *path = *state;
    struct buffer script = {0};
    struct buffer did = {0};

    read_file(path, &script);
    assert_true(run_script(&script, &did) > 0);
    if (getenv("RAFT_SCRIPTS_RECORD") != NULL) {
        write_file(path, &did);
    } else {
        compare(path, &script, &did);
    }
    buffer_done(&script);
    buffer_done(&did);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static size_t find_scripts(void)
{
    DIR *folder = opendir(FOLDER);
    size_t count = 0;

    for (struct dirent *entry = folder != NULL ? readdir(folder) : NULL; entry != NULL;
         entry = readdir(folder)) {
        const char *end = strrchr(entry->d_name, '.');
        if (end != NULL && strcmp(end, ".txt") == 0 && count < SCRIPTS_MAX) {
            (void)snprintf(names[count++], PATH_BYTES, "%s/%s", FOLDER, entry->d_name);
        }
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    qsort(names, count, sizeof(names[0]), by_name);
    return count;
}

int main(void)
{
    size_t count = find_scripts();

    if (count == 0) {
        (void)fprintf(stderr, "no script in " FOLDER " (run it from the top folder)\n");
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        tests[i] = (struct CMUnitTest){
            .name = names[i],
            .test_func = script_has_the_expected_trace,
            .initial_state = names[i],
        };
    }
    return _cmocka_run_group_tests("raft scripts", tests, count, NULL, NULL);
}
