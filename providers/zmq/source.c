/* SPDX-License-Identifier: Apache-2.0
 * libzmq sockets in the context's event loop.
 *
 * A socket's descriptor is edge-triggered in effect: it becomes readable when libzmq posts a
 * command to the socket, and any call on the socket, a send too, takes the posted commands. So
 * whoever calls a socket sees to it that it is read afterwards until nothing is left. A source in
 * channel->ready is one that was not. */
#include "channel.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

static void readable(void *arg, uint32_t events)
{
    (void)events;
    haul_zmq_source_ready(arg);
}

static int watch(struct haul_zmq_source *source)
{
    int fd;
    size_t size = sizeof fd;
    if (zmq_getsockopt(source->socket, ZMQ_FD, &fd, &size))
        return haul_zmq_host->fail(HAUL_SYSTEM, "libzmq: %s", zmq_strerror(errno));
    return haul_zmq_host->watch(source->channel->engine, fd, EPOLLIN, readable, source,
                                &source->watch);
}

int haul_zmq_source_open(struct haul_zmq_source *source, struct haul_zmq_channel *channel, int type,
                         bool (*work)(struct haul_zmq_source *source))
{
    *source = (struct haul_zmq_source){.channel = channel, .work = work};
    haul_zmq_list_init(&source->node);
    source->socket = zmq_socket(channel->context, type);
    if (!source->socket)
        return haul_zmq_host->fail(HAUL_SYSTEM, "libzmq cannot make a socket: %s",
                                   zmq_strerror(errno));
    int err = watch(source);
    if (err)
        haul_zmq_source_close(source, 0);
    else
        haul_zmq_source_wake(source); /* libzmq signals only what is read once it was found empty */
    return err;
}

int haul_zmq_source_set(struct haul_zmq_source *source, int option, int value)
{
    if (zmq_setsockopt(source->socket, option, &value, sizeof value))
        return haul_zmq_host->fail(HAUL_SYSTEM, "libzmq refuses option %d: %s", option,
                                   zmq_strerror(errno));
    return 0;
}

void haul_zmq_source_wake(struct haul_zmq_source *source)
{
    haul_zmq_source_ready(source);
    haul_zmq_host->wake(source->channel->engine);
}

int haul_zmq_source_limit_parts(struct haul_zmq_source *source)
{
    int64_t bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (bytes > 0 && zmq_setsockopt(source->socket, ZMQ_MAXMSGSIZE, &bytes, sizeof bytes))
        return haul_zmq_host->fail(HAUL_SYSTEM, "libzmq refuses a largest part: %s",
                                   zmq_strerror(errno));
    return 0;
}

void haul_zmq_source_ready(struct haul_zmq_source *source)
{
    if (haul_zmq_list_empty(&source->node))
        haul_zmq_list_append(&source->channel->ready, &source->node);
}

void haul_zmq_source_check(struct haul_zmq_source *source)
{
    int events = 0;
    size_t size = sizeof events;
    zmq_getsockopt(source->socket, ZMQ_EVENTS, &events, &size);
    if ((events & ZMQ_POLLIN) && haul_zmq_list_empty(&source->node))
        haul_zmq_source_wake(source);
}

void haul_zmq_source_close(struct haul_zmq_source *source, int linger_ms)
{
    if (!source->socket)
        return;
    haul_zmq_list_remove(&source->node);
    if (source->watch)
        haul_zmq_host->unwatch(source->watch);
    zmq_setsockopt(source->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_close(source->socket);
    source->socket = NULL;
    source->watch = NULL;
}
