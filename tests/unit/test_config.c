/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration file: what is read, and the one sentence for each thing that is wrong.
 */
#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/version.h"

#define EXAMPLE_FILE   "packaging/quorumd.conf.example"
#define TEXT_BYTES     4096u
#define SENTENCE_BYTES 512u

/* A file that is good, to put something wrong in front of or behind. */
#define HEAD    "id = 1\ndata = /d\n"
#define MEMBERS "[members]\n1 = 127.0.0.1:2888\n"

struct fixture {
    char folder[64];
    char path[96];
    char key[96];
    struct config config;
    struct buffer error;
};

static void write_file(const char *path, const void *bytes, size_t len, mode_t mode)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void write_key(const struct fixture *fixture, size_t len, mode_t mode)
{
    char bytes[KEY_BYTES_MAX + 1];

    assert_true(len <= sizeof(bytes));
    memset(bytes, 'k', sizeof(bytes));
    write_file(fixture->key, bytes, len, mode);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/quorumfs-config.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    (void)snprintf(fixture->path, sizeof(fixture->path), "%s/conf", fixture->folder);
    (void)snprintf(fixture->key, sizeof(fixture->key), "%s/key", fixture->folder);
    write_key(fixture, 32, 0600);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    (void)unlink(fixture->path);
    (void)unlink(fixture->key);
    assert_int_equal(rmdir(fixture->folder), 0);
    buffer_done(&fixture->error);
    free(fixture);
    return 0;
}

static enum err read_bytes(struct fixture *fixture, const void *bytes, size_t len)
{
    write_file(fixture->path, bytes, len, 0644);
    return config_read(fixture->path, &fixture->config, &fixture->error);
}

/* $ stands for the path of the key file. */
static enum err read_text(struct fixture *fixture, const char *text)
{
    char expanded[TEXT_BYTES];
    const char *mark = strchr(text, '$');
    int before = mark != NULL ? (int)(mark - text) : (int)strlen(text);

    (void)snprintf(expanded, sizeof(expanded), "%.*s%s%s", before, text,
                   mark != NULL ? fixture->key : "", mark != NULL ? mark + 1 : "");
    return read_bytes(fixture, expanded, strlen(expanded));
}

static void expect_good(struct fixture *fixture, const char *text)
{
    enum err err = read_text(fixture, text);

    if (err != ERR_OK) {
        fail_msg("%s", (const char *)fixture->error.data);
    }
    assert_int_equal(fixture->error.len, 0);
}

/* That the error is "FILE:LINE: sentence"; line 0: "FILE: sentence". */
static void expect_sentence(struct fixture *fixture, int line, const char *sentence)
{
    char wanted[TEXT_BYTES];

    if (line > 0) {
        (void)snprintf(wanted, sizeof(wanted), "%s:%d: %s", fixture->path, line, sentence);
    } else {
        (void)snprintf(wanted, sizeof(wanted), "%s: %s", fixture->path, sentence);
    }
    assert_string_equal((const char *)fixture->error.data, wanted);
}

struct refusal {
    const char *text;
    int line;
    const char *sentence;
};

static void expect_refusals(struct fixture *fixture, const struct refusal *refusals, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(read_text(fixture, refusals[i].text), ERR_CONFIG);
        expect_sentence(fixture, refusals[i].line, refusals[i].sentence);
    }
}
#define EXPECT_REFUSALS(fixture, refusals) \
    expect_refusals(fixture, refusals, sizeof(refusals) / sizeof((refusals)[0]))

/* ---- good files ---- */

static void without_a_file_it_is_a_single_replica_on_the_loopback(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;

    config_default(&fixture->config);
    assert_int_equal(config->id, 1);
    assert_string_equal(config->data, "quorum-data");
    assert_string_equal(config->socket, "quorum-data/quorumd.sock");
    assert_int_equal(config->listen_count, 1);
    assert_string_equal(config->listen[0].host, "127.0.0.1");
    assert_int_equal(config->listen[0].port, 2181);
    assert_string_equal(config->peer_listen.host, "");
    assert_int_equal(config->members.count, 1);
    assert_int_equal(config->members.member[0].id, 1);
    assert_true(config->members.member[0].voter);
}

