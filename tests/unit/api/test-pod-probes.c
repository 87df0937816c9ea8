/* SPDX-License-Identifier: Apache-2.0 */

/* Decoding of probes and hooks: upstream's defaults, and its rules with a path in every error. */

#include "../pod/pod-literal.h"
#include "../unit.h"
#include "base/str.h"

#define HEAD "metadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 20\n  containers:\n"
#define C "  - {name: c, image: x, ports: [{name: web, containerPort: 8080}], "
#define SIDE "  - {name: c, image: x}\n  initContainers:\n  - {name: i, image: x, "

static const Container *first(const Pod *pod)
{
        return &pod->containers[0];
}

static void test_probe_defaults(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(HEAD C "livenessProbe: {httpGet: {port: web}}}\n");
        const Probe *p = first(pod)->probes[PROBE_LIVENESS];

        assert_null(first(pod)->probes[PROBE_READINESS]);
        assert_null(first(pod)->probes[PROBE_STARTUP]);
        assert_int_equal(p->handler.kind, HANDLER_HTTP);
        assert_int_equal(p->handler.port, 8080);
        assert_string_equal(p->handler.path, "/");
        assert_false(p->handler.https);
        assert_null(p->handler.host);
        assert_int_equal(p->initial_delay_s, 0);
        assert_int_equal(p->timeout_s, 1);
        assert_int_equal(p->period_s, 10);
        assert_int_equal(p->success_threshold, 1);
        assert_int_equal(p->failure_threshold, 3);
        assert_int_equal(p->grace_s, -1);
}

static void test_probe_of_each_kind(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                HEAD C
                "livenessProbe: {exec: {command: [a, b]}, initialDelaySeconds: 1, timeoutSeconds: "
                "2,"
                " periodSeconds: 3, failureThreshold: 4, terminationGracePeriodSeconds: 5},\n"
                "    readinessProbe: {tcpSocket: {port: '81', host: h}, successThreshold: 6},\n"
                "    startupProbe: {grpc: {port: 82, service: s}}}\n");
        const Probe *live = first(pod)->probes[PROBE_LIVENESS],
                    *ready = first(pod)->probes[PROBE_READINESS],
                    *startup = first(pod)->probes[PROBE_STARTUP];

        assert_string_equal(live->handler.command[1], "b");
        assert_int_equal(live->initial_delay_s, 1);
        assert_int_equal(live->timeout_s, 2);
        assert_int_equal(live->period_s, 3);
        assert_int_equal(live->failure_threshold, 4);
        assert_int_equal(live->grace_s, 5);
        assert_int_equal(ready->handler.kind, HANDLER_TCP);
        assert_int_equal(ready->handler.port, 81);
        assert_string_equal(ready->handler.host, "h");
        assert_int_equal(ready->success_threshold, 6);
        assert_int_equal(startup->handler.kind, HANDLER_GRPC);
        assert_int_equal(startup->handler.port, 82);
        assert_string_equal(startup->handler.service, "s");
}

/* Found out when it is used: the API takes such pods. */
static void test_unknown_port_name(void **state)
{
        KL_AUTO(pod_free) Pod *pod =
                pod_literal(HEAD C "livenessProbe: {tcpSocket: {port: other}}}\n");

        assert_int_equal(first(pod)->probes[PROBE_LIVENESS]->handler.port, 0);
        assert_string_equal(first(pod)->probes[PROBE_LIVENESS]->handler.port_name, "other");
}

static void test_hooks(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                HEAD C "lifecycle: {stopSignal: SIGUSR1, preStop: {sleep: {seconds: 0}},\n"
                       "    postStart: {httpGet: {path: x?y, port: 1, scheme: HTTPS, host: h,\n"
                       "      httpHeaders: [{name: A, value: b}, {name: A}]}}}}\n");
        const Lifecycle *l = &first(pod)->lifecycle;

        assert_string_equal(l->stop_signal, "SIGUSR1");
        assert_int_equal(l->pre_stop->kind, HANDLER_SLEEP);
        assert_int_equal(l->pre_stop->sleep_s, 0);
        assert_true(l->post_start->https);
        assert_string_equal(l->post_start->path, "x?y");
        assert_int_equal(l->post_start->n_headers, 2);
        assert_string_equal(l->post_start->headers[0].value, "b");
        assert_string_equal(l->post_start->headers[1].value, "");
}

static void test_sidecar_has_probes(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                HEAD SIDE "restartPolicy: Always, startupProbe: {exec: {command: [x]}}}\n");

        assert_non_null(first(pod)->probes[PROBE_STARTUP]);
}

