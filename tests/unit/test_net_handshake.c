/* SPDX-License-Identifier: Apache-2.0
 *
 * Two replicas introduce themselves: only who knows the key is believed, and no recorded or
 * reflected proof helps.
 */
#include "server/net/handshake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct replica_hello one = {.id = 1, .incarnation = 111, .address = "one:2888"};
static const struct replica_hello two = {.id = 2,
                                         .incarnation = 222,
                                         .ensemble = "ensemble-number",
                                         .ensemble_len = ENSEMBLE_ID_BYTES,
                                         .members_index = 77};

static struct handshake_self self_of(const char *key)
{
    return (struct handshake_self){.key = (const uint8_t *)key, .key_len = strlen(key)};
}

/* Both ends, and the bytes on their way to each. */
struct pair {
    struct handshake_self self_dialer;
    struct handshake_self self_acceptor;
    struct handshake dialer;
    struct handshake acceptor;
    struct buffer to_dialer;
    struct buffer to_acceptor;
};

static void begin(struct pair *pair, const char *key_dialer, const char *key_acceptor)
{
    memset(pair, 0, sizeof(*pair));
    pair->self_dialer = self_of(key_dialer);
    pair->self_acceptor = self_of(key_acceptor);
    assert_int_equal(handshake_begin(&pair->dialer, &one, true, true, &pair->to_acceptor), ERR_OK);
    assert_int_equal(handshake_begin(&pair->acceptor, &two, false, false, &pair->to_dialer),
                     ERR_OK);
}

static void pair_done(struct pair *pair)
{
    handshake_done(&pair->dialer);
    handshake_done(&pair->acceptor);
    buffer_done(&pair->to_dialer);
    buffer_done(&pair->to_acceptor);
}

/* Takes the first frame of `from`. */
static enum err take(struct handshake *handshake, const struct handshake_self *self,
                     struct buffer *from, struct buffer *to, bool *done)
{
    struct frame frame = {0};
    enum err err = ERR_OK;

    assert_int_equal(frame_parse(from->data, from->len, &frame), FRAME_WHOLE);
    err = handshake_take(handshake, self, &frame, to, done);
    buffer_consume(from, frame.total_len);
    return err;
}

static void exchange_hellos(struct pair *pair)
{
    bool done = false;

    assert_int_equal(
        take(&pair->dialer, &pair->self_dialer, &pair->to_dialer, &pair->to_acceptor, &done),
        ERR_OK);
    assert_false(done);
    assert_int_equal(
        take(&pair->acceptor, &pair->self_acceptor, &pair->to_acceptor, &pair->to_dialer, &done),
        ERR_OK);
    assert_false(done);
}

static void both_sides_learn_who_the_other_is(void **state)
{
    struct pair pair;
    bool done = false;

    (void)state;
    begin(&pair, "sixteen byte key", "sixteen byte key");
    exchange_hellos(&pair);
    assert_int_equal(
        take(&pair.dialer, &pair.self_dialer, &pair.to_dialer, &pair.to_acceptor, &done), ERR_OK);
    assert_true(done);
    assert_int_equal(
        take(&pair.acceptor, &pair.self_acceptor, &pair.to_acceptor, &pair.to_dialer, &done),
        ERR_OK);
    assert_true(done);
    assert_int_equal(pair.dialer.said.id, 2);
    assert_int_equal(pair.dialer.said.incarnation, 222);
    assert_int_equal(pair.dialer.said.ensemble_len, ENSEMBLE_ID_BYTES);
    assert_memory_equal(pair.dialer.said.ensemble, two.ensemble, ENSEMBLE_ID_BYTES);
    assert_int_equal(pair.acceptor.said.id, 1);
    assert_int_equal(pair.acceptor.said.ensemble_len, 0);
    assert_int_equal(pair.dialer.said.members_index, 77);
    assert_string_equal(pair.acceptor.said.address, "one:2888");
    assert_true(pair.acceptor.is_bulk);
    assert_false(pair.dialer.is_bulk);
    pair_done(&pair);
}

