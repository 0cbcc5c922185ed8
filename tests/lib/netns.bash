# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Replicas in network namespaces of their own, for partitions: `load ../lib/netns` behind
# ../lib/ensemble. Replica I has 10.77.0.I, all hang on a bridge in one more namespace; nothing of it
# touches the network of the host. Clients come by the unix sockets, as files are shared.
#
#   start_netns_ensemble 3;  part_from 1 2;  lose_from 1 2 20;  heal
#
# With SLOW_NET=1 the replicas hang on tests/cluster/slow_net instead, for delays:
#
#   SLOW_NET=1 start_netns_ensemble 3;  delay 20 10;  delay 0 0

# shellcheck disable=SC2034 # PREFIX: start_replica uses it
netns_setup()
{
    NETNS=quorumfs-$$-$RANDOM
    NETNS_COUNT=$1
    local i
    for ((i = 1; i <= $1; i++)); do
        ip netns add "$NETNS-$i"
        ip -n "$NETNS-$i" link set lo up
    done
    if [ -n "${SLOW_NET:-}" ]; then
        join_by_slow_net
    else
        join_by_bridge
    fi
    for ((i = 1; i <= $1; i++)); do
        ip -n "$NETNS-$i" addr add "10.77.0.$i/24" dev eth0
        ip -n "$NETNS-$i" link set eth0 up
        ip netns exec "$NETNS-$i" nft add table inet faults
        ip netns exec "$NETNS-$i" nft add chain inet faults input \
            '{ type filter hook input priority 0; }'
    done
}

join_by_bridge()
{
    local i
    ip netns add "$NETNS"
    ip -n "$NETNS" link add bridge type bridge
    ip -n "$NETNS" link set bridge up
    for ((i = 1; i <= NETNS_COUNT; i++)); do
        ip -n "$NETNS" link add "port$i" type veth peer name eth0 netns "$NETNS-$i"
        ip -n "$NETNS" link set "port$i" master bridge up
    done
}

join_by_slow_net()
{
    local i spaces=()
    for ((i = 1; i <= NETNS_COUNT; i++)); do
        spaces+=("$NETNS-$i")
    done
    mkfifo "$T/delay"
    # Opened for both: it waits for no other side and never ends.
    "$QUORUMFS_TESTS/cluster/slow_net" "${spaces[@]}" 0<>"$T/delay" >"$T/slow_net" 2>&1 3>&- 8>&- &
    OTHERS+=($!)
    wait_for 10 grep -q ready "$T/slow_net"
}

# delay MIN_MS JITTER_MS: every packet between replicas takes so long, one way.
delay() { echo "$1 $2" >"$T/delay"; }

netns_teardown()
{
    local i
    for ((i = 1; i <= ${NETNS_COUNT:-0}; i++)); do
        ip netns del "$NETNS-$i" 2>/dev/null || true
    done
    [ -z "${NETNS:-}" ] || ip netns del "$NETNS" 2>/dev/null || true
}

# What start_replica puts before the daemon.
in_netns()
{
    echo "ip netns exec $NETNS-$1"
}

start_netns_ensemble()
{
    netns_configs "$1"
    PREFIX=in_netns
    start_netns_replicas
}

# netns_configs N: namespaces, $T/1/conf ...
netns_configs()
{
    local i
    netns_setup "$1"
    write_configs "$1"
    for ((i = 1; i <= $1; i++)); do
        sed -i "/^listen/s/.*/listen = none/; s/^\([0-9]*\) = .*/\1 = 10.77.0.\1:2888/" "$T/$i/conf"
        sed -i "s|^socket.*|socket = $T/$i/sock|" "$T/$i/conf"
    done
}

# By PREFIX, which start_replica uses; they serve when this returns.
start_netns_replicas()
{
    local i
    for ((i = 1; i <= COUNT; i++)); do
        start_replica "$i"
    done
    for ((i = 1; i <= COUNT; i++)); do
        wait_for 20 serves "$i"
    done
}

# part_from I J: replica I hears nothing from J. One way only.
part_from()
{
    ip netns exec "$NETNS-$1" nft add rule inet faults input ip saddr "10.77.0.$2" drop
}

# isolate I: nothing passes between I and the others.
isolate()
{
    local j
    for ((j = 1; j <= NETNS_COUNT; j++)); do
        [ "$j" -eq "$1" ] || cut_between "$1" "$j"
    done
}

# cut_between I J: nothing passes between the two; others see both.
cut_between()
{
    part_from "$1" "$2"
    part_from "$2" "$1"
}

# lose_from I J PERCENT: so many of the packets from J do not reach I.
lose_from()
{
    ip netns exec "$NETNS-$1" nft add rule inet faults input ip saddr "10.77.0.$2" \
        numgen random mod 100 '<' "$3" drop
}

heal()
{
    local i
    for ((i = 1; i <= NETNS_COUNT; i++)); do
        ip netns exec "$NETNS-$i" nft flush chain inet faults input
    done
}