static void the_least_file_takes_the_defaults(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;

    expect_good(fixture, HEAD MEMBERS);
    assert_int_equal(config->id, 1);
    assert_string_equal(config->data, "/d");
    assert_string_equal(config->socket, "/run/quorumfs/quorumd.sock");
    assert_int_equal(config->listen_count, 1);
    assert_string_equal(config->listen[0].host, "127.0.0.1");
    assert_int_equal(config->listen[0].port, 2181);
    assert_string_equal(config->peer_listen.host, "");
    assert_int_equal(config->key_len, 0);
    assert_int_equal(config->log_level, LOG_LEVEL_INFO);
    assert_int_equal(config->heartbeat_ms, 50);
    assert_int_equal(config->election_min_ms, 300);
    assert_int_equal(config->election_max_ms, 600);
    assert_int_equal(config->file_bytes_max, FILE_BYTES_MAX);
    assert_int_equal(config->members.count, 1);
    assert_string_equal(config->members.member[0].address, "127.0.0.1:2888");
}

static void every_key_is_taken(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;

    expect_good(fixture, "# a comment\n; another\n\n"
                         "id = 2 ; this is number two\ndata = /srv/q\n"
                         "listen = 127.0.0.2:7000\nlisten = [::1]\nlisten = localhost\n"
                         "socket = none\npeer_listen = 0.0.0.0:2999\nkey_file = $\n"
                         "log_level = debug\nheartbeat_ms = 10\nelection_min_ms = 30\n"
                         "election_max_ms = 31\nfeature_level = 1\nfile_bytes_max = "
                         "64M\n[members]\n3 = c.example\n1 = [fd00::1]:1\n"
                         "2 = b.example:2\n");
    assert_int_equal(config->id, 2);
    assert_string_equal(config->data, "/srv/q");
    assert_int_equal(config->listen_count, 3);
    assert_string_equal(config->listen[0].host, "127.0.0.2");
    assert_int_equal(config->listen[0].port, 7000);
    assert_string_equal(config->listen[1].host, "::1");
    assert_int_equal(config->listen[1].port, 2181);
    assert_string_equal(config->listen[2].host, "localhost");
    assert_string_equal(config->socket, "");
    assert_string_equal(config->peer_listen.host, "0.0.0.0");
    assert_int_equal(config->peer_listen.port, 2999);
    assert_int_equal(config->key_len, 32);
    assert_int_equal(config->key[31], 'k');
    assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(config->heartbeat_ms, 10);
    assert_int_equal(config->election_min_ms, 30);
    assert_int_equal(config->election_max_ms, 31);
    assert_int_equal(config->feature_level, FEATURE_BASE);
    assert_int_equal(config->file_bytes_max, FILE_BYTES_LIMIT);
}

static void a_size_may_have_a_unit(void **state)
{
    struct fixture *fixture = *state;

    expect_good(fixture, HEAD "file_bytes_max = 2048K\n" MEMBERS);
    assert_int_equal(fixture->config.file_bytes_max, 2 * MIB);
    expect_good(fixture, HEAD "file_bytes_max = 1048577\n" MEMBERS);
    assert_int_equal(fixture->config.file_bytes_max, MIB + 1);
}

static void a_size_out_of_bounds_is_refused(void **state)
{
    static const char wrong[] = "must be a size from 1M to 64M";
    static const char *const values[] = {
        "1023K", "65M", "1m", "M", "-1M", "1.5M", "99999999999M", "123456789012345678901234567890"};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[TEXT_BYTES];
        char sentence[SENTENCE_BYTES];
        (void)snprintf(text, sizeof(text), "%sfile_bytes_max = %s\n", HEAD, values[i]);
        (void)snprintf(sentence, sizeof(sentence), "file_bytes_max = %s: %s", values[i], wrong);
        assert_int_equal(read_text(fixture, text), ERR_CONFIG);
        expect_sentence(fixture, 3, sentence);
    }
}

