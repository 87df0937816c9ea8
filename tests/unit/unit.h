/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_TESTS_UNIT_H
#define KUBELITE_TESTS_UNIT_H

/* cmocka and what its header wants before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#endif
