/* SPDX-License-Identifier: Apache-2.0
 * What core does for providers that open NICs: the choice that is kept until one is open, the rails
 * near a piece of memory, threads. The machine is made up; CPUs and nodes are this one's. */
#include "rail.h"

#include "handles.h"
#include "thread.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct haul_candidate candidates[] = {
    {.name = "far0", .pci = ""}, {.name = "near0", .pci = ""}, {.name = "near1", .pci = ""}};

static void add_nic(struct haul_topology *topology, const char *name, unsigned node)
{
    struct haul_device *device = haul_topology_add_device(topology, name);
    assert_non_null(device);
    device->state = HAUL_DEVICE_UP;
    haul_set_add(&device->nodes, node);
}

/* A context on a machine with two nodes: all CPUs that we may use are of node 0, where two NICs
 * are; at node 1 is another. */
static struct haul_context *open_on_two_nodes(const char *rails)
{
    struct haul_context *context;
    struct haul_options *options;
    assert_int_equal(haul_options_create(&options), 0);
    assert_int_equal(haul_options_set(options, "provider", "tcp"), 0);
    assert_int_equal(haul_options_set(options, "rails", rails), 0);
    assert_int_equal(haul_options_set(options, "log", "error"), 0);
    assert_int_equal(haul_open(&context, options), 0);
    haul_options_destroy(options);
    struct haul_site *site = &context->engine->site;
    haul_topology_free(site->topology);
    assert_int_equal(haul_topology_load(NULL, &site->topology), 0);
    struct haul_topology *topology = site->topology;
    free(topology->nodes);
    free(topology->devices);
    topology->devices = NULL;
    topology->device_count = 0;
    topology->unknown[0] = '\0';
    topology->nodes = calloc(2, sizeof *topology->nodes);
    assert_non_null(topology->nodes);
    topology->node_count = 2;
    topology->nodes[0].cpus = topology->own_cpus = topology->cpus;
    topology->nodes[1].number = 1;
    haul_set_add(&topology->mems, 0);
    haul_set_add(&topology->mems, 1);
    add_nic(topology, "far0", 1);
    add_nic(topology, "near0", 0);
    add_nic(topology, "near1", 0);
    site->settled = false;
    return context;
}

static void test_a_choice_is_kept_until_the_provider_is_open(void **state)
{
    struct haul_context *context = open_on_two_nodes("auto");
    struct haul_site *site = &context->engine->site;
    size_t chosen[HAUL_RAILS_MAX];
    (void)state;
    assert_int_equal(haul_rails_choose(context->engine, candidates, 3, chosen, 8), 2);
    assert_int_equal(chosen[0], 1);
    assert_int_equal(chosen[1], 2);
    assert_false(site->settled);
    haul_site_provider_opened(context->engine, false);
    assert_false(site->settled);
    assert_int_equal(haul_rails_choose(context->engine, candidates, 3, chosen, 1), 1);
    haul_site_provider_opened(context->engine, true);
    assert_true(site->settled);
    assert_int_equal(site->chosen.place.rail_count, 1);
    assert_string_equal(site->chosen.nics[0], "near0");
    assert_int_equal(haul_rails_choose(context->engine, candidates, 1, chosen, 8), 1);
    haul_site_provider_opened(context->engine, true); /* another: the first stays */
    assert_string_equal(site->chosen.nics[0], "near0");
    haul_close(context);
}

/* Memory of which the kernel says where it is. */
static void test_rails_near_a_page(void **state)
{
    struct haul_context *context = open_on_two_nodes("3");
    struct haul_engine *engine = context->engine;
    size_t chosen[HAUL_RAILS_MAX];
    struct haul_block *block;
    (void)state;
    assert_int_equal(haul_rails_choose(engine, candidates, 3, chosen, 8), 3);
    assert_int_equal(chosen[2], 0); /* far0 */
    assert_int_equal(haul_pool_alloc(engine->pool, 1, 0, &block), 0);
    ((char *)block->data)[0] = 1;
    int node = haul_memory_node((char *)block->data + 1);
    if (node < 0)
        print_message("the kernel does not tell where pages are\n");
    assert_int_equal(haul_rails_near(engine, block->data), node < 0    ? 7
                                                           : node == 0 ? 3
                                                           : node == 1 ? 4
                                                                       : 7);
    haul_block_release(block);
    haul_site_provider_opened(engine, false);
    haul_close(context);
}

/* "": none. */
static struct haul_set set_of(const char *text)
{
    struct haul_set set;
    assert_true(haul_set_parse(text, &set) || !*text);
    return set;
}

