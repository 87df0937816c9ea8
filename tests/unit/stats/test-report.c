/* SPDX-License-Identifier: Apache-2.0 */

/* Rates, interfaces and the summary, from literals. */

#include "../unit.h"
#include "base/str.h"
#include "stats/stats-internal.h"

#define SECOND 1000000LL

static void reading(RateSample *s, int64_t at, uint64_t cpu_ns, bool has_rate, uint64_t rate)
{
        bool found_has;
        uint64_t found;

        rate_update(s, at, cpu_ns, &found_has, &found);
        assert_int_equal(found_has, has_rate);
        assert_int_equal(found, rate);
}

static void test_rates(void **state)
{
        RateSample s = { 0 };
        int64_t t = 1000 * SECOND;

        /* Half a processor; a first reading has nothing to compare with. */
        reading(&s, t, 1000000000, false, 0);
        reading(&s, t + SECOND, 1500000000, true, 500000000);
        /* Ten seconds later: over all of the interval. */
        reading(&s, t + 10 * SECOND, 2000000000, true, 100000000);
        /* Soon after that, the rate stays. */
        reading(&s, t + 11 * SECOND, 9000000000, true, 100000000);
        reading(&s, t + 20 * SECOND, 12000000000, true, 1000000000);
        /* A group that was made anew, a clock that was set back, a long pause. */
        reading(&s, t + 30 * SECOND, 5, false, 0);
        reading(&s, t + 31 * SECOND, 1000000005, true, 1000000000);
        reading(&s, t, 2000000000, false, 0);
        reading(&s, t, 2000000000, false, 0);
        reading(&s, t + STATS_SAMPLE_FORGET_US + 1, 3000000000, false, 0);
}

static void test_interfaces(void **state)
{
        static const char text[] =
                "Inter-|   Receive                                                |  Transmit\n"
                " face |bytes    packets errs drop fifo frame compressed multicast|bytes    "
                "packets "
                "errs drop fifo colls carrier compressed\n"
                "    lo:     100       1    0    0    0     0          0         0      100       "
                "1 "
                "   0    0    0     0       0          0\n"
                "  eth0: 280762131  3000    1    2    3     4          5         6   248586    "
                "2000 "
                "   7    8    9    10      11         12\n"
                "veth12:       1       1    1    1    1     1          1         1        1       "
                "1 "
                "   1    1    1     1       1          1\n"
                " net.1:18446744073709551615 1 0 0 0 0 0 0 2 3 0 0 0 0 0 0\n"
                "an_interface_with_a_long_name: 1 1 0 0 0 0 0 0 2 3 0 0 0 0 0 0\n"
                "cut: 1 1 0\n";
        StatsInterface found[STATS_INTERFACES_MAX];

        assert_int_equal(stats_parse_interfaces("", found), 0);
        assert_int_equal(stats_parse_interfaces(text, found), 2);
        assert_string_equal(found[0].name, "eth0");
        assert_int_equal(found[0].rx_bytes, 280762131);
        assert_int_equal(found[0].rx_packets, 3000);
        assert_int_equal(found[0].rx_errors, 1);
        assert_int_equal(found[0].rx_dropped, 2);
        assert_int_equal(found[0].tx_bytes, 248586);
        assert_int_equal(found[0].tx_errors, 7);
        assert_int_equal(found[0].tx_dropped, 8);
        assert_string_equal(found[1].name, "net.1");
        assert_true(found[1].rx_bytes == UINT64_MAX);
}

static void test_more_interfaces_than_are_kept(void **state)
{
        StatsInterface found[STATS_INTERFACES_MAX];
        KL_AUTOBUF text = BUF_INIT;

        for (int i = 0; i < STATS_INTERFACES_MAX + 5; i++)
                buf_addf(&text, "e%d: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n", i);
        assert_int_equal(stats_parse_interfaces(buf_str(&text), found), STATS_INTERFACES_MAX);
}

