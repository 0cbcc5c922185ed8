/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes on their way: offered in order, again after a change of leader, dropped with their client.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/proposal.h"

struct taken {
    size_t count;
    size_t max;
    uint64_t sequence[8];
};

static bool take(void *arg, const struct proposal *proposal)
{
    struct taken *taken = arg;
    if (taken->count == taken->max) {
        return false;
    }
    taken->sequence[taken->count++] = proposal->key.b;
    return true;
}

static void add(struct proposals *proposals, uint64_t sequence, struct client *client)
{
    struct proposal proposal = {
        .key = {.kind = PROPOSAL_COMMAND, .a = 1, .b = sequence},
        .client = client,
        .call = sequence,
    };
    assert_int_equal(buffer_append(&proposal.bytes, "x", 1), ERR_OK);
    assert_int_equal(proposals_add(proposals, &proposal), ERR_OK);
    assert_null(proposal.bytes.data);
}

static void each_is_offered_once_in_order_of_admission(void **state)
{
    (void)state;
    struct proposals *proposals = proposals_new();
    add(proposals, 3, NULL);
    add(proposals, 1, NULL);
    add(proposals, 2, NULL);
    struct taken taken = {.max = 8};
    proposals_offer(proposals, 100, 1000, take, &taken);
    assert_int_equal(taken.count, 3);
    assert_int_equal(taken.sequence[0], 3);
    assert_int_equal(taken.sequence[2], 2);
    proposals_offer(proposals, 101, 1000, take, &taken);
    assert_int_equal(taken.count, 3);
    proposals_free(proposals);
}

static void what_the_leader_had_no_room_for_is_offered_in_the_next_turn(void **state)
{
    (void)state;
    struct proposals *proposals = proposals_new();
    add(proposals, 1, NULL);
    add(proposals, 2, NULL);
    struct taken taken = {.max = 1};
    proposals_offer(proposals, 100, 1000, take, &taken);
    assert_int_equal(taken.count, 1);
    taken.max = 8;
    proposals_offer(proposals, 100, 1000, take, &taken);
    assert_int_equal(taken.count, 2);
    assert_int_equal(taken.sequence[1], 2);
    proposals_free(proposals);
}

static void after_a_change_of_leader_and_after_a_while_all_are_offered_again(void **state)
{
    (void)state;
    struct proposals *proposals = proposals_new();
    add(proposals, 1, NULL);
    struct taken taken = {.max = 8};
    proposals_offer(proposals, 100, 1000, take, &taken);
    proposals_unsend(proposals);
    proposals_offer(proposals, 101, 1000, take, &taken);
    assert_int_equal(taken.count, 2);
    proposals_offer(proposals, 1101, 1000, take, &taken);
    assert_int_equal(taken.count, 3);
    proposals_free(proposals);
}

static void a_clients_proposals_go_with_it_and_a_resend_replaces_its_first(void **state)
{
    (void)state;
    struct proposals *proposals = proposals_new();
    int one = 0; /* any address */
    struct client *client = (struct client *)(void *)&one;
    add(proposals, 1, client);
    add(proposals, 1, client);
    add(proposals, 2, NULL);
    assert_int_equal(proposals_count(proposals), 2);
    proposals_drop_client(proposals, client);
    assert_int_equal(proposals_count(proposals), 1);
    struct proposal_key key = {.kind = PROPOSAL_COMMAND, .a = 1, .b = 2};
    proposals_remove(proposals, proposals_find(proposals, &key));
    assert_null(proposals_find(proposals, &key));
    proposals_free(proposals);
}

static void bytes_are_counted_and_what_is_removed_is_not_offered(void **state)
{
    (void)state;
    struct proposals *proposals = proposals_new();
    struct proposal_key key = {.kind = PROPOSAL_COMMAND, .a = 1, .b = 2};
    struct taken taken = {.max = 1};
    for (uint64_t i = 1; i <= 4; i++) {
        add(proposals, i, NULL);
    }
    add(proposals, 4, NULL); /* asked again: counted once */
    assert_int_equal(proposals_bytes(proposals), 4);
    proposals_offer(proposals, 100, 1000, take, &taken);
    proposals_remove(proposals, proposals_find(proposals, &key)); /* the next one */
    assert_int_equal(proposals_bytes(proposals), 3);
    taken.max = 8;
    proposals_offer(proposals, 100, 1000, take, &taken);
    assert_int_equal(taken.count, 3);
    assert_int_equal(taken.sequence[1], 3);
    assert_int_equal(taken.sequence[2], 4);
    add(proposals, 3, NULL); /* offered before: once more, and nothing else */
    proposals_offer(proposals, 101, 1000, take, &taken);
    assert_int_equal(taken.count, 4);
    assert_int_equal(taken.sequence[3], 3);
    proposals_free(proposals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_offered_once_in_order_of_admission),
        cmocka_unit_test(what_the_leader_had_no_room_for_is_offered_in_the_next_turn),
        cmocka_unit_test(after_a_change_of_leader_and_after_a_while_all_are_offered_again),
        cmocka_unit_test(a_clients_proposals_go_with_it_and_a_resend_replaces_its_first),
        cmocka_unit_test(bytes_are_counted_and_what_is_removed_is_not_offered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