static void members_are_sorted_voters_of_no_incarnation(void **state)
{
    struct fixture *fixture = *state;
    const struct raft_members *members = &fixture->config.members;
    static const char *const addresses[] = {"[fd00::1]:1", "b.example:2", "c.example:2888"};

    expect_good(fixture, HEAD "key_file = $\n[members]\n3 = c.example\n1 = [fd00::1]:1\n"
                              "2 = b.example:2\n");
    assert_int_equal(members->count, 3);
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        assert_int_equal(members->member[i].id, i + 1);
        assert_int_equal(members->member[i].incarnation, 0);
        assert_true(members->member[i].voter);
        assert_string_equal(members->member[i].address, addresses[i]);
    }
    assert_string_equal(fixture->config.peer_listen.host, "fd00::1");
    assert_int_equal(fixture->config.peer_listen.port, 1);
}

static void indents_and_a_missing_last_newline_mean_nothing(void **state)
{
    struct fixture *fixture = *state;

    expect_good(fixture, "id = 1\n  data = /d\n\t[members]\n   1 = 127.0.0.1:1");
    assert_string_equal(fixture->config.data, "/d");
    assert_int_equal(fixture->config.members.count, 1);
}

static void the_example_is_good_but_for_its_key(void **state)
{
    struct fixture *fixture = *state;
    static const char key_line[] = "\nkey_file = /etc/quorumfs/peer.key";
    char text[TEXT_BYTES] = "";
    char good[TEXT_BYTES * 2];
    FILE *file = fopen(EXAMPLE_FILE, "re");
    char *key = NULL;

    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
    (void)fclose(file);
    key = strstr(text, key_line);
    assert_non_null(key);
    *key = '\0';
    (void)snprintf(good, sizeof(good), "%s\nkey_file = %s%s", text, fixture->key,
                   key + strlen(key_line));
    if (read_bytes(fixture, good, strlen(good)) != ERR_OK) {
        fail_msg("%s", (const char *)fixture->error.data);
    }
    assert_int_equal(fixture->config.members.count, 3);
}

/* ---- bad lines ---- */