static void another_key_is_a_stranger(void **state)
{
    struct pair pair;
    bool done = false;

    (void)state;
    begin(&pair, "sixteen byte key", "sixteen byte kex");
    exchange_hellos(&pair);
    assert_int_equal(
        take(&pair.dialer, &pair.self_dialer, &pair.to_dialer, &pair.to_acceptor, &done),
        ERR_STRANGER);
    assert_int_equal(
        take(&pair.acceptor, &pair.self_acceptor, &pair.to_acceptor, &pair.to_dialer, &done),
        ERR_STRANGER);
    pair_done(&pair);
}

static void a_proof_sent_back_to_its_maker_is_refused(void **state)
{
    struct pair pair;
    struct frame frame = {0};
    bool done = false;

    (void)state;
    begin(&pair, "sixteen byte key", "sixteen byte key");
    exchange_hellos(&pair);
    /* What the acceptor sent to the dialer goes to the acceptor. */
    assert_int_equal(frame_parse(pair.to_dialer.data, pair.to_dialer.len, &frame), FRAME_WHOLE);
    assert_int_equal(
        handshake_take(&pair.acceptor, &pair.self_acceptor, &frame, &pair.to_acceptor, &done),
        ERR_STRANGER);
    pair_done(&pair);
}

static void a_recorded_proof_does_not_open_a_later_connection(void **state)
{
    struct pair old;
    struct pair new;
    struct frame frame = {0};
    bool done = false;

    (void)state;
    begin(&old, "sixteen byte key", "sixteen byte key");
    begin(&new, "sixteen byte key", "sixteen byte key");
    exchange_hellos(&old);
    exchange_hellos(&new);
    assert_int_equal(frame_parse(old.to_acceptor.data, old.to_acceptor.len, &frame), FRAME_WHOLE);
    assert_int_equal(
        handshake_take(&new.acceptor, &new.self_acceptor, &frame, &new.to_dialer, &done),
        ERR_STRANGER);
    pair_done(&old);
    pair_done(&new);
}

static void a_proof_before_the_hello_or_a_second_hello_is_malformed(void **state)
{
    struct pair pair;
    struct pair other;
    struct frame frame = {0};
    bool done = false;

    (void)state;
    begin(&pair, "sixteen byte key", "sixteen byte key");
    begin(&other, "sixteen byte key", "sixteen byte key");
    exchange_hellos(&other);
    assert_int_equal(frame_parse(other.to_acceptor.data, other.to_acceptor.len, &frame),
                     FRAME_WHOLE);
    assert_int_equal(
        handshake_take(&pair.acceptor, &pair.self_acceptor, &frame, &pair.to_dialer, &done),
        ERR_MALFORMED);
    assert_int_equal(frame_parse(pair.to_acceptor.data, pair.to_acceptor.len, &frame), FRAME_WHOLE);
    assert_int_equal(
        handshake_take(&other.acceptor, &other.self_acceptor, &frame, &other.to_dialer, &done),
        ERR_MALFORMED);
    pair_done(&pair);
    pair_done(&other);
}

static void another_message_is_malformed(void **state)
{
    struct pair pair;
    struct buffer bytes = {0};
    struct frame frame = {0};
    Wire__Touched touched = WIRE__TOUCHED__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    bool done = false;

    (void)state;
    begin(&pair, "sixteen byte key", "sixteen byte key");
    message.body_case = WIRE__PEER_MESSAGE__BODY_TOUCHED;
    message.touched = &touched;
    assert_int_equal(wire_frame(&message.base, NULL, 0, &bytes), ERR_OK);
    assert_int_equal(frame_parse(bytes.data, bytes.len, &frame), FRAME_WHOLE);
    assert_int_equal(
        handshake_take(&pair.acceptor, &pair.self_acceptor, &frame, &pair.to_dialer, &done),
        ERR_MALFORMED);
    buffer_done(&bytes);
    pair_done(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_learn_who_the_other_is),
        cmocka_unit_test(another_key_is_a_stranger),
        cmocka_unit_test(a_proof_sent_back_to_its_maker_is_refused),
        cmocka_unit_test(a_recorded_proof_does_not_open_a_later_connection),
        cmocka_unit_test(a_proof_before_the_hello_or_a_second_hello_is_malformed),
        cmocka_unit_test(another_message_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