static StatsReport literal_report(StatsPod *pod, StatsContainer *c, StatsVolume *v)
{
        *c = (StatsContainer){
                .name = "c\"1",
                .group = { .known = true,
                           .time_us = 1795215872 * SECOND,
                           .started_us = 1795215832 * SECOND,
                           .has_rate = true,
                           .nano_cores = 7,
                           .used = { .cpu_usage_ns = 40002965,
                                     .memory_usage_bytes = 100,
                                     .memory_working_set_bytes = 90,
                                     .memory_limit_bytes = 100 } },
                .rootfs = { .known = true, .used_bytes = 32768, .inodes_used = 10 },
        };
        *v = (StatsVolume){ .name = "data",
                            .claim = "claim",
                            .usage = { .known = true, .capacity_bytes = 10 } };
        *pod = (StatsPod){ .namespace = "default",
                           .name = "p",
                           .uid = "u",
                           .group = { .known = true },
                           .containers = c,
                           .n_containers = 1,
                           .volumes = v,
                           .n_volumes = 1 };
        pod->group.used.memory_pressure =
                (CgroupPressure){ .known = true, .some = { 1.5, 0.25, 0, 12345 } };
        return (StatsReport){ .node_name = "n", .pods = pod, .n_pods = 1 };
}

static void test_summary(void **state)
{
        StatsPod pod;
        StatsContainer c;
        StatsVolume v;
        StatsReport report = literal_report(&pod, &c, &v);
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        stats_write_summary(&report, false, &w);
        assert_non_null(strstr(buf_str(&text),
                               "{\"name\":\"c\\\"1\",\"startTime\":\"2026-11-20T23:03:52Z\","
                               "\"cpu\":{\"time\":\"2026-11-20T23:04:32Z\",\"usageNanoCores\":7,"
                               "\"usageCoreNanoSeconds\":40002965},"
                               "\"memory\":{\"time\":\"2026-11-20T23:04:32Z\","
                               "\"availableBytes\":10,\"usageBytes\":100,\"workingSetBytes\":90,"));
        assert_non_null(strstr(buf_str(&text),
                               "\"psi\":{\"full\":{\"total\":0,\"avg10\":0.00,\"avg60\":0.00,"
                               "\"avg300\":0.00},\"some\":{\"total\":12345,\"avg10\":1.50,"
                               "\"avg60\":0.25,\"avg300\":0.00}}"));
        assert_non_null(strstr(buf_str(&text), "\"name\":\"data\",\"pvcRef\":{\"name\":\"claim\","
                                               "\"namespace\":\"default\"}"));
        assert_null(strstr(buf_str(&text), "\"logs\""));
        assert_null(strstr(buf_str(&text), "\"network\""));

        /* What has no group has not begun, or is over. */
        pod.group.known = false;
        buf_clear(&text);
        w = JSON_WRITER(&text);
        stats_write_summary(&report, true, &w);
        assert_non_null(strstr(buf_str(&text), "\"pods\":[]}"));
}

static void test_cores(void **state)
{
        static const char text[] = "processor\t: 0\nphysical id\t: 0\ncore id\t\t: 0\n\n"
                                   "processor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n\n"
                                   "processor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\n\n"
                                   "processor\t: 3\nphysical id\t: 1\ncore id\t\t: 1\n";
        uint64_t cores, sockets;

        stats_count_cores(text, &cores, &sockets);
        assert_int_equal(cores, 3);
        assert_int_equal(sockets, 2);
        stats_count_cores("processor\t: 0\nBogoMIPS\t: 48.00\n", &cores, &sockets);
        assert_int_equal(cores, 0);
        assert_int_equal(sockets, 0);
}

