/* Functions of numbers. */
#include "query/exec.h"
#include "query/fn/families.h"
#include "query/operate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static imv_status number_argument(struct imv_call *call, const struct imv_value *argument, double *number) {
    if (!imv_value_is_number(argument)) return imv_call_fail_argument(call, "a number", argument);
    *number = imv_value_to_float(argument);
    return IMV_OK;
}

/* The functions from a double to a double. */
#define FLOAT_FUNCTION(c_name, expression)                                                             \
    imv_status imv_fn_##c_name(struct imv_call *call, const struct imv_value *arguments, size_t count, \
                               struct imv_value *result) {                                             \
        (void)count;                                                                                   \
        double x = 0;                                                                                  \
        IMV_TRY(number_argument(call, arguments, &x));                                                 \
        *result = imv_value_float(expression);                                                         \
        return IMV_OK;                                                                                 \
    }
FLOAT_FUNCTION(ceil, ceil(x))
FLOAT_FUNCTION(floor, floor(x))
FLOAT_FUNCTION(sqrt, sqrt(x))
FLOAT_FUNCTION(exp, exp(x))
FLOAT_FUNCTION(log, log(x))
FLOAT_FUNCTION(log10, log10(x))
FLOAT_FUNCTION(sin, sin(x))
FLOAT_FUNCTION(cos, cos(x))
FLOAT_FUNCTION(tan, tan(x))
FLOAT_FUNCTION(cot, 1 / tan(x))
FLOAT_FUNCTION(asin, asin(x))
FLOAT_FUNCTION(acos, acos(x))
FLOAT_FUNCTION(atan, atan(x))
FLOAT_FUNCTION(degrees, x *(180 / M_PI))
FLOAT_FUNCTION(radians, x *(M_PI / 180))
FLOAT_FUNCTION(haversin, (1 - cos(x)) / 2)

imv_status imv_fn_atan2(struct imv_call *call, const struct imv_value *arguments, size_t count,
                        struct imv_value *result) {
    (void)count;
    double y = 0, x = 0;
    IMV_TRY(number_argument(call, &arguments[0], &y));
    IMV_TRY(number_argument(call, &arguments[1], &x));
    *result = imv_value_float(atan2(y, x));
    return IMV_OK;
}

imv_status imv_fn_abs(struct imv_call *call, const struct imv_value *arguments, size_t count,
                      struct imv_value *result) {
    (void)count;
    bool integer = arguments->kind == IMV_VALUE_INTEGER || arguments->kind == IMV_VALUE_DURATION;
    if (!integer && !imv_value_is_number(arguments)) return imv_call_fail_argument(call, "a number", arguments);
    *result = *arguments;
    if (arguments->kind == IMV_VALUE_FLOAT) result->number = fabs(arguments->number);
    if (integer && arguments->integer < 0) return imv_operate_unary(call, IMV_UNARY_MINUS, arguments, result);
    return IMV_OK;
}

imv_status imv_fn_sign(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)count;
    double x = 0;
    IMV_TRY(number_argument(call, arguments, &x));
    *result = imv_value_integer((x > 0) - (x < 0));
    return IMV_OK;
}

/* Through decimal text, which rounds exactly what the number is; scaling would round twice. Text rounds halves to even,
 * so a half is moved away from 0 first. It is one when its decimals end in a 5, and there are no more of them: a number
 * with so many binary places has no more decimal ones. */
static double round_to(double x, int decimals) {
    char text[700];
    if (!isfinite(x)) return x;
    double scaled = ldexp(x, decimals + 1);
    int size = snprintf(text, sizeof text, "%.*f", decimals + 1, x);
    if (scaled == floor(scaled) && text[size - 1] == '5') x = nextafter(x, x < 0 ? -INFINITY : INFINITY);
    snprintf(text, sizeof text, "%.*f", decimals, x);
    return strtod(text, NULL);
}

/* To the nearest, halves upwards, as openCypher has it; with a precision, to that many decimals, halves away from 0. */
imv_status imv_fn_round(struct imv_call *call, const struct imv_value *arguments, size_t count,
                        struct imv_value *result) {
    double x = 0;
    IMV_TRY(number_argument(call, arguments, &x));
    if (count == 1) {
        double down = floor(x);
        *result = imv_value_float(x - down >= 0.5 ? down + 1 : down);
        return IMV_OK;
    }
    if (arguments[1].kind != IMV_VALUE_INTEGER) return imv_call_fail_argument(call, "an integer", &arguments[1]);
    if (arguments[1].integer < 0 || arguments[1].integer > 300)
        return imv_call_fail(call, "ArgumentError", "NumberOutOfRange", "round needs a precision between 0 and 300");
    *result = imv_value_float(round_to(x, (int)arguments[1].integer));
    return IMV_OK;
}

imv_status imv_fn_is_nan(struct imv_call *call, const struct imv_value *arguments, size_t count,
                         struct imv_value *result) {
    (void)count;
    double x = 0;
    IMV_TRY(number_argument(call, arguments, &x));
    *result = imv_value_boolean(isnan(x));
    return IMV_OK;
}

imv_status imv_fn_pi(struct imv_call *call, const struct imv_value *arguments, size_t count, struct imv_value *result) {
    (void)call, (void)arguments, (void)count;
    *result = imv_value_float(M_PI);
    return IMV_OK;
}

imv_status imv_fn_e(struct imv_call *call, const struct imv_value *arguments, size_t count, struct imv_value *result) {
    (void)call, (void)arguments, (void)count;
    *result = imv_value_float(M_E);
    return IMV_OK;
}

/* From the statement's own generator: 0 <= rand() < 1. */
imv_status imv_fn_rand(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)arguments, (void)count;
    *result = imv_value_float((double)(imv_prng_next(&call->exec->prng) >> 11) * 0x1p-53);
    return IMV_OK;
}