static void a_line_that_is_no_line_is_refused(void **state)
{
    static const struct refusal refusals[] = {
        {"id = 1\nnonsense\n", 2, "neither KEY = VALUE nor [SECTION]"},
        {"[members\n", 1, "neither KEY = VALUE nor [SECTION]"},
        {HEAD "[peers]\n", 3, "unknown section [peers]"},
        {HEAD "[peers]\n1 = a\n", 3, "unknown section [peers]"},
        {HEAD "[]\n", 3, "unknown section []"},
        {HEAD "[members ]\n", 3, "unknown section [members ]"},
        {"\xEF\xBB\xBF[peers]\nid = 1\n", 2, "id = 1: unknown section"},
        {HEAD "colour = red\n", 3, "colour = red: unknown key"},
        {HEAD "ID = 1\n", 3, "ID = 1: unknown key"},
        {HEAD " = 1\n", 3, " = 1: unknown key"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

static void the_first_error_of_a_file_is_the_one_that_is_told(void **state)
{
    static const struct refusal refusals[] = {
        {"id = 1\nnonsense\nid = x\n[foo]\n", 2, "neither KEY = VALUE nor [SECTION]"},
        {"id = x\nnonsense\n[foo]\n", 1, "id = x: must be a number from 1 to 65535"},
        {"[foo]\nnonsense\nid = x\n", 1, "unknown section [foo]"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

static void a_long_line_is_refused_not_cut(void **state)
{
    struct fixture *fixture = *state;
    char text[TEXT_BYTES] = "data = /";
    size_t begin = strlen(text);

    memset(text + begin, 'd', 198 - begin);
    (void)snprintf(text + 198, 128, "\nid = 1\n%s", MEMBERS);
    expect_good(fixture, text);
    assert_int_equal(strlen(fixture->config.data), 198 - strlen("data = "));
    (void)snprintf(text + 198, 128, "d\nid = 1\n%s", MEMBERS);
    assert_int_equal(read_text(fixture, text), ERR_CONFIG);
    expect_sentence(fixture, 1, "the line is too long");
}

static void a_zero_byte_is_refused(void **state)
{
    struct fixture *fixture = *state;
    static const char text[] = "id = 1\nda\0ta = /d\n";

    assert_int_equal(read_bytes(fixture, text, sizeof(text) - 1), ERR_CONFIG);
    expect_sentence(fixture, 2, "a zero byte: this is no text");
}

static void a_file_that_cannot_be_read_is_told(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(config_read(fixture->path, &fixture->config, &fixture->error), ERR_CONFIG);
    expect_sentence(fixture, 0, "cannot be read: No such file or directory");
    assert_int_equal(mkdir(fixture->path, 0700), 0);
    assert_int_equal(config_read(fixture->path, &fixture->config, &fixture->error), ERR_CONFIG);
    expect_sentence(fixture, 0, "cannot be read: Is a directory");
    assert_int_equal(rmdir(fixture->path), 0);
}

/* ---- bad values ---- */

static void a_key_twice_is_refused(void **state)
{
    static const struct refusal refusals[] = {
        {"id = 1\nid = 1\n", 2, "id = 1: this key stands there twice"},
        {"data = a\ndata = b\n", 2, "data = b: this key stands there twice"},
        {"socket = a\nsocket = b\n", 2, "socket = b: this key stands there twice"},
        {"peer_listen = a\npeer_listen = b\n", 2, "peer_listen = b: this key stands there twice"},
        {"key_file = a\nkey_file = b\n", 2, "key_file = b: this key stands there twice"},
        {"log_level = info\nlog_level = warn\n", 2,
         "log_level = warn: this key stands there twice"},
        {"heartbeat_ms = 1\nheartbeat_ms = 2\n", 2,
         "heartbeat_ms = 2: this key stands there twice"},
        {"election_min_ms = 1\nelection_min_ms = 2\n", 2,
         "election_min_ms = 2: this key stands there twice"},
        {"election_max_ms = 1\nelection_max_ms = 2\n", 2,
         "election_max_ms = 2: this key stands there twice"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

static void a_bad_number_is_refused(void **state)
{
    static const struct refusal refusals[] = {
        {"id = 0\n", 1, "id = 0: must be a number from 1 to 65535"},
        {"id = 65536\n", 1, "id = 65536: must be a number from 1 to 65535"},
        {"id = -1\n", 1, "id = -1: must be a number from 1 to 65535"},
        {"id =\n", 1, "id = : must be a number from 1 to 65535"},
        {"id = 1 # one\n", 1, "id = 1 # one: must be a number from 1 to 65535"},
        {"heartbeat_ms = 0\n", 1, "heartbeat_ms = 0: must be a number from 1 to 60000"},
        {"election_min_ms = 1s\n", 1, "election_min_ms = 1s: must be a number from 1 to 60000"},
        {"election_max_ms = 60001\n", 1,
         "election_max_ms = 60001: must be a number from 1 to 60000"},
        {"feature_level = 0\n", 1, "feature_level = 0: must be a number from 1 to 3"},
        {"feature_level = 4\n", 1, "feature_level = 4: must be a number from 1 to 3"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

static void a_bad_path_or_level_is_refused(void **state)
{
    static const struct refusal refusals[] = {
        {"data =\n", 1, "data = : a path is needed"},
        {"socket =\n", 1, "socket = : a path is needed"},
        {"key_file =\n", 1, "key_file = : a path is needed"},
        {"log_level = loud\n", 1, "log_level = loud: must be error, warn, info or debug"},
    };
    struct fixture *fixture = *state;
    char text[SENTENCE_BYTES / 2] = "socket = /";
    char sentence[SENTENCE_BYTES];

    EXPECT_REFUSALS(fixture, refusals);
    memset(text + strlen(text), 's', 107);
    (void)snprintf(sentence, sizeof(sentence), "%s: too long for a unix socket", text);
    assert_int_equal(read_text(fixture, text), ERR_CONFIG);
    expect_sentence(fixture, 1, sentence);
}

static void a_listen_address_must_be_of_the_loopback(void **state)
{
    static const struct refusal refusals[] = {
        {"listen = 0.0.0.0\n", 1,
         "listen = 0.0.0.0: must be a loopback address (127.0.0.1, [::1])"},
        {"listen = [::]:2181\n", 1,
         "listen = [::]:2181: must be a loopback address (127.0.0.1, [::1])"},
        {"listen = 10.0.0.1:2181\n", 1,
         "listen = 10.0.0.1:2181: must be a loopback address (127.0.0.1, [::1])"},
        {"listen = 127.example.com\n", 1,
         "listen = 127.example.com: must be a loopback address (127.0.0.1, [::1])"},
        {"listen = unix:/run/q\n", 1,
         "listen = unix:/run/q: must be HOST, HOST:PORT or [IPV6]:PORT"},
        {"listen = 127.0.0.1:0\n", 1,
         "listen = 127.0.0.1:0: must be HOST, HOST:PORT or [IPV6]:PORT"},
        {"listen = 127.0.0.1\nlisten = 127.0.0.1:2181\n", 2,
         "listen = 127.0.0.1:2181: this address stands there twice"},
        {"listen=127.0.0.1:1\nlisten=127.0.0.1:2\nlisten=127.0.0.1:3\nlisten=127.0.0.1:4\n"
         "listen=127.0.0.1:5\nlisten=127.0.0.1:6\nlisten=127.0.0.1:7\nlisten=127.0.0.1:8\n"
         "listen=127.0.0.1:9\n",
         9, "listen = 127.0.0.1:9: too many addresses"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

static void a_bad_member_is_refused(void **state)
{
    static const struct refusal refusals[] = {
        {"[members]\none = a\n", 2, "one = a: a member's key is its id, a number from 1 to 65535"},
        {"[members]\n0 = a\n", 2, "0 = a: a member's key is its id, a number from 1 to 65535"},
        {"[members]\n1 = a:b\n", 2, "1 = a:b: must be HOST, HOST:PORT or [IPV6]:PORT"},
        {"[members]\n1 =\n", 2, "1 = : must be HOST, HOST:PORT or [IPV6]:PORT"},
        {"[members]\n1 = unix\n", 2, "1 = unix: must be HOST, HOST:PORT or [IPV6]:PORT"},
        {"[members]\n1 = unix:/s\n", 2, "1 = unix:/s: must be HOST, HOST:PORT or [IPV6]:PORT"},
        {"[members]\n1 = a\n2 = b\n1 = c\n", 4, "1 = c: this member stands there twice"},
        {"[members]\n1=a\n2=a\n3=a\n4=a\n5=a\n6=a\n7=a\n8=a\n9=a\n10=a\n11=a\n12=a\n13=a\n14=a\n"
         "15=a\n16=a\n17=a\n",
         18, "17 = a: too many members"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

/* ---- what is wrong with the whole ---- */

static void what_is_missing_is_told(void **state)
{
    static const struct refusal refusals[] = {
        {"", 0, "id is missing"},
        {"data = /d\n" MEMBERS, 0, "id is missing"},
        {"id = 1\n" MEMBERS, 0, "data is missing"},
        {HEAD, 0, "[members] is missing or empty"},
        {HEAD "[members]\n", 0, "[members] is missing or empty"},
        {"id = 2\ndata = /d\n" MEMBERS, 0, "id = 2: not among the [members]"},
        {HEAD "listen = none\nsocket = none\n" MEMBERS, 0,
         "listen and socket are both none: no client could connect"},
        {HEAD MEMBERS "2 = b\n", 0, "key_file is missing: replicas need a shared key"},
        {HEAD "peer_listen = 127.0.0.1\n" MEMBERS, 0,
         "key_file is missing: replicas need a shared key"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

static void an_address_of_two_is_refused(void **state)
{
    static const struct refusal refusals[] = {
        {HEAD "key_file = $\n" MEMBERS "2 = b\n3 = 127.0.0.1\n", 0,
         "members 1 and 3 have the same address 127.0.0.1:2888"},
        {HEAD "key_file = $\nlisten = 127.0.0.1:2888\n" MEMBERS "2 = b\n", 0,
         "listen and peer_listen have the same address 127.0.0.1, port 2888"},
    };

    EXPECT_REFUSALS(*state, refusals);
}

static void timers_must_fit_together(void **state)
{
    static const struct refusal refusals[] = {
        {HEAD "heartbeat_ms = 101\n" MEMBERS, 0,
         "election_min_ms = 300: must be at least 3 times heartbeat_ms = 101"},
        {HEAD "election_min_ms = 600\n" MEMBERS, 0,
         "election_max_ms = 600: must be more than election_min_ms = 600"},
    };
    struct fixture *fixture = *state;

    EXPECT_REFUSALS(fixture, refusals);
    expect_good(fixture, HEAD "heartbeat_ms = 100\nelection_max_ms = 301\n" MEMBERS);
}

/* ---- the key file ---- */

static void expect_key_refused(struct fixture *fixture, const char *why)
{
    char sentence[SENTENCE_BYTES];

    (void)snprintf(sentence, sizeof(sentence), "key_file = %s: %s", fixture->key, why);
    assert_int_equal(read_text(fixture, HEAD "key_file = $\n" MEMBERS "2 = b\n"), ERR_CONFIG);
    expect_sentence(fixture, 0, sentence);
}

static void a_key_file_that_is_missing_or_no_file_is_refused(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(unlink(fixture->key), 0);
    expect_key_refused(fixture, "No such file or directory");
    assert_int_equal(mkfifo(fixture->key, 0600), 0);
    expect_key_refused(fixture, "not a file");
}

static void a_key_file_open_to_others_is_refused(void **state)
{
    struct fixture *fixture = *state;

    write_key(fixture, 32, 0640);
    expect_key_refused(fixture, "mode 0640 is open to others, wanted 0600");
    write_key(fixture, 32, 0604);
    expect_key_refused(fixture, "mode 0604 is open to others, wanted 0600");
}

static void a_key_must_have_16_to_1024_bytes(void **state)
{
    struct fixture *fixture = *state;

    write_key(fixture, 15, 0600);
    expect_key_refused(fixture, "15 bytes, wanted 16 to 1024");
    write_key(fixture, 1025, 0600);
    expect_key_refused(fixture, "1025 bytes, wanted 16 to 1024");
    write_key(fixture, 16, 0400);
    expect_good(fixture, HEAD "key_file = $\n" MEMBERS);
    assert_int_equal(fixture->config.key_len, 16);
    write_key(fixture, 1024, 0600);
    expect_good(fixture, HEAD "key_file = $\n" MEMBERS);
    assert_int_equal(fixture->config.key_len, 1024);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_file_it_is_a_single_replica_on_the_loopback),
        TEST(the_least_file_takes_the_defaults),
        TEST(every_key_is_taken),
        TEST(a_size_may_have_a_unit),
        TEST(a_size_out_of_bounds_is_refused),
        TEST(members_are_sorted_voters_of_no_incarnation),
        TEST(indents_and_a_missing_last_newline_mean_nothing),
        TEST(the_example_is_good_but_for_its_key),
        TEST(a_line_that_is_no_line_is_refused),
        TEST(the_first_error_of_a_file_is_the_one_that_is_told),
        TEST(a_long_line_is_refused_not_cut),
        TEST(a_zero_byte_is_refused),
        TEST(a_file_that_cannot_be_read_is_told),
        TEST(a_key_twice_is_refused),
        TEST(a_bad_number_is_refused),
        TEST(a_bad_path_or_level_is_refused),
        TEST(a_listen_address_must_be_of_the_loopback),
        TEST(a_bad_member_is_refused),
        TEST(what_is_missing_is_told),
        TEST(an_address_of_two_is_refused),
        TEST(timers_must_fit_together),
        TEST(a_key_file_that_is_missing_or_no_file_is_refused),
        TEST(a_key_file_open_to_others_is_refused),
        TEST(a_key_must_have_16_to_1024_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