static void test_errors(void **state)
{
        static const struct {
                const char *yaml, *message;
        } cases[] = {
                { C "livenessProbe: {}}\n",
                  "spec.containers[0].livenessProbe: has no handler: one of exec, httpGet, "
                  "tcpSocket, grpc" },
                { C "livenessProbe: {sleep: {seconds: 1}}}\n",
                  "spec.containers[0].livenessProbe: has no handler: one of exec, httpGet, "
                  "tcpSocket, grpc" },
                { C "livenessProbe: {exec: {command: [x]}, tcpSocket: {port: 1}}}\n",
                  "spec.containers[0].livenessProbe.tcpSocket: there is another handler already" },
                { C "livenessProbe: {exec: {command: []}}}\n",
                  "spec.containers[0].livenessProbe.exec.command: is required" },
                { C "livenessProbe: {exec: {command: x}}}\n",
                  "spec.containers[0].livenessProbe.exec.command: expected a list, got a string" },
                { C "readinessProbe: {tcpSocket: {}}}\n",
                  "spec.containers[0].readinessProbe.tcpSocket.port: is required" },
                { C "readinessProbe: {tcpSocket: {port: 65536}}}\n",
                  "spec.containers[0].readinessProbe.tcpSocket.port: '65536' is neither a port "
                  "number nor the name of one" },
                { C "readinessProbe: {httpGet: {port: 0}}}\n",
                  "spec.containers[0].readinessProbe.httpGet.port: '0' is neither a port number "
                  "nor the name of one" },
                { C "readinessProbe: {httpGet: {port: 'a--b'}}}\n",
                  "spec.containers[0].readinessProbe.httpGet.port: 'a--b' is neither a port number "
                  "nor the name of one" },
                { C "readinessProbe: {httpGet: {port: 1, scheme: ftp}}}\n",
                  "spec.containers[0].readinessProbe.httpGet.scheme: 'ftp' is none of HTTP, "
                  "HTTPS" },
                { C
                  "readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a b', value: x}]}}}\n",
                  "spec.containers[0].readinessProbe.httpGet.httpHeaders[0].name: 'a b' is no name "
                  "of an HTTP header" },
                { C "readinessProbe: {grpc: {port: x}}}\n",
                  "spec.containers[0].readinessProbe.grpc.port: expected an integer, got a "
                  "string" },
                { C "readinessProbe: {tcpSocket: {port: 1}, periodSeconds: -1}}\n",
                  "spec.containers[0].readinessProbe.periodSeconds: -1 is not in 0-2147483647" },
                { C "readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 3}}\n",
                  "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: must not be "
                  "set "
                  "for readinessProbes" },
                { C "startupProbe: {tcpSocket: {port: 1}, successThreshold: 2}}\n",
                  "spec.containers[0].startupProbe.successThreshold: must be 1" },
                { SIDE "livenessProbe: {tcpSocket: {port: 1}}}\n",
                  "spec.initContainers[0].livenessProbe: may not be set for init containers "
                  "without "
                  "restartPolicy=Always" },
                { SIDE "lifecycle: {preStop: {sleep: {seconds: 1}}}}\n",
                  "spec.initContainers[0].lifecycle: may not be set for init containers without "
                  "restartPolicy=Always" },
                { C "lifecycle: {preStop: {sleep: {seconds: 21}}}}\n",
                  "spec.containers[0].lifecycle.preStop.sleep.seconds: must be non-negative and "
                  "less "
                  "than terminationGracePeriodSeconds (20)" },
                { C "lifecycle: {preStop: {grpc: {port: 1}}}}\n",
                  "spec.containers[0].lifecycle.preStop: has no handler: one of exec, httpGet, "
                  "tcpSocket, sleep" },
                { C "lifecycle: {stopSignal: SIGNOPE}}\n",
                  "spec.containers[0].lifecycle.stopSignal: 'SIGNOPE' is no signal" },
                { C "lifecycle: {stopSignal: TERM}}\n",
                  "spec.containers[0].lifecycle.stopSignal: 'TERM' is no signal" },
                { "  - {name: c, image: x}\n  ephemeralContainers: [{name: e, image: x, "
                  "startupProbe: {exec: {command: [x]}}}]\n",
                  "spec.ephemeralContainers[0].startupProbe: cannot be set for an ephemeral "
                  "container" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *yaml = str_format(HEAD "%s", cases[i].yaml);
                KL_AUTO(value_free) Value *v = NULL;
                KL_AUTOERR err = NULL;
                Pod *pod = NULL;

                assert_int_equal(yaml_read(yaml, strlen(yaml), &v, NULL), 0);
                assert_true(pod_decode(v, &pod, &err) < 0);
                assert_string_equal(kl_error_msg(err), cases[i].message);
        }
}

static void test_signals(void **state)
{
        static const char *const names[] = { "SIGTERM", "SIGIOT", "SIGRTMIN", "SIGRTMIN+15",
                                             "SIGRTMAX-1" };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                KL_AUTOFREE char *yaml =
                        str_format(HEAD C "lifecycle: {stopSignal: %s}}\n", names[i]);
                KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);

                assert_string_equal(first(pod)->lifecycle.stop_signal, names[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_probe_defaults),
                cmocka_unit_test(test_probe_of_each_kind),
                cmocka_unit_test(test_unknown_port_name),
                cmocka_unit_test(test_hooks),
                cmocka_unit_test(test_sidecar_has_probes),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_signals),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
