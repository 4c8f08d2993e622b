/* SPDX-License-Identifier: Apache-2.0
 * What libzmq says about the connections of a socket. The events come from its I/O threads through
 * a PAIR socket, and so in another order than messages do. */
#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool work(struct haul_zmq_source *source)
{
    struct haul_zmq_monitor *monitor = HAUL_ZMQ_OF(source, struct haul_zmq_monitor, source);
    haul_zmq_monitor_drain(monitor);
    monitor->after(monitor);
    return false;
}

int haul_zmq_monitor_open(struct haul_zmq_monitor *monitor, struct haul_zmq_source *of, int events)
{
    char address[64];
    struct haul_zmq_channel *channel = of->channel;
    snprintf(address, sizeof address, "inproc://monitor-%u", channel->monitors++);
    int err = haul_zmq_source_open(&monitor->source, channel, ZMQ_PAIR, work);
    /* No limit: libzmq's I/O thread would wait for us to read. */
    if (!err)
        err = haul_zmq_source_set(&monitor->source, ZMQ_RCVHWM, 0);
    if (!err && (zmq_socket_monitor(of->socket, address, events) ||
                 zmq_connect(monitor->source.socket, address)))
        err = haul_zmq_host->fail(HAUL_SYSTEM, "libzmq cannot watch a socket: %s",
                                  zmq_strerror(errno));
    monitor->of = of;
    if (err)
        haul_zmq_monitor_close(monitor);
    return err;
}

void haul_zmq_monitor_close(struct haul_zmq_monitor *monitor)
{
    if (!monitor->source.socket)
        return;
    /* First: libzmq's I/O thread would wait for ever to tell an event to nobody. */
    zmq_socket_monitor(monitor->of->socket, NULL, 0);
    haul_zmq_source_close(&monitor->source, 0);
}

void haul_zmq_monitor_drain(struct haul_zmq_monitor *monitor)
{
    zmq_msg_t part;
    zmq_msg_init(&part);
    while (haul_zmq_receive_part(monitor->source.socket, &part)) {
        uint16_t event;
        uint32_t value;
        memcpy(&event, zmq_msg_data(&part), sizeof event);
        memcpy(&value, (char *)zmq_msg_data(&part) + sizeof event, sizeof value);
        if (!haul_zmq_receive_part(monitor->source.socket, &part)) /* the address */
            break;
        monitor->source.channel->worked = true;
        monitor->event(monitor, event, value);
    }
    zmq_msg_close(&part);
}
