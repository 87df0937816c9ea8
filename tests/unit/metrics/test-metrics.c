/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/str.h"
#include "metrics/metrics.h"

#include <math.h>

static int reset(void **state)
{
        metrics_reset();
        return 0;
}

static void test_the_table_is_whole_and_sorted(void **state)
{
        for (MetricId id = 0; id < METRIC_COUNT; id++) {
                const MetricFamily *f = &metric_families[id];

                assert_non_null(f->name);
                assert_non_null(f->help);
                if (id > 0 && strcmp(metric_families[id - 1].name, f->name) >= 0)
                        fail_msg("%s comes before %s", f->name, metric_families[id - 1].name);
                assert_int_equal(f->type == EXPO_HISTOGRAM, f->buckets != NULL);
                for (size_t i = 0; f->buckets; i++) {
                        assert_true(i < METRIC_BUCKETS_MAX);
                        if (isinf(f->buckets[i]))
                                break;
                        assert_true(f->buckets[i] < f->buckets[i + 1]);
                }
        }
}

static void test_counters_and_gauges(void **state)
{
        KL_AUTOBUF to = BUF_INIT;

        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "start_container");
        metric_add(METRIC_RUNTIME_OPERATIONS, 2, "start_container");
        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "pull_image");
        metric_set(METRIC_RUNNING_PODS, 7);
        metric_set(METRIC_RUNNING_PODS, 5);
        assert_true(metric_value(METRIC_RUNTIME_OPERATIONS, "start_container") == 3);
        assert_true(metric_value(METRIC_RUNTIME_OPERATIONS, "version") == 0);
        metrics_write(METRIC_PAGE_METRICS, &to);
        assert_non_null(strstr(buf_str(&to),
                               "# TYPE kubelet_runtime_operations_total counter\n"
                               "kubelet_runtime_operations_total{operation_type=\"pull_image\"} 1\n"
                               "kubelet_runtime_operations_total{operation_type=\"start_"
                               "container\"} 3\n"));
        assert_non_null(strstr(buf_str(&to), "\nkubelet_running_pods 5\n"));
        /* Nothing happened yet is a figure, a gauge that nobody set is none. */
        assert_non_null(strstr(buf_str(&to), "\nkubelet_started_pods_total 0\n"));
        assert_null(strstr(buf_str(&to), "kubelet_mirror_pods"));
        assert_null(strstr(buf_str(&to), "prober_"));
}

static void test_histograms_cumulate(void **state)
{
        KL_AUTOBUF to = BUF_INIT;

        metric_observe(METRIC_PROBE_DURATION, 0.005, "c", "default", "p", "Liveness");
        metric_observe(METRIC_PROBE_DURATION, 0.006, "c", "default", "p", "Liveness");
        metric_observe(METRIC_PROBE_DURATION, 60, "c", "default", "p", "Liveness");
        metrics_write(METRIC_PAGE_PROBES, &to);
        assert_non_null(strstr(buf_str(&to),
                               "prober_probe_duration_seconds_bucket{container=\"c\",namespace="
                               "\"default\",pod=\"p\",probe_type=\"Liveness\",le=\"0.005\"} 1\n"));
        assert_non_null(strstr(buf_str(&to), "le=\"10\"} 2\n"));
        assert_non_null(strstr(buf_str(&to), "le=\"+Inf\"} 3\n"));
        assert_non_null(strstr(buf_str(&to), "_sum{container=\"c\",namespace=\"default\","
                                             "pod=\"p\",probe_type=\"Liveness\"} 60.011\n"));
        assert_non_null(strstr(buf_str(&to), "probe_type=\"Liveness\"} 3\n"));
        assert_null(strstr(buf_str(&to), "kubelet_"));
}

static void probe(const char *uid, const char *type, const char *result)
{
        metric_add(METRIC_PROBES, 1, "c", "default", "p", uid, type, result);
}

static void test_what_is_gone_is_forgotten(void **state)
{
        probe("u1", "Liveness", "successful");
        probe("u1", "Readiness", "failed");
        probe("u2", "Liveness", "successful");
        /* "u1" as another label's value stays. */
        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "u1");
        metric_forget(METRIC_COUNT, "pod_uid", "u1");
        assert_true(metric_value(METRIC_PROBES, "c", "default", "p", "u1", "Liveness",
                                 "successful") == 0);
        assert_true(metric_value(METRIC_PROBES, "c", "default", "p", "u2", "Liveness",
                                 "successful") == 1);
        assert_true(metric_value(METRIC_RUNTIME_OPERATIONS, "u1") == 1);
        metric_clear(METRIC_PROBES);
        assert_true(metric_value(METRIC_PROBES, "c", "default", "p", "u2", "Liveness",
                                 "successful") == 0);
}

static void test_the_number_of_series_is_bounded(void **state)
{
        for (int i = 0; i < METRIC_SERIES_MAX + 10; i++) {
                char uid[32];

                snprintf(uid, sizeof(uid), "uid-%d", i);
                probe(uid, "Liveness", "successful");
        }
        assert_true(metric_value(METRIC_SERIES_DROPPED) == 10);
        probe("uid-0", "Liveness", "successful");
        assert_true(metric_value(METRIC_SERIES_DROPPED) == 10);
        assert_true(metric_value(METRIC_PROBES, "c", "default", "p", "uid-0", "Liveness",
                                 "successful") == 2);
}

static void test_label_values_are_cut_and_kept_apart(void **state)
{
        char text[METRIC_LABEL_VALUE_MAX * 2 + 1];
        KL_AUTOBUF to = BUF_INIT;

        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        metric_add(METRIC_ADMISSION_REJECTIONS, 1, text);
        metric_add(METRIC_ADMISSION_REJECTIONS, 1, "a\xff");
        metric_add(METRIC_STARTED_CONTAINERS_ERRORS, 1, "", "ErrImagePull");
        metrics_write(METRIC_PAGE_METRICS, &to);
        text[METRIC_LABEL_VALUE_MAX] = '\0';
        assert_true(metric_value(METRIC_ADMISSION_REJECTIONS, text) == 1);
        assert_non_null(strstr(buf_str(&to), "{reason=\"a?\"} 1\n"));
        assert_non_null(strstr(buf_str(&to), "{container_type=\"\",code=\"ErrImagePull\"} 1\n"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_the_table_is_whole_and_sorted),
                cmocka_unit_test_setup(test_counters_and_gauges, reset),
                cmocka_unit_test_setup(test_histograms_cumulate, reset),
                cmocka_unit_test_setup(test_what_is_gone_is_forgotten, reset),
                cmocka_unit_test_setup(test_the_number_of_series_is_bounded, reset),
                cmocka_unit_test_setup_teardown(test_label_values_are_cut_and_kept_apart, reset,
                                                reset),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
