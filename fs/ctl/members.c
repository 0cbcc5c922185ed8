/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl members: who belongs to the ensemble, as the replica that answers sees it, and changes
 * of that. A change is asked for until it has begun, then watched until it has ended.
 */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/parse.h"
#include "fs/ctl/ctl.h"

#define WAIT_S_DEFAULT 60u
#define WAIT_S_MAX     86400u
#define LOOK_MS        100u /* between two looks whether a change has ended */
#define ID_MAX         65535u

/* ---- showing ---- */

static const char *role_of(const Wire__Member *member)
{
    if (member->changing) {
        return "changing";
    }
    if (member->voter) {
        return "voter";
    }
    return member->joining ? "joining" : "learner";
}

static void print_text(const Wire__Answer *answer)
{
    (void)printf("%-4s %-8s %-10s %12s  %s\n", "ID", "ROLE", "CONNECTED", "MATCH", "ADDRESS");
    for (size_t i = 0; i < answer->n_members; i++) {
        const Wire__Member *member = answer->members[i];
        (void)printf("%-4llu %-8s %-10s %12llu  ", (unsigned long long)member->id, role_of(member),
                     member->connected ? "yes" : "no", (unsigned long long)member->match_index);
        ctl_print_name(member->address.data, member->address.len);
        (void)putchar('\n');
    }
}

static void print_json(const Wire__Answer *answer)
{
    json_t *list = json_array();

    for (size_t i = 0; i < answer->n_members; i++) {
        const Wire__Member *member = answer->members[i];
        json_t *object = json_object();
        ctl_json_number(object, "id", member->id);
        ctl_json_bytes(object, "address", member->address.data, member->address.len);
        (void)json_object_set_new(object, "role", json_string(role_of(member)));
        (void)json_object_set_new(object, "voter", json_boolean(member->voter));
        (void)json_object_set_new(object, "connected", json_boolean(member->connected));
        ctl_json_number(object, "match_index", member->match_index);
        ctl_json_number(object, "incarnation", member->incarnation);
        (void)json_array_append_new(list, object);
    }
    ctl_json_print(list);
}

static enum err ask_members(struct ctl *ctl, Wire__Answer **out)
{
    Wire__MembersRead read = WIRE__MEMBERS_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;

    request.body_case = WIRE__REQUEST__BODY_MEMBERS;
    request.members = &read;
    return ctl_ask(ctl, &request, out);
}

/* The members as they are; also what a change ends with. */
static enum ctl_exit show(struct ctl *ctl)
{
    Wire__Answer *answer = NULL;
    enum err err = ask_members(ctl, &answer);

    if (err != ERR_OK) {
        return ctl_fail(ctl, NULL, err);
    }
    if (ctl->json) {
        print_json(answer);
    } else {
        print_text(answer);
    }
    wire_free(&answer->base);
    return CTL_OK;
}

/* ---- changing ---- */

struct change {
    const char *name;
    Wire__MembersAction action;
    int arguments_min; /* behind the name */
    int arguments_max;
};

static const struct change changes[] = {
    {"add", WIRE__MEMBERS_ACTION__MEMBERS_ADD, 2, 2},
    {"remove", WIRE__MEMBERS_ACTION__MEMBERS_REMOVE, 1, 1},
    {"promote", WIRE__MEMBERS_ACTION__MEMBERS_PROMOTE, 1, 1},
    {"demote", WIRE__MEMBERS_ACTION__MEMBERS_DEMOTE, 1, 1},
    {"transfer", WIRE__MEMBERS_ACTION__MEMBERS_TRANSFER, 0, 1},
};

/* What was asked for, and until when. */
struct wish {
    const struct change *change;
    Wire__MembersChange message;
    uint64_t replica; /* that we are connected to */
    uint64_t leader_before;
    uint64_t until_ms;
};

static bool is_transient(enum err err)
{
    return err == ERR_MEMBERS_BUSY || err == ERR_NO_LEADER || err == ERR_NOT_LEADER ||
           err == ERR_LIMIT || err == ERR_CLOSED || err == ERR_NOT_READY;
}