static void test_devices(void **state)
{
        static const char text[] =
                "21 1 98:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
                "36 21 98:1 / /var/lib rw,noatime master:1 - xfs /dev/vdb rw,attr2\n"
                "37 36 0:9 / /var/lib/kubelet/pods rw - tmpfs none rw\n"
                "38 21 0:9 / /var/libexec rw - tmpfs other rw\n"
                "broken line\n";
        char device[64];

        stats_find_device(text, "/var/lib/kubelet", device, sizeof(device));
        assert_string_equal(device, "/dev/vdb");
        stats_find_device(text, "/srv", device, sizeof(device));
        assert_string_equal(device, "/dev/root");
        stats_find_device("", "/srv", device, sizeof(device));
        assert_string_equal(device, "none");
}

static void test_resource_metrics(void **state)
{
        StatsPod pod;
        StatsContainer c;
        StatsVolume v;
        StatsReport report = literal_report(&pod, &c, &v);
        KL_AUTOBUF text = BUF_INIT;

        stats_write_resource(&report, &text);
        assert_non_null(strstr(
                buf_str(&text),
                "container_cpu_usage_seconds_total{container=\"c\\\"1\",namespace=\"default\","
                "pod=\"p\"} 0.040002965 1795215872000\n"));
        assert_non_null(strstr(buf_str(&text), "\npod_memory_working_set_bytes{namespace="
                                               "\"default\",pod=\"p\"} 0\n"));
        /* The node's group could not be read. */
        assert_non_null(strstr(buf_str(&text), "\nresource_scrape_error 1\n"));
        assert_null(strstr(buf_str(&text), "\nnode_cpu_usage_seconds_total "));
        /* No limit of swap is no number. */
        c.group.used.swap_limit_bytes = CGROUP_STATS_UNLIMITED;
        buf_clear(&text);
        stats_write_resource(&report, &text);
        assert_null(strstr(buf_str(&text), "\ncontainer_swap_limit_bytes{"));
}

static void test_cadvisor_metrics(void **state)
{
        StatsMachine machine = { .boot_id = "b", .machine_id = "m", .cpus = 2, .root_device = "d" };
        StatsInterface eth0 = { .name = "eth0", .rx_bytes = 5 };
        StatsPod pod;
        StatsContainer c;
        StatsVolume v;
        StatsReport report = literal_report(&pod, &c, &v);
        KL_AUTOBUF text = BUF_INIT;

        pod.group_path = "/kubepods/podu";
        pod.network = (StatsNetwork){ .time_us = SECOND, .interfaces = &eth0, .n = 1 };
        c.id = "id";
        c.image = "image:1";
        c.group_path = "/kubepods/podu/id";
        report.node_fs.known = true;
        stats_write_cadvisor(&report, &machine, &text);
        assert_non_null(strstr(buf_str(&text),
                               "container_memory_working_set_bytes{container=\"c\\\"1\",id=\"/"
                               "kubepods/podu/id\",image=\"image:1\",name=\"id\",namespace="
                               "\"default\",pod=\"p\"} 90 1795215872000\n"));
        assert_non_null(strstr(buf_str(&text),
                               "container_network_receive_bytes_total{container=\"\",id=\"/"
                               "kubepods/podu\",image=\"\",name=\"\",namespace=\"default\","
                               "pod=\"p\",interface=\"eth0\"} 5 1000\n"));
        assert_non_null(strstr(buf_str(&text), "\nmachine_cpu_cores{boot_id=\"b\",machine_id="
                                               "\"m\",system_uuid=\"\"} 2\n"));
        /* Only what has a limit has periods of one. */
        assert_null(strstr(buf_str(&text), "container_cpu_cfs_periods_total"));
        assert_non_null(strstr(buf_str(&text), "\ncontainer_scrape_error 1\n"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rates),
                cmocka_unit_test(test_interfaces),
                cmocka_unit_test(test_more_interfaces_than_are_kept),
                cmocka_unit_test(test_summary),
                cmocka_unit_test(test_cores),
                cmocka_unit_test(test_devices),
                cmocka_unit_test(test_resource_metrics),
                cmocka_unit_test(test_cadvisor_metrics),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