/* Memory without a page, which will be where the pool's memory goes if that is one node. */
static void test_rails_near_a_node(void **state)
{
    static const struct {
        const char *memory, *rails[3]; /* nodes; rails end with NULL */
        unsigned near;
    } rows[] = {
        {"0", {"0", "0", "1"}, 3},
        {"1", {"0", "0", "1"}, 4},
        {"1", {"1", "0", "1"}, 5},
        {"1", {"0-1", "0", "1"}, 5}, /* one is near two nodes */
        {"1", {"0", "", "1"}, 6},    /* one whose place is not known may be near */
        {"1", {"", ""}, 3},
        /* Where none is near, or it is not known where the memory will be, all are as good. */
        {"2", {"0", "0", "1"}, 7},
        {"0-1", {"0", "0", "1"}, 7},
        {"", {"0", "0", "1"}, 7},
        {"1", {"0"}, 1},
        {"0", {"0"}, 1},
    };
    struct haul_context *context = open_on_two_nodes("auto");
    struct haul_site *site = &context->engine->site;
    (void)state;
    site->settled = true;
    for (size_t i = 0; i < HAUL_COUNT_OF(rows); i++) {
        size_t count = 0;
        for (; count < HAUL_COUNT_OF(rows[i].rails) && rows[i].rails[count]; count++)
            site->chosen.place.rails[count].nodes = set_of(rows[i].rails[count]);
        site->chosen.place.rail_count = count;
        site->memory.nodes = set_of(rows[i].memory);
        unsigned near = haul_rails_near(context->engine, NULL);
        if (near != rows[i].near)
            fail_msg("row %zu: %#x, not %#x", i, near, rows[i].near);
    }
    haul_close(context);
}

/* While a provider is being opened its own choice counts, from then on the one that was carried
 * out. */
static void test_rails_near_by_the_choice_that_counts(void **state)
{
    struct haul_context *context = open_on_two_nodes("3");
    struct haul_site *site = &context->engine->site;
    size_t chosen[HAUL_RAILS_MAX];
    (void)state;
    assert_int_equal(haul_rails_choose(context->engine, candidates, 3, chosen, 8), 3);
    site->memory.nodes = set_of("1");
    assert_int_equal(haul_rails_near(context->engine, NULL), 4);
    haul_site_provider_opened(context->engine, true);
    site->memory.nodes = set_of("1"); /* (this machine may have bound it) */
    assert_int_equal(haul_rails_near(context->engine, NULL), 4);
    assert_int_equal(haul_rails_choose(context->engine, candidates + 1, 2, chosen, 8), 2);
    assert_int_equal(haul_rails_near(context->engine, NULL), 3);
    haul_site_provider_opened(context->engine, false);
    assert_int_equal(haul_rails_near(context->engine, NULL), 4);
    haul_close(context);
}

struct look {
    sigset_t blocked;
    cpu_set_t cpus;
};

static void look(void *arg)
{
    struct look *look = arg;
    pthread_sigmask(SIG_BLOCK, NULL, &look->blocked);
    sched_getaffinity(0, sizeof look->cpus, &look->cpus);
}

static void test_threads(void **state)
{
    struct haul_context *context = open_on_two_nodes("auto");
    struct haul_thread *thread;
    cpu_set_t own;
    size_t chosen[HAUL_RAILS_MAX];
    /* (A number that no NIC has is no error: the thread goes anywhere.) */
    const size_t nics[] = {0, 1, 2, HAUL_NO_NIC};
    (void)state;
    assert_int_equal(haul_rails_choose(context->engine, candidates, 3, chosen, 8), 2);
    assert_int_equal(sched_getaffinity(0, sizeof own, &own), 0);
    for (size_t i = 0; i < HAUL_COUNT_OF(nics); i++) {
        struct look seen = {.blocked = {{0}}};
        assert_int_equal(haul_rails_thread_start(context->engine, nics[i], look, &seen, &thread),
                         0);
        haul_thread_join(thread);
        assert_true(sigismember(&seen.blocked, SIGINT));
        assert_true(sigismember(&seen.blocked, SIGTERM));
        if (nics[i] >= 2)
            assert_true(CPU_EQUAL(&seen.cpus, &own));
    }
    haul_site_provider_opened(context->engine, true);
    haul_close(context);
}

static void test_a_context_without_rails(void **state)
{
    struct haul_context *context = open_on_two_nodes("auto");
    struct haul_rail_stats rails[2];
    (void)state;
    assert_int_equal(haul_context_rails(context, rails, 2), 0);
    assert_int_equal(haul_context_rails(context, NULL, 0), 0);
    haul_close(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_choice_is_kept_until_the_provider_is_open),
        cmocka_unit_test(test_rails_near_a_page),
        cmocka_unit_test(test_rails_near_a_node),
        cmocka_unit_test(test_rails_near_by_the_choice_that_counts),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_a_context_without_rails),
    };
    return cmocka_run_group_tests_name("rail", tests, NULL, NULL);
}
