#include "storage/sum.h"

void imv_sum_add_extreme(struct imv_sum *sum, double high, double low) {
    if (!isfinite(sum->high) || !isfinite(high)) {
        *sum = (struct imv_sum){sum->high + high, 0, sum->is_scaled};
        return;
    }
    /* Finite parts at 2^-64 of their size leave the range again only after 2^64 additions. */
    *sum = (struct imv_sum){sum->high / IMV_SUM_SCALE, sum->low / IMV_SUM_SCALE, true};
    imv_sum_add_parts(sum, high / IMV_SUM_SCALE, low / IMV_SUM_SCALE);
}
