/* SPDX-License-Identifier: Apache-2.0
 * What a child of fork() must not keep: libzmq's network descriptors. Open ones would hide the end
 * of its parent from all peers. libzmq's other ones (event loops, wake-ups) do no harm.
 *
 * Core holds the drive locks during a fork, so that sockets and connections are in order; only the
 * list of channels may be changing, and is in order at each moment. */
#include "channel.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* for those who change it */
static _Atomic(struct haul_zmq_channel *) channels;

static void drop_in_child(void)
{
    for (struct haul_zmq_channel *channel = channels; channel; channel = channel->next_open) {
        haul_zmq_servers_drop(channel);
        haul_zmq_dealers_drop(channel);
    }
    channels = NULL;
    pthread_mutex_init(&list_lock, NULL);
}

static void install(void)
{
    pthread_atfork(NULL, NULL, drop_in_child);
}

void haul_zmq_fork_register(struct haul_zmq_channel *channel)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    pthread_mutex_lock(&list_lock);
    channel->next_open = channels;
    channels = channel;
    pthread_mutex_unlock(&list_lock);
}

void haul_zmq_fork_unregister(struct haul_zmq_channel *channel)
{
    pthread_mutex_lock(&list_lock);
    _Atomic(struct haul_zmq_channel *) *place = &channels;
    while (*place != channel)
        place = &(*place)->next_open;
    *place = channel->next_open;
    pthread_mutex_unlock(&list_lock);
}
