/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_TESTS_UNIT_H
#define KUBELITE_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Wants the ones above before it. */
#include <cmocka.h>

#endif