static void on_look(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void wait_a_little(struct ctl *ctl)
{
    uv_timer_t timer;

    (void)uv_timer_init(&ctl->loop, &timer);
    (void)uv_timer_start(&timer, on_look, LOOK_MS, 0);
    (void)uv_run(&ctl->loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&ctl->loop, UV_RUN_NOWAIT);
}

static enum err ask_leader(struct ctl *ctl, uint64_t *out_replica, uint64_t *out_leader)
{
    Wire__StatusRead read = WIRE__STATUS_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Answer *answer = NULL;

    request.body_case = WIRE__REQUEST__BODY_STATUS;
    request.status = &read;
    enum err err = ctl_ask(ctl, &request, &answer);
    if (err == ERR_OK && answer->status == NULL) {
        err = ERR_MALFORMED;
    }
    *out_replica = err == ERR_OK ? answer->status->replica : 0;
    *out_leader = err == ERR_OK ? answer->status->leader : 0;
    if (answer != NULL) {
        wire_free(&answer->base);
    }
    return err;
}

/* Asks until it has begun. */
static enum err begin(struct ctl *ctl, struct wish *wish)
{
    for (;;) {
        Wire__Request request = WIRE__REQUEST__INIT;
        Wire__Answer *answer = NULL;
        request.body_case = WIRE__REQUEST__BODY_MEMBERS_CHANGE;
        request.members_change = &wish->message;
        enum err err = ctl_ask(ctl, &request, &answer);
        if (answer != NULL) {
            wire_free(&answer->base);
        }
        if (!is_transient(err) || clock_monotonic_ms() >= wish->until_ms) {
            return err;
        }
        wait_a_little(ctl);
    }
}

static const Wire__Member *find(const Wire__Answer *answer, uint64_t id)
{
    for (size_t i = 0; i < answer->n_members; i++) {
        if (answer->members[i]->id == id) {
            return answer->members[i];
        }
    }
    return NULL;
}

static bool members_have_it(const struct wish *wish, const Wire__Answer *answer)
{
    const Wire__Member *member = find(answer, wish->message.id);

    if (wish->message.action == WIRE__MEMBERS_ACTION__MEMBERS_REMOVE) {
        return member == NULL;
    }
    return member != NULL && !member->changing &&
           member->voter == (wish->message.action != WIRE__MEMBERS_ACTION__MEMBERS_DEMOTE);
}

/* A replica that was removed answers no more, not even that. */
static bool asked_itself_away(const struct wish *wish)
{
    return wish->message.action == WIRE__MEMBERS_ACTION__MEMBERS_REMOVE &&
           wish->replica == wish->message.id;
}

static bool has_ended(struct ctl *ctl, const struct wish *wish)
{
    Wire__Answer *answer = NULL;
    uint64_t replica = 0;
    uint64_t leader = 0;
    bool ended = false;

    if (wish->message.action == WIRE__MEMBERS_ACTION__MEMBERS_TRANSFER) {
        return ask_leader(ctl, &replica, &leader) == ERR_OK && leader != 0 &&
               (wish->message.id != 0 ? leader == wish->message.id : leader != wish->leader_before);
    }
    if (ask_members(ctl, &answer) == ERR_OK) {
        ended = members_have_it(wish, answer);
        wire_free(&answer->base);
    } else {
        ended = asked_itself_away(wish);
    }
    return ended;
}

static enum ctl_exit carry_out(struct ctl *ctl, struct wish *wish)
{
    enum err err = ask_leader(ctl, &wish->replica, &wish->leader_before);

    err = err == ERR_OK ? begin(ctl, wish) : err;
    if (err != ERR_OK) {
        return ctl_fail(ctl, wish->change->name, err);
    }
    while (!has_ended(ctl, wish)) {
        if (clock_monotonic_ms() >= wish->until_ms) {
            (void)fprintf(stderr,
                          "quorumctl: members %s: it has begun, but has not ended in the time of "
                          "--wait; it goes on\n",
                          wish->change->name);
            return CTL_FAILED;
        }
        wait_a_little(ctl);
    }
    if (asked_itself_away(wish)) {
        (void)fprintf(stderr, "quorumctl: members %s: replica %llu serves no clients any more\n",
                      wish->change->name, (unsigned long long)wish->replica);
        return CTL_OK;
    }
    return show(ctl);
}

static enum ctl_exit run_change(struct ctl *ctl, const struct change *change, int argc, char **argv)
{
    struct wish wish = {.change = change, .message = WIRE__MEMBERS_CHANGE__INIT};
    uint64_t wait_s = WAIT_S_DEFAULT;
    char host[256];
    uint16_t port = 0;

    if (argc - 1 < change->arguments_min || argc - 1 > change->arguments_max) {
        return ctl_usage(ctl, "%s: %s arguments", change->name,
                         argc - 1 < change->arguments_min ? "too few" : "too many");
    }
    wish.message.action = change->action;
    if (argc > 1 && parse_u64(argv[1], 1, ID_MAX, &wish.message.id) != ERR_OK) {
        return ctl_usage(ctl, "'%s' is not the number of a replica", argv[1]);
    }
    if (argc > 2) {
        if (parse_address(argv[2], 0, host, sizeof host, &port) != ERR_OK || port == 0) {
            return ctl_usage(ctl, "'%s' is not HOST:PORT", argv[2]);
        }
        wish.message.address = argv[2];
    }
    if (ctl->given['w'] && parse_u64(ctl->value['w'], 0, WAIT_S_MAX, &wait_s) != ERR_OK) {
        return ctl_usage(ctl, "'%s' is not a number of seconds", ctl->value['w']);
    }
    wish.until_ms = clock_monotonic_ms() + wait_s * 1000u;
    return ctl_connect(ctl, /* session */ false) ? carry_out(ctl, &wish) : CTL_FAILED;
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    if (argc == 0) {
        return ctl_connect(ctl, /* session */ false) ? show(ctl) : CTL_FAILED;
    }
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        if (strcmp(argv[0], changes[i].name) == 0) {
            return run_change(ctl, &changes[i], argc, argv);
        }
    }
    return ctl_usage(ctl, "'%s' is no change of members", argv[0]);
}

const struct command command_members = {
    .name = "members",
    .arguments = "[CHANGE]",
    .summary = "show or change the members of the ensemble",
    .help = "Without CHANGE, show the members: number, role, whether the replica that\n"
            "answers is connected to it, up to where its log is known to agree with the\n"
            "leader's, and its address. A learner holds the tree and serves mounts, but\n"
            "has no vote; a joining one becomes a voter when it has caught up.\n"
            "\n"
            "CHANGE is one of these; it is done when the command ends:\n"
            "  add ID HOST:PORT       a new replica, which was started to join (quorumd(8));\n"
            "                         ID is above all that ever were used\n"
            "  remove ID              a replica leaves for good\n"
            "  promote ID             a learner becomes a voter when it has caught up\n"
            "  demote ID              a voter becomes a learner, and stays one\n"
            "  transfer [ID]          ID, or whoever is furthest, becomes the leader\n"
            "\n"
            "  -w, --wait SECONDS     give up watching after so long (default 60)\n",
    .options = {{'w', "wait", true}},
    .arguments_min = 0,
    .arguments_max = 3,
    .run = run,
};
